// config.json and tokenizer_config.json for the way back to Hugging Face.
#pragma once
#include <string>
#include <vector>

#include "models/model_file.h"

namespace samba {

struct ExportConfig {
    std::string model_type;  // "samba", or "mamba" where there is neither attention nor MLP
    std::string json;        // config.json
};

// `type`: of the matrices, for torch_dtype. Throws UsageError where flash-linear-attention has no such model: blocks
// without mixer, partial rotation, …
ExportConfig export_config(const ModelFile& file, DType type, std::vector<std::string>& notes);

std::string export_tokenizer_config(const ModelFile& file, const std::string& jinja);

// generation_config.json, where more than one token ends a text; else empty.
std::string export_generation_config(const TokenizerData& tokenizer);

// The MLP width a directory can hold: the true one if it is a multiple of 256, else the padded.
int64_t export_width(const BlockConfig& block);

}  // namespace samba
