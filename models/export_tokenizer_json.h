// A byte-level BPE tokenizer as Hugging Face's tokenizer.json: the way back of models/tokenizer_json.h.
#pragma once
#include <string>

#include "models/model_file.h"

namespace samba {

// Of a tokenizer of kind "gpt2". It has the same ids; layout and what does not change ids (the ways of truncation and
// padding, where offsets lie) are not those of the file that was converted.
std::string export_tokenizer_json(const TokenizerData& tokenizer);

}  // namespace samba
