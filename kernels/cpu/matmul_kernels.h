// The kernels behind Matmul, one table for each instruction set, and the layout of converted rows.
// Included by files compiled for one instruction set: nothing here may become a function that the linker shares.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

namespace samba {

// kInt8: rows in groups (row_group), the last group may have fewer; a group of n rows is a sequence of blocks of 32
// columns, each of n * kActBlockBytes bytes:
//   int8 q[n][32];           in -127 … 127
//   float scale[n];          x = scale * q
//   float scaled_sum[n];     scale * sum of q
//   int32_t neg_sum[n];      - sum of q
//   int32_t neg_half[2][n];  - sums of the first and the second 16
// kBf16: uint16_t, in groups of Bf16Kernels::group rows: a group of n rows is (n, cols), packed; for AMX (cols / 32
// rounded up, n, 32), filled up with zeros.
inline constexpr int64_t kActBlockBytes = 32 + 5 * 4;
inline constexpr int64_t kTileSlack = 1024;  // bytes after converted rows that may be read: AMX takes 16 rows at once

// Some rows of one part of a weight, times all rows of activations.
struct ProductArgs {
    DType type = DType::kF32;
    const char* w = nullptr;
    int64_t w_stride = 0;  // bytes from row to row
    int64_t n_out = 0, cols = 0;
    const float* x = nullptr;  // kF32
    int64_t x_stride = 0;
    const void* converted = nullptr;  // kBf16, kInt8
    int64_t n_rows = 0, group = 1;    // group: rows of a group of converted rows
    float* y = nullptr;               // (n_rows, n_out)
    int64_t y_stride = 0;
    const float* bias = nullptr;  // (n_out) or null
    bool add = false;
    bool in_file_order = false;  // asks_in_file_order()
    std::byte* panel = nullptr;  // work memory for repacked weights, 64-byte aligned
    size_t panel_bytes = 0;
};

struct MatmulKernels {
    // One group of n rows.
    void (*quantize)(const float* x, int64_t stride, int n, int64_t cols, std::byte* group);
    void (*f32_product)(const ProductArgs&);
    void (*int8_product)(const ProductArgs&);
};

struct Bf16Kernels {
    // One group of n rows.
    void (*convert)(const float* x, int64_t stride, int n, int64_t cols, std::byte* group);
    void (*product)(const ProductArgs&);  // null: this set has no bf16 products
    int64_t group;                        // rows of a group
    int64_t pad;                          // columns of a converted row are filled up to a multiple of this
    bool quantised;                       // takes quantised weights too, from some 32 rows on faster than int8_product
};

const MatmulKernels& matmul_kernels(Isa isa);
const Bf16Kernels& bf16_kernels(Isa isa);
extern const MatmulKernels kPortableKernels;
#if defined(__x86_64__)
extern const MatmulKernels kAvx2Kernels, kAvx512Kernels;
extern const Bf16Kernels kAvx512Bf16, kAmxBf16;
#endif

}  // namespace samba
