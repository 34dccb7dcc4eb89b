// GPT-2's alphabet: byte-level BPE writes its pieces in 256 printable characters, one a byte ("Ġ" is the space).
#pragma once
#include <string>
#include <string_view>

namespace samba {

// The character of a byte.
char32_t alphabet_character(unsigned char byte);
// The bytes that a piece stands for; a piece with other characters stands for itself.
std::string bytes_of_alphabet(std::string_view piece);

}  // namespace samba
