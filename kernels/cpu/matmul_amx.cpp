// Matrix products of prefill steps in AMX tiles, for bf16 and quantised weights.
//
// A tile product is C (16 rows of activations x 16 rows of weights, f32) += A (16 x 32 bf16) · B (32 x 16 bf16, in
// pairs of columns). Weights of every type become B tiles, 32 rows of kChunk columns at a time, and all activations
// pass over them; 2 x 2 tiles of C take each A and B twice. What C holds between the chunks lies in y itself.
#include <cassert>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/panel_avx512.h"
// After the vectors that it is written in.
#include "kernels/cpu/matmul_formats_kernel.h"

namespace samba {
namespace {

constexpr int64_t kRows = kTileRows, kCols = 32, kBytes = 1024;  // of a tile of bf16
// Tiles of a chunk: its activations and weights stay in the second-level cache, and y comes and goes seldom.
constexpr int64_t kChunk = 48;
static_assert(kChunk % 8 == 0, "whole blocks of 256 columns");

// What is left of n, as much as fits; none of a negative n.
inline int64_t at_most(int64_t n, int64_t most) { return n < 0 ? 0 : n < most ? n : most; }

// ---- activations: A tiles ------------------------------------------------------------------------------------------

void convert(const float* x, int64_t stride, int n, int64_t cols, std::byte* group) {
    for (int64_t k = 0; k < cols; k += kCols) {
        int first = static_cast<int>(at_most(cols - k, 16)),
            second = static_cast<int>(at_most(cols - k, kCols)) - first;
        for (int row = 0; row < n; ++row, group += 64) {
            const float* at = x + row * stride + k;
            __m512bh both = _mm512_cvtne2ps_pbh(vload_n(at + 16, second), vload_n(at, first));
            _mm512_storeu_si512(group, reinterpret_cast<vi>(both));
        }
    }
}

// ---- weights: B tiles ----------------------------------------------------------------------------------------------

// Each lane: a's value as bf16, then b's.
inline vi bf16_pairs(vf a, vf b) {
    const vi interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                            21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(interleaved, reinterpret_cast<vi>(_mm512_cvtne2ps_pbh(b, a)));
}

// Tiles first … first + n - 1 of 16 rows.
template <class F>
__attribute__((flatten)) void make_tiles(PanelRows rows, int64_t first, int64_t n, std::byte* to) {
    constexpr int kBlocks = F::kColumns / 32;
    for (int64_t b = first / kBlocks; b < (first + n) / kBlocks; ++b) {
        F::unpack(rows, b, [&](int i, const Block& block) {
            std::byte* tile = to + (b * kBlocks + i - first) * kBytes;
            for (int v = 0; v < 8; ++v) {
                vf scale = F::kHalves && v >= 4 ? block.second : block.scale, offset = vzero();
                if (F::kOffsetShift >= 0) offset = scale * vset(static_cast<float>(1 << (F::kOffsetShift & 7)));
                if (F::kMin) offset = block.second;
                auto value = [&](int c) {
                    return _mm512_fmsub_ps(to_f32(bits(block.w[v], 8 * c, 255)), scale, offset);
                };
                istore(tile + 128 * v, bf16_pairs(value(0), value(1)));
                istore(tile + 128 * v + 64, bf16_pairs(value(2), value(3)));
            }
        });
    }
}

// `cols` are left in the rows, from the first of the tiles on.
void make_bf16_tiles(PanelRows rows, int64_t n, int64_t cols, std::byte* to) {
    alignas(64) std::byte padded[kRows][64];
    for (int64_t i = 0; i < n; ++i, cols -= kCols) {
        PanelRows from{rows.data + 64 * i, rows.stride};
        if (cols < kCols) {
            __mmask32 some = (__mmask32{1} << cols) - 1;
            for (int r = 0; r < kRows; ++r)
                istore(padded[r], _mm512_maskz_loadu_epi16(some, from.data + r * from.stride));
            from = {reinterpret_cast<const char*>(padded), 64};
        }
        for (int half = 0; half < 2; ++half) {
            vi pairs[8];
            load_rows(from.data + 32 * half, from.stride, pairs);
            for (int v = 0; v < 8; ++v, to += 64) istore(to, pairs[v]);
        }
    }
}

void make_tiles(const ProductArgs& a, PanelRows rows, int64_t first, int64_t n, std::byte* to) {
    if (a.type == DType::kBF16) {
        return make_bf16_tiles({rows.data + 64 * first, rows.stride}, n, a.cols - kCols * first, to);
    }
    if (a.type == DType::kQ8_0) return make_tiles<Q8_0>(rows, first, n, to);
    if (a.type == DType::kQ4_0) return make_tiles<Q4_0>(rows, first, n, to);
    if (a.type == DType::kQ4_K) return make_tiles<Q4_K>(rows, first, n, to);
    if (a.type == DType::kQ5_K) return make_tiles<Q5_K>(rows, first, n, to);
    if (a.type == DType::kQ6_K) return make_tiles<Q6_K>(rows, first, n, to);
    assert(false);
}

// ---- results: C tiles ----------------------------------------------------------------------------------------------

struct alignas(64) Room {
    float values[kRows][kRows];
};

// The part of y that a tile of C holds; less than a tile at y's borders.
struct Corner {
    float* y;
    const float* bias;  // of its columns, or null
    int64_t stride, rows, cols;
};

// y = C (+ bias), or with `add` y += C (+ bias).
template <int C>
inline void end_tile(const Corner& c, bool add, Room& room) {
    tile_store<C>(room.values, 64);
    const int cols = static_cast<int>(c.cols);
    for (int64_t r = 0; r < c.rows; ++r) {
        float* y = c.y + r * c.stride;
        vf sum = vload(room.values[r]);
        if (c.bias) sum = sum + vload_n(c.bias, cols);
        if (add) sum = sum + vload_n(y, cols);
        vstore_n(y, sum, cols);
    }
}

// ---- products ------------------------------------------------------------------------------------------------------

// A share of the memory of the next 32 rows' chunk is asked for in each of the passes over this one.
struct Soon {
    const char* data = nullptr;
    int64_t rows = 0, stride = 0, bytes = 0;
    void ask(int64_t pass, int64_t passes) const {
        for (int64_t r = rows * pass / passes; r < rows * (pass + 1) / passes; ++r) {
            for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + r * stride + i, 0, 2);
        }
    }
};

// Tiles k … k + n - 1 of the columns, for rows j … j + 31 of the weights.
struct Panels {
    int64_t k, n, j;
    const std::byte* b[2];
};

// Rows t … t + 31 of the activations. What does not exist is stood in for by what does, and not stored.
void product_of_rows(const ProductArgs& a, const Panels& p, int64_t t) {
    const int64_t tiles = (a.cols + kCols - 1) / kCols;
    const int64_t rows[2] = {at_most(a.n_rows - t, kRows), at_most(a.n_rows - t - kRows, kRows)};
    auto corner = [&](int r, int c) {
        int64_t j = p.j + c * kRows;
        const float* bias = a.bias && p.k == 0 ? a.bias + j : nullptr;
        return Corner{a.y + (t + r * kRows) * a.y_stride + j, bias, a.y_stride, rows[r], at_most(a.n_out - j, kRows)};
    };
    auto tiles_of = [&](int r) {
        return static_cast<const std::byte*>(a.converted) + 64 * ((t + r * kRows) * tiles + rows[r] * p.k);
    };
    const std::byte *a0 = tiles_of(0), *a1 = rows[1] > 0 ? tiles_of(1) : a0, *b0 = p.b[0], *b1 = p.b[1];
    const int64_t step0 = 64 * rows[0], step1 = rows[1] > 0 ? 64 * rows[1] : step0;
    const bool add = a.add || p.k > 0;
    Room room[4];
    tile_zero<0>();
    tile_zero<1>();
    tile_zero<2>();
    tile_zero<3>();
    for (int64_t i = 0; i < p.n; ++i, a0 += step0, a1 += step1, b0 += kBytes, b1 += kBytes) {
        tile_load<4>(a0, 64);
        tile_load<6>(b0, 64);
        tile_load<7>(b1, 64);
        tile_load<5>(a1, 64);
        tile_add_bf16<0, 4, 6>();
        tile_add_bf16<1, 4, 7>();
        tile_add_bf16<2, 5, 6>();
        tile_add_bf16<3, 5, 7>();
    }
    end_tile<0>(corner(0, 0), add, room[0]);
    end_tile<1>(corner(0, 1), add, room[1]);
    end_tile<2>(corner(1, 0), add, room[2]);
    end_tile<3>(corner(1, 1), add, room[3]);
}

void product(const ProductArgs& a) {
    tiles_begin();
    constexpr int64_t kPair = 2 * kRows;
    const int64_t tiles = (a.cols + kCols - 1) / kCols, passes = (a.n_rows + kPair - 1) / kPair;
    std::byte* copy = a.panel + 2 * kChunk * kBytes;
    assert(2 * kChunk * kBytes + kRows * a.w_stride <= static_cast<int64_t>(a.panel_bytes));
    for (int64_t k = 0; k < tiles; k += kChunk) {
        Panels p{k, at_most(tiles - k, kChunk), 0, {}};
        for (; p.j < a.n_out; p.j += kPair) {
            for (int i = 0; i < 2; ++i) {
                int64_t row = p.j + i * kRows;
                p.b[i] = row < a.n_out ? a.panel + i * kChunk * kBytes : p.b[0];
                if (row < a.n_out) make_tiles(a, rows_of(a, row, copy), k, p.n, a.panel + i * kChunk * kBytes);
            }
            Soon soon;
            if (p.j + kPair < a.n_out) {
                soon = {a.w + (p.j + kPair) * a.w_stride + k * a.w_stride / tiles,
                        at_most(a.n_out - p.j - kPair, kPair), a.w_stride, p.n * a.w_stride / tiles};
            }
            for (int64_t pass = 0; pass < passes; ++pass) {
                soon.ask(pass, passes);
                product_of_rows(a, p, pass * kPair);
            }
        }
    }
    tiles_end();
}

}  // namespace

const Bf16Kernels kAmxBf16 = {convert, product, kRows, kCols, true};

}  // namespace samba
