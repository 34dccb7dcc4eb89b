// What byte-level BPE needs to know of Unicode: the classes of its pattern, and normalisation form C.
#pragma once
#include <string>
#include <string_view>

namespace samba {

enum class CharClass : unsigned char { kOther, kLetter, kNumber, kSpace };  // the rest, \p{L}, \p{N}, \s
CharClass char_class(char32_t c);

// Normalisation form C (UAX 15). Invalid bytes stay as they are.
std::string nfc(std::string_view text);
// True when normalising may begin anew at the character: it stays, and joins nothing that stands before it.
bool nfc_boundary(char32_t c);

}  // namespace samba
