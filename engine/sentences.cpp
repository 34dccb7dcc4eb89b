#include "engine/sentences.h"

#include <algorithm>
#include <optional>

#include "engine/sentence_end.h"
#include "engine/utf8.h"

namespace samba {

// The white space at the start of `text`; counts its line ends.
size_t SentenceSplitter::skip_space(std::string_view text, bool last) {
    size_t n = 0;
    while (n < text.size()) {
        Utf8Char c = decode_utf8(text.substr(n));
        if ((c.kind == Utf8Char::kCut && !last) || !is_white_space(c.code)) break;
        if (c.code == '\n') state_.newlines = std::min(state_.newlines + 1, 2);
        n += static_cast<size_t>(c.length);
    }
    return n;
}

void SentenceSplitter::scan(bool last, const Take& take) {
    std::string_view text = state_.held;
    uint64_t offset = state_.offset;
    for (;;) {
        size_t space = skip_space(text, last);
        text.remove_prefix(space);
        offset += space;
        if (text.empty()) break;
        std::optional<SentenceEnd> end = find_sentence_end(text, state_.newlines > 0, last);
        if (!end) break;
        take({std::string(text.substr(0, end->length)), offset, end->ended, state_.newlines > 1});
        text.remove_prefix(end->length);
        offset += end->length;
        state_.newlines = end->heading ? 1 : 0;  // with the heading's own line end: a new paragraph
    }
    state_.held = std::string(text);
    state_.offset = offset;
}

void SentenceSplitter::push(std::string_view bytes, const Take& take) {
    state_.held += bytes;
    scan(false, take);
}

void SentenceSplitter::finish(const Take& take) { scan(true, take); }

}  // namespace samba
