// The table by which a sentencepiece normaliser replaces characters. The library follows it without looking, so a table
// out of an untrusted file is checked before.
#pragma once
#include <string>
#include <string_view>

namespace samba {

// NormalizerSpec.precompiled_charsmap: u32 size of the trie, the trie (a double array of u32 units), then the texts
// that replace, each ended by a NUL. Throws FileError naming `where` unless every step that a text can cause stays
// inside.
void check_charsmap(std::string_view table, const std::string& where);

}  // namespace samba
