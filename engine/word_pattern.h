// How byte-level BPE splits text into words: the regular expressions of GPT-2 and of Llama 3, by hand.
#pragma once
#include <cstddef>
#include <string_view>

namespace samba {

enum class WordPattern {
    // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    kGpt2,
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
    // ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
    kLlama3,
};

// The bytes of the first word of a text that is not empty.
size_t first_word(std::string_view text, WordPattern pattern = WordPattern::kGpt2);

// True when a word ends between the characters a|b whatever stands around them.
bool words_part(char32_t a, char32_t b, WordPattern pattern);

}  // namespace samba
