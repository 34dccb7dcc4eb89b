// UTF-8 one character at a time, with the one rule for broken text: a byte that begins no valid character stands alone.
#pragma once
#include <string>
#include <string_view>

namespace samba {

inline constexpr char32_t kReplacement = 0xFFFD;  // what an invalid byte becomes
inline constexpr char32_t kSpaceMark = 0x2581;    // "▁", sentencepiece's space
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";
inline constexpr std::string_view kSpaceMarkUtf8 = "\xE2\x96\x81";

struct Utf8Char {
    enum Kind { kValid, kInvalid, kCut } kind;  // kCut: the text ends inside a character that is valid so far
    char32_t code;                              // kReplacement unless kValid
    int length;                                 // bytes; 1 if invalid, what is there if cut
};

// The character at the start of a text that is not empty. No surrogates, nothing over-long, nothing above U+10FFFF.
Utf8Char decode_utf8(std::string_view text);

void append_utf8(std::string& text, char32_t code);

}  // namespace samba
