// Hugging Face's tokenizer.json, as far as byte-level BPE needs it: GPT-2's and GPT-NeoX's kind.
#pragma once
#include <string>
#include <string_view>

#include "models/model_file.h"

namespace samba {

// Pieces, types, merges and rules: kind "gpt2"; pre "gpt-2", or "gpt-neox" where text is normalised to NFC. Special
// added tokens become CONTROL and are listed in added_ids; others USER_DEFINED: text gives them, as it does there. bos
// is set where the post-processor adds one; eos is not said in such a file. What would make other ids than these rules
// is refused. Throws FileError naming `where`.
TokenizerData read_tokenizer_json(std::string_view text, const std::string& where);

}  // namespace samba
