#include "engine/byte_alphabet.h"

#include <array>

#include "engine/utf8.h"

namespace samba {

namespace {

// Printable Latin-1 stands for itself; the other 68 bytes are U+0100 … U+0143 in their order.
bool is_printable(int byte) { return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD); }

struct Alphabet {
    std::array<char32_t, 256> character;
    std::array<int, 0x144> byte;  // -1: no such character

    Alphabet() {
        byte.fill(-1);
        char32_t next = 0x100;
        for (int b = 0; b < 256; ++b) {
            char32_t c = is_printable(b) ? static_cast<char32_t>(b) : next++;
            character[static_cast<size_t>(b)] = c;
            byte[c] = b;
        }
    }
};

const Alphabet kAlphabet;

}  // namespace

char32_t alphabet_character(unsigned char byte) { return kAlphabet.character[byte]; }

std::string bytes_of_alphabet(std::string_view piece) {
    std::string bytes;
    for (std::string_view rest = piece; !rest.empty();) {
        Utf8Char c = decode_utf8(rest);
        int byte = c.code < kAlphabet.byte.size() ? kAlphabet.byte[c.code] : -1;
        if (byte < 0) return std::string(piece);
        bytes.push_back(static_cast<char>(byte));
        rest.remove_prefix(static_cast<size_t>(c.length));
    }
    return bytes;
}

}  // namespace samba
