// What a checkpoint becomes: the config, and for each tensor of the GGUF file where its rows come from. Made by one
// function for each family of names (huggingface.h), carried out by convert.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "models/config.h"

namespace samba {

struct RowRange {
    int64_t first = 0, count = 0;
};

struct TensorPlan {
    std::string name;            // GGUF name
    int64_t rows = 0, cols = 0;  // as written; beyond the source's rows and columns: zeros
    bool f32_always = false;
    const CheckpointTensor* source = nullptr;
    std::vector<RowRange> ranges;  // rows of the source, one below the other
    bool negative_exp = false;     // A = -exp(A_log)
};

struct CheckpointPlan {
    std::string kind;  // "flash-linear-attention samba", …
    Config config;
    std::vector<TensorPlan> tensors;  // in the order of the file
    int64_t n_parameters = 0;         // of the checkpoint
    std::optional<int64_t> bos;       // what the checkpoint's config says of special tokens
    std::vector<int64_t> eos;
    std::vector<std::string> notes;
};

// MLP widths are padded to whole blocks of every type.
inline int64_t padded_width(int64_t d_ff) { return (d_ff + 255) / 256 * 256; }

}  // namespace samba
