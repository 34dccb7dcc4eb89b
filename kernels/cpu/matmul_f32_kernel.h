// Products that sum over the columns in the lanes of a vector; compiled once for each instruction set (see simd.h).
// A tile of weight rows by activation rows is summed at a time, so that every load serves several products; each of the
// tile's sums runs over the columns in the same order whatever the tile's shape.
#pragma once
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/simd.h"

namespace samba {
namespace {

// Calls f with the number of rows, 1 … Max, as a constant.
template <int N>
struct Count {
    static constexpr int value = N;
};
template <int Max, class F>
inline void pick_rows(int64_t n, F&& f) {
    if constexpr (Max > 1) {
        if (n < Max) return pick_rows<Max - 1>(n, f);
    }
    f(Count<Max>{});
}

// How weights and activations are read: kStep columns at a time, all or the first n of them (the others count as 0).
// kChunk columns are summed by themselves.
struct WeightF32 {
    using Vector = vf;
    static constexpr int kStep = kLanes, kWeightBytes = 4, kActBytes = 4, kChunk = 1024;
    static vf weights(const char* p) { return vload(reinterpret_cast<const float*>(p)); }
    static vf weights(const char* p, int n) { return vload_n(reinterpret_cast<const float*>(p), n); }
    static vf acts(const char* p) { return vload(reinterpret_cast<const float*>(p)); }
    static vf acts(const char* p, int n) { return vload_n(reinterpret_cast<const float*>(p), n); }
    static vf add_product(vf sum, vf w, vf x) { return vfma(w, x, sum); }
};
struct WeightF16 : WeightF32 {
    static constexpr int kWeightBytes = 2, kChunk = 2048;
    static vf weights(const char* p) { return vload_f16(reinterpret_cast<const uint16_t*>(p)); }
    static vf weights(const char* p, int n) { return vload_f16_n(reinterpret_cast<const uint16_t*>(p), n); }
};
struct WeightBF16 : WeightF32 {
    static constexpr int kWeightBytes = 2, kChunk = 2048;
    static vf weights(const char* p) { return vload_bf16(reinterpret_cast<const uint16_t*>(p)); }
    static vf weights(const char* p, int n) { return vload_bf16_n(reinterpret_cast<const uint16_t*>(p), n); }
};

// The sums of the lanes of four vectors: each vector's halves are added, then the quarters, and so on down.
#if defined(__AVX512F__)
inline __m128 sum_lanes(vf a, vf b, vf c, vf d) {
    vf ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    vf cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    vf s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    s = _mm512_add_ps(s, _mm512_shuffle_ps(s, s, 0x4e));
    s = _mm512_add_ps(s, _mm512_shuffle_ps(s, s, 0xb1));
    __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, s));
}
#else
inline __m128 sum_lanes(vf a, vf b, vf c, vf d) {
    vf ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    vf cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    vf s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    s = _mm256_add_ps(s, _mm256_shuffle_ps(s, s, 0xb1));  // 128-bit lanes: a, c and b, d, each twice
    return _mm_unpacklo_ps(_mm_shuffle_ps(_mm256_castps256_ps128(s), _mm256_castps256_ps128(s), 0x88),
                           _mm_shuffle_ps(_mm256_extractf128_ps(s, 1), _mm256_extractf128_ps(s, 1), 0x88));
}
#endif

// Activations of a product: f32 or bf16 rows.
struct TileRows {
    const char* data;
    int64_t stride;  // bytes
};

constexpr int kWeightRows = 4;                  // of a tile
constexpr int kActRows = kLanes == 16 ? 6 : 3;  // at most: 4 x 6 sums of 32 registers, 4 x 3 of 16

// Columns first … last - 1 of a tile: sums of up to kWeightRows weight rows and R activation rows, added to y[t …, j
// …]. The first columns bring the bias. With `from_memory` the weights are asked for early: the next tile in the order
// in which it lies, or every row as a stream of its own, a KB ahead; where that ends, the row that has its place in the
// next tile begins.
template <class T, int R>
struct Tile {
    static constexpr int W = kWeightRows;
    const ProductArgs& a;
    TileRows rows;
    int64_t j, t;
    int64_t n;  // weight rows that exist; the last one stands in for the others
    bool from_memory;

    void ask_ahead(int64_t at) const {  // byte of each row
        constexpr int64_t kAhead = 1024;
        if (a.in_file_order) {
            const char* next = a.w + (j + W) * a.w_stride + W * at;
            for (int i = 0; i < W; ++i) __builtin_prefetch(next + 64 * i, 0, 2);
            return;
        }
        at += at + kAhead < a.w_stride ? kAhead : kAhead + (W - 1) * a.w_stride;
        for (int i = 0; i < W; ++i) __builtin_prefetch(a.w + (j + i) * a.w_stride + at);
    }

