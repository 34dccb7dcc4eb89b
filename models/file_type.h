// The types of a whole file, as --type names them: which type each tensor of a file takes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/dtype.h"

namespace samba {

struct FileType {
    const char* name;  // "bf16", "q4_k_m": what --type takes
    uint32_t id;       // general.file_type: the ecosystem's number for it
    DType base;        // of most of its matrices
    bool mix;          // some matrices take the types of the mix's table
};

// Case does not matter. Throws UsageError listing the known names.
const FileType& file_type(std::string_view name);
// The name of a general.file_type, as people know it ("BF16", "q4_k_m"); empty for an unknown number.
std::string file_type_name(uint32_t id);

// The type of a matrix (GGUF name, row length) in a file of that type; `source` is the type it has now, which ssm_dt
// keeps in a quantised file. Rows that are not whole blocks take Q8_0 if they are multiples of 32, else BF16.
// Tensors that are F32 always (TensorSpec::f32_always) are not asked for here.
DType tensor_type(const FileType& file, std::string_view name, int64_t cols, DType source);

}  // namespace samba
