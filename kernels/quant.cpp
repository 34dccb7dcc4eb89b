#include "kernels/quant.h"

#include <algorithm>
#include <cmath>

#include "kernels/quant_search.h"

namespace samba {

float f16_to_f32(uint16_t h) {
    uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact
        float value = static_cast<float>(mantissa) * 0x1p-24f;
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
    }
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t f32_to_f16(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    auto sign = static_cast<uint16_t>(u >> 16 & 0x8000u);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (u >> 13 & 0x3ffu));  // NaN
    if (u >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // from 65520 on: rounds to infinity
    if (u < 0x33000001u) return sign;                                    // up to 2^-25: rounds to zero
    uint32_t exponent = u >> 23, mantissa = (u & 0x7fffffu) | 0x800000u;
    // Bits to drop: 13 of a normal number, more of one that becomes subnormal (below 2^-14).
    uint32_t drop = exponent >= 113 ? 13 : 126 - exponent;
    uint32_t kept = mantissa >> drop, rest = mantissa & ((1u << drop) - 1), half = 1u << (drop - 1);
    kept += rest > half || (rest == half && (kept & 1)) ? 1 : 0;
    // A normal number's hidden bit adds one to the exponent; a carry moves into it as it should.
    uint32_t bits = exponent >= 113 ? ((exponent - 113) << 10) + kept : kept;
    return static_cast<uint16_t>(sign | bits);
}

namespace {

template <class Block>
Block load_block(const void* src, int64_t i) {
    Block b;
    std::memcpy(&b, static_cast<const char*>(src) + i * static_cast<int64_t>(sizeof b), sizeof b);
    return b;
}

uint16_t load_u16(const void* src, int64_t i) {
    uint16_t v;
    std::memcpy(&v, static_cast<const char*>(src) + 2 * i, 2);
    return v;
}

void dequantize(const BlockQ8_0& b, float* y) {
    float d = f16_to_f32(b.d);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(b.q[i]);
}

void dequantize(const BlockQ4_0& b, float* y) {
    float d = f16_to_f32(b.d);
    for (int i = 0; i < 16; ++i) {
        y[i] = d * static_cast<float>((b.q[i] & 15) - 8);
        y[i + 16] = d * static_cast<float>((b.q[i] >> 4) - 8);
    }
}

void dequantize(const BlockQ4_K& b, float* y) {
    float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int j = 0; j < 8; ++j) {
        uint8_t sc, m;
        unpack_scale(b.scales, j, sc, m);
        float scale = d * static_cast<float>(sc), min = dmin * static_cast<float>(m);
        const uint8_t* q = b.q + 32 * (j / 2);
        int shift = 4 * (j & 1);
        for (int i = 0; i < 32; ++i) y[32 * j + i] = scale * static_cast<float>(q[i] >> shift & 15) - min;
    }
}

void dequantize(const BlockQ5_K& b, float* y) {
    float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int j = 0; j < 8; ++j) {
        uint8_t sc, m;
        unpack_scale(b.scales, j, sc, m);
        float scale = d * static_cast<float>(sc), min = dmin * static_cast<float>(m);
        const uint8_t* q = b.q + 32 * (j / 2);
        int shift = 4 * (j & 1);
        for (int i = 0; i < 32; ++i) {
            int v = (q[i] >> shift & 15) | (b.qh[i] >> j & 1) << 4;
            y[32 * j + i] = scale * static_cast<float>(v) - min;
        }
    }
}

void dequantize(const BlockQ6_K& b, float* y) {
    float d = f16_to_f32(b.d);
    for (int half = 0; half < 2; ++half) {
        const uint8_t* ql = b.ql + 64 * half;
        const uint8_t* qh = b.qh + 32 * half;
        const int8_t* sc = b.scales + 8 * half;
        for (int part = 0; part < 4; ++part) {  // 32 values each
            const uint8_t* low = ql + 32 * (part & 1);
            int low_shift = 4 * (part >> 1), high_shift = 2 * part;
            for (int i = 0; i < 32; ++i) {
                int q = (low[i] >> low_shift & 15) | (qh[i] >> high_shift & 3) << 4;
                float scale = d * static_cast<float>(sc[2 * part + i / 16]);
                y[128 * half + 32 * part + i] = scale * static_cast<float>(q - 32);
            }
        }
    }
}

