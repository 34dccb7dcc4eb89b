// Bytes as text, whole and in pieces: the same text, valid UTF-8, the same ids, and the bytes back from the ids. The
// first byte of the input is the size of the pieces.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "engine/byte_alphabet.h"
#include "engine/text_stream.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"
#include "kernels/error.h"

namespace {

// Byte-level BPE over the 256 bytes and a few merges, with NFC: nothing in it but our own code.
samba::Tokenizer make_tokenizer() {
    samba::TokenizerData data;
    data.kind = "gpt2";
    data.pre = "gpt-neox";
    data.add_space_prefix = false;
    for (int byte = 0; byte < 256; ++byte) {
        samba::append_utf8(data.tokens.emplace_back(), samba::alphabet_character(static_cast<unsigned char>(byte)));
    }
    for (const char* pair : {"a b", "Ġ a", "ab ab", "ä ¸", "' s", "Ġ Ġ"}) {
        std::string merge = pair;
        data.merges.push_back(merge);
        data.tokens.push_back(merge.erase(merge.find(' '), 1));
    }
    return {data, static_cast<int64_t>(data.tokens.size()), {}};
}

void check(bool right) {
    if (!right) std::abort();
}

template <class Take>
void in_pieces(std::string_view bytes, size_t piece, Take take) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) take(bytes.substr(0, piece));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const samba::Tokenizer tokenizer = make_tokenizer();
    if (size == 0) return 0;
    size_t piece = 1 + data[0];
    std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);

    std::string text, arrived;
    try {
        text = samba::clean_text(bytes);
        samba::InputText input;
        in_pieces(bytes, piece, [&](std::string_view part) { arrived += input.push(part); });
        arrived += input.finish();
    } catch (const samba::FileError&) {  // UTF-16
    }
    check(text == arrived);
    check(samba::to_valid_utf8(text) == text);

    for (std::string_view source : {std::string_view(text), bytes}) {
        std::vector<int32_t> ids = tokenizer.encode(source), streamed;
        samba::StreamEncoder encoder(tokenizer);
        in_pieces(source, piece, [&](std::string_view part) { encoder.push(part, streamed); });
        encoder.finish(streamed);
        check(ids == streamed);
        samba::TextStream shown(tokenizer, false);
        std::string back;
        for (int32_t id : ids) back += shown.push(id);
        back += shown.finish();
        check(back == tokenizer.decode(ids));
        check(tokenizer.encode(back) == ids);  // normal form C is its own
    }
    return 0;
}
