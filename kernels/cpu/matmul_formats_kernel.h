// The quantised types as panels: kPanelRows rows of weights side by side in the lanes of vectors. Compiled once for
// each instruction set; the including file has defined, for its own: vi, vf, kPanelRows, kSignedDot, load_rows,
// load_heads, load_f16 and the operations on them (panel_avx512.h, panel_avx2.h).
//
// Each type's unpack calls use(i, block) for each 32 columns of block b of the file, in their order.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/cpu/matmul_kernels.h"

namespace samba {
namespace {

// One block of 32 columns of a panel.
struct Block {
    vi w[8];
    vf scale, second;  // second: of the second 16 columns (Q6_K), or the min (Q4_K, Q5_K)
};

// The rows of a panel in the file, kPanelRows of them.
struct PanelRows {
    const char* data;
    int64_t stride;
};

// The file's rows j …, as a full panel: where fewer are left, a copy in which the last one stands in for the others.
inline PanelRows rows_of(const ProductArgs& a, int64_t j, std::byte* copy) {
    int64_t n = a.n_out - j;
    if (n >= kPanelRows) return {a.w + j * a.w_stride, a.w_stride};
    for (int64_t i = 0; i < kPanelRows; ++i) {
        std::memcpy(copy + i * a.w_stride, a.w + (j + (i < n ? i : n - 1)) * a.w_stride,
                    static_cast<size_t>(a.w_stride));
    }
    return {reinterpret_cast<const char*>(copy), a.w_stride};
}

struct Q8_0 {
    static constexpr int kColumns = 32, kBytes = 34;
    static constexpr int kOffsetShift = kSignedDot ? -1 : 7;  // 2^shift is added to the weights to make them unsigned
    static constexpr bool kMin = false, kHalves = false;
    static constexpr int kDotBits = 8;

    template <class Use>
    static void unpack(PanelRows p, int64_t b, Use&& use) {
        Block block;
        const char* at = p.data + b * kBytes;
        block.scale = load_f16(at, p.stride);
        load_rows(at + 2, p.stride, block.w);
        if (!kSignedDot) {
            for (vi& w : block.w) w = flip_sign(w);
        }
        use(0, block);
    }
};

struct Q4_0 {
    static constexpr int kColumns = 32, kBytes = 18;
    static constexpr int kOffsetShift = 3;
    static constexpr bool kMin = false, kHalves = false;
    static constexpr int kDotBits = 4;

    template <class Use>
    static void unpack(PanelRows p, int64_t b, Use&& use) {
        Block block;
        const char* at = p.data + b * kBytes;
        block.scale = load_f16(at, p.stride);
        vi q[4];
        load_heads(at + 2, p.stride, q);
        for (int i = 0; i < 4; ++i) {
            block.w[i] = low_nibbles(q[i]);
            block.w[4 + i] = high_nibbles(q[i]);
        }
        use(0, block);
    }
};

// The first 16 bytes of a Q4_K or Q5_K block, as 4 vectors: d | dmin, and twelve bytes of 6-bit scales and mins.
struct KScales {
    vf scale[8], min[8];

    KScales(PanelRows p, const char* at) {
        vi head[4];
        load_heads(at, p.stride, head);
        vf d = f16_low(head[0]), dmin = f16_high(head[0]);
        for (int j = 0; j < 4; ++j) {
            scale[j] = d * to_f32(bits(head[1], 8 * j, 63));
            min[j] = dmin * to_f32(bits(head[2], 8 * j, 63));
            vi high_scale = shift_left(bits(head[1], 8 * j + 6, 3), 4),
               high_min = shift_left(bits(head[2], 8 * j + 6, 3), 4);
            scale[4 + j] = d * to_f32(either(bits(head[3], 8 * j, 15), high_scale));
            min[4 + j] = dmin * to_f32(either(bits(head[3], 8 * j + 4, 15), high_min));
        }
    }
};

struct Q4_K {
    static constexpr int kColumns = 256, kBytes = 144;
    static constexpr int kOffsetShift = -1;
    static constexpr bool kMin = true, kHalves = false;
    static constexpr int kDotBits = 4;

    template <class Use>
    static void unpack(PanelRows p, int64_t b, Use&& use) {
        const char* at = p.data + b * kBytes;
        KScales scales(p, at);
        for (int j = 0; j < 8; j += 2) {
            vi q[8];
            load_rows(at + 16 + 16 * j, p.stride, q);
            Block block;
            block.scale = scales.scale[j];
            block.second = scales.min[j];
            for (int i = 0; i < 8; ++i) block.w[i] = low_nibbles(q[i]);
            use(j, block);
            block.scale = scales.scale[j + 1];
            block.second = scales.min[j + 1];
            for (int i = 0; i < 8; ++i) block.w[i] = high_nibbles(q[i]);
            use(j + 1, block);
        }
    }
};

struct Q5_K {
    static constexpr int kColumns = 256, kBytes = 176;
    static constexpr int kOffsetShift = -1;
    static constexpr bool kMin = true, kHalves = false;
    static constexpr int kDotBits = 5;

    template <class Use>
    static void unpack(PanelRows p, int64_t b, Use&& use) {
        const char* at = p.data + b * kBytes;
        KScales scales(p, at);
        vi high[8];
        load_rows(at + 16, p.stride, high);
        for (int j = 0; j < 8; j += 2) {
            vi q[8];
            load_rows(at + 48 + 16 * j, p.stride, q);
            Block block;
            block.scale = scales.scale[j];
            block.second = scales.min[j];
            for (int i = 0; i < 8; ++i) block.w[i] = either(low_nibbles(q[i]), byte_bit(high[i], j));
            use(j, block);
            block.scale = scales.scale[j + 1];
            block.second = scales.min[j + 1];
            for (int i = 0; i < 8; ++i) block.w[i] = either(high_nibbles(q[i]), byte_bit(high[i], j + 1));
            use(j + 1, block);
        }
    }
};

struct Q6_K {
    static constexpr int kColumns = 256, kBytes = 210;
    static constexpr int kOffsetShift = 5;
    static constexpr bool kMin = false, kHalves = true;
    static constexpr int kDotBits = 6;

    template <class Use>
    static void unpack(PanelRows p, int64_t b, Use&& use) {
        const char* at = p.data + b * kBytes;
        vf d = load_f16(at + 208, p.stride);
        vi scales[4];
        load_heads(at + 192, p.stride, scales);
        auto scale = [&](int i) { return d * to_f32(signed_byte(scales[i / 4], i % 4)); };
        for (int half = 0; half < 2; ++half) {
            vi high[8], q[2][8];
            load_rows(at + 128 + 32 * half, p.stride, high);
            for (int part = 0; part < 2; ++part) load_rows(at + 64 * half + 32 * part, p.stride, q[part]);
            Block block;
            auto next = [&](int part) {
                int j = 4 * half + part;
                block.scale = scale(2 * j);
                block.second = scale(2 * j + 1);
                for (int i = 0; i < 8; ++i) {
                    vi low = part < 2 ? low_nibbles(q[part][i]) : high_nibbles(q[part - 2][i]);
                    block.w[i] = either(low, byte_pair(high[i], 2 * part));
                }
                use(j, block);
            };
            next(0);
            next(1);
            next(2);
            next(3);
        }
    }
};

}  // namespace
}  // namespace samba
