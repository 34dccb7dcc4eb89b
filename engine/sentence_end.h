// Where the sentence at the start of a text ends (engine/sentences.h has the rules).
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace samba {

bool is_white_space(char32_t c);

struct SentenceEnd {
    size_t length = 0;     // bytes of the sentence
    bool ended = false;    // by an end mark
    bool heading = false;  // it stands on a line of its own: what follows is a new paragraph
};

// `text` begins with no white space, and on a new line if `begins_line`. None: more text is needed to tell; never when
// `last` says that no more comes.
std::optional<SentenceEnd> find_sentence_end(std::string_view text, bool begins_line, bool last);

}  // namespace samba
