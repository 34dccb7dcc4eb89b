#include "engine/utf8.h"

namespace samba {

Utf8Char decode_utf8(std::string_view text) {
    auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    constexpr Utf8Char invalid{Utf8Char::kInvalid, kReplacement, 1};
    unsigned char first = byte(0);
    if (first < 0x80) return {Utf8Char::kValid, first, 1};
    if (first < 0xC2 || first > 0xF4) return invalid;
    int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    // The second byte alone decides about over-long forms, surrogates and what lies above U+10FFFF.
    unsigned char least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    char32_t code = first & (0x7F >> length);
    for (int i = 1; i < length; ++i) {
        if (static_cast<size_t>(i) == text.size()) return {Utf8Char::kCut, kReplacement, i};
        unsigned char c = byte(static_cast<size_t>(i));
        if (c < least || c > most) return invalid;
        least = 0x80;
        most = 0xBF;
        code = code << 6 | (c & 0x3F);
    }
    return {Utf8Char::kValid, code, length};
}

void append_utf8(std::string& text, char32_t code) {
    auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | code >> 6);
        put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(0xE0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    } else {
        put(0xF0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3F));
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    }
}

}  // namespace samba
