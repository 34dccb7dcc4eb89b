// Hugging Face's tokenizer.json, as far as byte-level BPE needs it: GPT-2's, GPT-NeoX's and Llama 3's kind.
#pragma once
#include <string>
#include <string_view>

#include "models/model_file.h"

namespace samba {

// How Llama 3 splits text, as its tokenizer.json says it; engine/word_pattern.cpp does it by hand.
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Pieces, types, merges and rules: kind "gpt2"; pre "gpt-2", "gpt-neox" where text is normalised to NFC, or "llama-bpe"
// with Llama 3's pattern and whole words of the vocabulary before merges. Special
// added tokens become CONTROL and are listed in added_ids; others USER_DEFINED: text gives them, as it does there. bos
// is set where the post-processor adds one; eos is not said in such a file. What would make other ids than these rules
// is refused. Throws FileError naming `where`.
TokenizerData read_tokenizer_json(std::string_view text, const std::string& where);

}  // namespace samba
