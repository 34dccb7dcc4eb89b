// The block formats of quantised weights (GGUF's layouts, docs/file-format.md) and their reference conversions.
// Blocks in a file are only 2-byte aligned. Everything here is portable and exact: the meaning of a file.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace samba {

#pragma pack(push, 1)
struct BlockQ8_0 {  // 32 values: d * q
    uint16_t d;     // f16
    int8_t q[32];
};
struct BlockQ4_0 {  // 32 values: d * (nibble - 8); low nibble of q[j] is value j, high is value j + 16
    uint16_t d;
    uint8_t q[16];
};
struct BlockQ4_K {  // 256 values in 8 sub-blocks of 32: d * scale * nibble - dmin * min
    uint16_t d, dmin;
    uint8_t scales[12];  // eight 6-bit scales and mins, see unpack_scales
    uint8_t q[128];      // bytes 32k..32k+31: sub-block 2k in the low nibbles, 2k+1 in the high
};
struct BlockQ5_K {  // as Q4_K with a fifth bit: bit s of qh[l] belongs to element l of sub-block s
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t q[128];
};
struct BlockQ6_K {  // 256 values in 16 sub-blocks of 16: d * scale * (six bits - 32)
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};
#pragma pack(pop)
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_K) == 144 &&
              sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

inline float bf16_to_f32(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

// Round to nearest even; NaN stays NaN.
inline uint16_t f32_to_bf16(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 64);
    return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);  // round to nearest even

// The 6-bit scale and min of sub-block j (0..7) of a Q4_K or Q5_K block.
inline void unpack_scale(const uint8_t* s, int j, uint8_t& scale, uint8_t& min) {
    if (j < 4) {
        scale = s[j] & 63;
        min = s[j + 4] & 63;
    } else {
        scale = static_cast<uint8_t>((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4));
        min = static_cast<uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
    }
}

// row[n] values of `type` at src (any alignment) -> f32; n a multiple of the type's block.
void dequantize_row(DType type, const void* src, float* row, int64_t n);

// f32 row[n] -> values of `type` at dst. For the K types the scales are searched to minimise the squared error,
// weighted by `importance` (n values) when it is not null.
void quantize_row(DType type, const float* row, void* dst, int64_t n, const float* importance = nullptr);

}  // namespace samba