    __attribute__((flatten)) void add_columns(int64_t first, int64_t last) const {
        const char *w[W], *x[R];
        for (int i = 0; i < W; ++i) w[i] = a.w + (j + (i < n ? i : n - 1)) * a.w_stride;
        for (int r = 0; r < R; ++r) x[r] = rows.data + (t + r) * rows.stride;
        vf sums[W][R];
        for (auto& row : sums) {
            for (vf& sum : row) sum = vzero();
        }
        int64_t k = first;
        for (; k + T::kStep <= last; k += T::kStep) {
            if (from_memory && k * T::kWeightBytes % 64 == 0) ask_ahead(k * T::kWeightBytes);
            typename T::Vector act[R];
            for (int r = 0; r < R; ++r) act[r] = T::acts(x[r] + k * T::kActBytes);
            for (int i = 0; i < W; ++i) {
                typename T::Vector weight = T::weights(w[i] + k * T::kWeightBytes);
                for (int r = 0; r < R; ++r) sums[i][r] = T::add_product(sums[i][r], weight, act[r]);
            }
        }
        if (int rest = static_cast<int>(last - k); rest > 0) {
            for (int i = 0; i < W; ++i) {
                typename T::Vector weight = T::weights(w[i] + k * T::kWeightBytes, rest);
                for (int r = 0; r < R; ++r) {
                    sums[i][r] = T::add_product(sums[i][r], weight, T::acts(x[r] + k * T::kActBytes, rest));
                }
            }
        }
        for (int r = 0; r < R; ++r) store(first, t + r, sum_lanes(sums[0][r], sums[1][r], sums[2][r], sums[3][r]));
    }

    void store(int64_t first, int64_t row, __m128 sum) const {
        float* y = a.y + row * a.y_stride + j;
        if (n == W) {
            if (first == 0 && a.bias) sum = _mm_add_ps(sum, _mm_loadu_ps(a.bias + j));
            if (first > 0 || a.add) sum = _mm_add_ps(_mm_loadu_ps(y), sum);
            return _mm_storeu_ps(y, sum);
        }
        for (int64_t i = 0; i < n; ++i) {
            float s = first == 0 && a.bias ? sum[i] + a.bias[j + i] : sum[i];
            y[i] = first > 0 || a.add ? y[i] + s : s;
        }
    }
};

// Rows first … last - 1 of the weights. Columns go in chunks, each summed by itself: so a tile of activations stays in
// the first-level cache while a block of weights passes, which stays in the second-level cache while all activations
// pass.
template <class T>
void block_product(const ProductArgs& a, TileRows rows, int64_t first, int64_t last) {
    constexpr int64_t kBlockBytes = 256 << 10, kChunk = T::kChunk;
    constexpr int64_t kBlock = kBlockBytes / (kChunk * T::kWeightBytes) / kWeightRows * kWeightRows;
    bool in_order = a.n_rows <= kActRows || a.cols <= kChunk;
    for (int64_t k = 0; k < a.cols; k += kChunk) {
        int64_t end = k + kChunk < a.cols ? k + kChunk : a.cols;
        for (int64_t block = first; block < last; block += kBlock) {
            int64_t block_end = block + kBlock < last ? block + kBlock : last;
            for (int64_t t = 0; t < a.n_rows; t += kActRows) {
                pick_rows<kActRows>(a.n_rows - t, [&](auto count) {
                    for (int64_t j = block; j < block_end; j += kWeightRows) {
                        int64_t n = block_end - j < kWeightRows ? block_end - j : kWeightRows;
                        Tile<T, decltype(count)::value>{a, rows, j, t, n, t == 0 && in_order}.add_columns(k, end);
                    }
                });
            }
        }
    }
}

template <class T>
void column_product(const ProductArgs& a, TileRows rows) {
    if (a.n_rows > kActRows) return block_product<T>(a, rows, 0, a.n_out);
    // Weights are read once: in the order in which they lie.
    for (int64_t j = 0; j < a.n_out; j += kWeightRows) {
        block_product<T>(a, rows, j, j + kWeightRows < a.n_out ? j + kWeightRows : a.n_out);
    }
}

void f32_product(const ProductArgs& a) {
    TileRows rows{reinterpret_cast<const char*>(a.x), a.x_stride * 4};
    if (a.type == DType::kF32) column_product<WeightF32>(a, rows);
    if (a.type == DType::kF16) column_product<WeightF16>(a, rows);
    if (a.type == DType::kBF16) column_product<WeightBF16>(a, rows);
}

}  // namespace
}  // namespace samba