template <class Block>
void dequantize_blocks(const void* src, float* row, int64_t n, int block_values) {
    for (int64_t i = 0; i < n / block_values; ++i) dequantize(load_block<Block>(src, i), row + i * block_values);
}

// x = d q, d = max|x| / 127. Values that a Q8_0 block held come back as the same block.
void quantize(const float* x, const float*, BlockQ8_0& b) {
    float amax = 0;
    for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(x[i]));
    b.d = f32_to_f16(std::min(amax / 127.0f, 65504.0f));
    float d = f16_to_f32(b.d);
    for (int i = 0; i < 32; ++i) {
        float q = d > 0 ? std::nearbyint(x[i] / d) : 0.0f;
        b.q[i] = static_cast<int8_t>(std::clamp(q, -127.0f, 127.0f));
    }
}

template <class Block>
void quantize_blocks(const float* row, const float* importance, void* dst, int64_t n, int block_values) {
    for (int64_t i = 0; i < n / block_values; ++i) {
        Block b;
        quantize(row + i * block_values, importance ? importance + i * block_values : nullptr, b);
        std::memcpy(static_cast<char*>(dst) + i * static_cast<int64_t>(sizeof b), &b, sizeof b);
    }
}

void store_u16(void* dst, int64_t i, uint16_t v) { std::memcpy(static_cast<char*>(dst) + 2 * i, &v, 2); }

}  // namespace

void dequantize_row(DType type, const void* src, float* row, int64_t n) {
    switch (type) {
        case DType::kF32:
            std::memcpy(row, src, static_cast<size_t>(n) * 4);
            break;
        case DType::kF16:
            for (int64_t i = 0; i < n; ++i) row[i] = f16_to_f32(load_u16(src, i));
            break;
        case DType::kBF16:
            for (int64_t i = 0; i < n; ++i) row[i] = bf16_to_f32(load_u16(src, i));
            break;
        case DType::kQ8_0:
            dequantize_blocks<BlockQ8_0>(src, row, n, 32);
            break;
        case DType::kQ4_0:
            dequantize_blocks<BlockQ4_0>(src, row, n, 32);
            break;
        case DType::kQ4_K:
            dequantize_blocks<BlockQ4_K>(src, row, n, 256);
            break;
        case DType::kQ5_K:
            dequantize_blocks<BlockQ5_K>(src, row, n, 256);
            break;
        case DType::kQ6_K:
            dequantize_blocks<BlockQ6_K>(src, row, n, 256);
            break;
    }
}

void quantize_row(DType type, const float* row, void* dst, int64_t n, const float* importance) {
    switch (type) {
        case DType::kF32:
            std::memcpy(dst, row, static_cast<size_t>(n) * 4);
            break;
        case DType::kF16:
            for (int64_t i = 0; i < n; ++i) store_u16(dst, i, f32_to_f16(row[i]));
            break;
        case DType::kBF16:
            for (int64_t i = 0; i < n; ++i) store_u16(dst, i, f32_to_bf16(row[i]));
            break;
        case DType::kQ8_0:
            quantize_blocks<BlockQ8_0>(row, importance, dst, n, 32);
            break;
        case DType::kQ4_0:
            quantize_blocks<BlockQ4_0>(row, importance, dst, n, 32);
            break;
        case DType::kQ4_K:
            quantize_blocks<BlockQ4_K>(row, importance, dst, n, 256);
            break;
        case DType::kQ5_K:
            quantize_blocks<BlockQ5_K>(row, importance, dst, n, 256);
            break;
        case DType::kQ6_K:
            quantize_blocks<BlockQ6_K>(row, importance, dst, n, 256);
            break;
    }
}

}  // namespace samba
