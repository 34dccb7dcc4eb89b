// Products of quantised weights with 8-bit activations; compiled once for each instruction set.
//
// kPanelRows rows of weights are the lanes of a vector: a block of 32 columns becomes 8 vectors, each holding 4 columns
// of every row, and one or two vectors of scales. Activations are broadcast 4 at a time. So a block's integer sum
// stands ready in its lane, is exact, and is scaled and added in the order of the blocks:
//   sum += dot * (scale * x.scale)                       Q8_0, Q4_0; Q6_K twice, for each 16 columns
//   sum += dot * (scale * x.scale) - min * x.scaled_sum  Q4_K, Q5_K
// A few rows of activations take the blocks as they are unpacked; many take them from a panel in memory.
//
// The including file has defined, for its instruction set: vi, vf, kPanelRows, load_rows, load_heads, load_f16, Dot
// and its like (panel_avx512.h, panel_avx2.h).
#pragma once
#include <cassert>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_f32_kernel.h"
#include "kernels/cpu/matmul_formats_kernel.h"
#include "kernels/cpu/matmul_kernels.h"

namespace samba {
namespace {

// A block of a panel in memory: 8 vectors of weights, then the scales.
constexpr int64_t kVectorBytes = sizeof(vi);
template <class F>
constexpr int64_t kBlockVectors = F::kMin || F::kHalves ? 10 : 9;

template <class F>
inline void store_block(const Block& block, std::byte* at) {
    for (int i = 0; i < 8; ++i) istore(at + i * kVectorBytes, block.w[i]);
    vstore(reinterpret_cast<float*>(at + 8 * kVectorBytes), block.scale);
    if (F::kMin || F::kHalves) vstore(reinterpret_cast<float*>(at + 9 * kVectorBytes), block.second);
}
struct StoredBlock {
    const std::byte* at;
    vi weights(int i) const { return iload(at + i * kVectorBytes); }
    vf scale() const { return vload(reinterpret_cast<const float*>(at + 8 * kVectorBytes)); }
    vf second() const { return vload(reinterpret_cast<const float*>(at + 9 * kVectorBytes)); }
};
struct UnpackedBlock {
    const Block& block;
    vi weights(int i) const { return block.w[i]; }
    vf scale() const { return block.scale; }
    vf second() const { return block.second; }
};

// R rows of activations, from `row` on, and the group that they belong to (its layout stands in matmul_kernels.h).
template <int R>
class Acts {
  public:
    Acts(const ProductArgs& a, int64_t row) {
        int64_t first = row / a.group * a.group;
        group_ = a.n_rows - first < a.group ? a.n_rows - first : a.group;
        assert(!kWholeGroups || R == 0 || R == group_);
        const std::byte* data = static_cast<const std::byte*>(a.converted) + first * (a.cols / 32) * kActBlockBytes;
        q_ = data + 32 * (row - first);
        numbers_ = data + 32 * group() + 4 * (row - first);
    }
    // The r-th row's bytes from column 4 i of the block on.
    const std::byte* bytes(int64_t block, int r, int i) const {
        return q_ + block * group() * kActBlockBytes + 32 * r + 4 * i;
    }
    // The r-th row's number of that kind: 0 scale, 1 scaled sum, 2 negated sum, 3 and 4 those of the halves.
    const std::byte* number(int64_t block, int kind, int r) const {
        return numbers_ + block * group() * kActBlockBytes + 4 * group() * kind + 4 * r;
    }

  private:
    int64_t group() const { return kWholeGroups ? R : group_; }  // its rows; a constant makes addresses cheap

    const std::byte *q_, *numbers_;
    int64_t group_;
};

// Adds block b of P panels to the sums of R rows of activations; of one panel kRowsAtOnce at once, so that the sums of
// them all stay in registers.
template <class F, int P, int R, class Source>
inline void add_block(const Source (&panels)[P], const Acts<R>& x, int64_t b, vf (&sums)[P][R]) {
    constexpr int kParts = F::kHalves ? 2 : 1, kSteps = 8 / kParts,
                  kAtOnce = P == 1 && R > kRowsAtOnce ? kRowsAtOnce : R;
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
#pragma GCC unroll 8
        for (int first = 0; first < R; first += kAtOnce) {
            const int n = R - first < kAtOnce ? R - first : kAtOnce;
            Dot<F::kDotBits> dots[P][kAtOnce];
#pragma GCC unroll 8
            for (int r = 0; r < n; ++r) {
                vi initial = izero();
                if (F::kOffsetShift >= 0) {
                    initial =
                        shift_left(ibroadcast(x.number(b, F::kHalves ? 3 + part : 2, first + r)), F::kOffsetShift);
                }
                for (int p = 0; p < P; ++p) dots[p][r].start(initial);
            }
#pragma GCC unroll 8
            for (int i = 0; i < kSteps; ++i) {
                vi w[P];
                for (int p = 0; p < P; ++p) w[p] = panels[p].weights(part * kSteps + i);
#pragma GCC unroll 8
                for (int r = 0; r < n; ++r) {
                    const std::byte* act = x.bytes(b, first + r, part * kSteps + i);
                    if constexpr (P == 1) {
                        dots[0][r].add_broadcast(i, w[0], act);
                    } else {
                        vi acts = ibroadcast(act);
                        for (int p = 0; p < P; ++p) dots[p][r].add(i, w[p], acts);
                    }
                }
            }
            for (int p = 0; p < P; ++p) {
                vf scale = part == 0 ? panels[p].scale() : panels[p].second();
#pragma GCC unroll 8
                for (int r = 0; r < n; ++r) {
                    vf& sum = sums[p][first + r];
                    sum = vfma(to_f32(dots[p][r].total()), scale * fbroadcast(x.number(b, 0, first + r)), sum);
                    if (F::kMin) sum = vfnma(panels[p].second(), fbroadcast(x.number(b, 1, first + r)), sum);
                }
            }
        }
    }
}

// y[t …, j …] of R rows and of n columns, at most kPanelRows.
template <int R>
inline void store_sums(const ProductArgs& a, int64_t t, int64_t j, int64_t n, const vf* sums) {
    int count = static_cast<int>(n < kPanelRows ? n : kPanelRows);
    for (int r = 0; r < R; ++r) {
        float* y = a.y + (t + r) * a.y_stride + j;
        vf sum = sums[r];
        if (a.bias) sum = sum + vload_n(a.bias + j, count);
        if (a.add) sum = vload_n(y, count) + sum;
        vstore_n(y, sum, count);
    }
}

// Asks for the next panel in the order in which it lies; or for every row as a stream of its own, a little ahead, and
// where that ends begins the row that has its place in the next panel.
template <class F>
inline void ask_for_next(PanelRows rows, int64_t b, bool in_file_order) {
    constexpr int64_t kAhead = 384, kPanelBytes = kPanelRows * F::kBytes;
    if (in_file_order) {
        const char* next = rows.data + kPanelRows * rows.stride;
        for (int64_t i = (b * kPanelBytes + 63) / 64 * 64; i < (b + 1) * kPanelBytes; i += 64)
            __builtin_prefetch(next + i, 0, 2);
        return;
    }
    int64_t at = b * F::kBytes + kAhead, last = at + F::kBytes;
    for (int64_t i = (at + 63) / 64 * 64; i < last; i += 64) {
        const char* next = rows.data + i + (i >= rows.stride ? (kPanelRows - 1) * rows.stride : 0);
        for (int r = 0; r < kPanelRows; ++r) __builtin_prefetch(next + r * rows.stride, 0, 2);
    }
}

// A few rows of activations: blocks are used as they are unpacked. R rows from t on, and `More` of the group after
// them.
template <class F, int R, int More = 0>
__attribute__((flatten)) void direct(const ProductArgs& a, PanelRows rows, int64_t j, int64_t t) {
    vf sums[1][R], more[1][More > 0 ? More : 1];
    for (vf& s : sums[0]) s = vzero();
    for (vf& s : more[0]) s = vzero();
    constexpr int kBlocks = F::kColumns / 32;
    Acts<R> x(a, t);
    Acts<More> after(a, More > 0 ? t + R : t);
    for (int64_t b = 0; b < a.cols / F::kColumns; ++b) {
        ask_for_next<F>(rows, b, a.in_file_order);
        F::unpack(rows, b, [&](int i, const Block& block) {
            if constexpr (More == 0 || F::kColumns == 32) {
                const UnpackedBlock panels[1] = {{block}};
                add_block<F, 1, R>(panels, x, b * kBlocks + i, sums);
                if constexpr (More > 0) add_block<F, 1, More>(panels, after, b * kBlocks + i, more);
            } else {  // registers are for the sums and for what the next blocks are made of
                alignas(kVectorBytes) std::byte stored[kBlockVectors<F> * kVectorBytes];
                store_block<F>(block, stored);
                asm volatile("" : "+m"(stored));
                const StoredBlock panels[1] = {{stored}};
                add_block<F, 1, R>(panels, x, b * kBlocks + i, sums);
                add_block<F, 1, More>(panels, after, b * kBlocks + i, more);
            }
        });
    }
    store_sums<R>(a, t, j, a.n_out - j, sums[0]);
    if constexpr (More > 0) store_sums<More>(a, t + R, j, a.n_out - j, more[0]);
}

template <class F>
__attribute__((flatten)) void repack(PanelRows rows, int64_t cols, bool in_file_order, std::byte* to) {
    constexpr int kBlocks = F::kColumns / 32;
    for (int64_t b = 0; b < cols / F::kColumns; ++b) {
        ask_for_next<F>(rows, b, in_file_order);
        F::unpack(rows, b, [&](int i, const Block& block) {
            store_block<F>(block, to + (b * kBlocks + i) * kBlockVectors<F> * kVectorBytes);
        });
    }
}

// Memory that will be needed soon.
struct Soon {
    const char* data;
    int64_t bytes;
};

// kPanels repacked panels times R rows of activations; asks for some of the memory that the next panels are made of.
template <class F, int R>
void from_panels(const ProductArgs& a, const std::byte* panels, int64_t j, int64_t n, int64_t t, Soon soon) {
    vf sums[kPanels][R];
    for (auto& panel : sums) {
        for (vf& s : panel) s = vzero();
    }
    int64_t blocks = a.cols / 32, panel_bytes = blocks * kBlockVectors<F> * kVectorBytes;
    int64_t step = (soon.bytes / blocks + 63) / 64 * 64;
    Acts<R> x(a, t);
    for (int64_t b = 0; b < blocks; ++b) {
        for (int64_t i = b * step; i < (b + 1) * step && i < soon.bytes; i += 64)
            __builtin_prefetch(soon.data + i, 0, 2);
        StoredBlock at[kPanels];
        for (int p = 0; p < kPanels; ++p) at[p].at = panels + p * panel_bytes + b * kBlockVectors<F> * kVectorBytes;
        add_block<F, kPanels, R>(at, x, b, sums);
    }
    for (int p = 0; p < kPanels && p * kPanelRows < n; ++p) {
        store_sums<R>(a, t, j + p * kPanelRows, n - p * kPanelRows, sums[p]);
    }
}

// Calls f(t, count) for tiles of at most Max rows of activations, none across the border of a group.
template <int Max, class F>
inline void for_each_tile(const ProductArgs& a, F&& f) {
    for (int64_t group = 0; group < a.n_rows; group += a.group) {
        int64_t end = group + a.group < a.n_rows ? group + a.group : a.n_rows;
        for (int64_t t = group; t < end; t += Max) {
            pick_rows<Max>(end - t, [&](auto count) { f(t, count); });
        }
    }
}

template <class F>
void few_rows(const ProductArgs& a) {
    for (int64_t j = 0; j < a.n_out; j += kPanelRows) {
        PanelRows rows = rows_of(a, j, a.panel);
        for_each_tile<kDirectRows>(a, [&](int64_t t, auto count) { direct<F, decltype(count)::value>(a, rows, j, t); });
    }
}

// Two groups of activations, the second as large as the first or one smaller.
template <class F>
void two_groups(const ProductArgs& a) {
    for (int64_t j = 0; j < a.n_out; j += kPanelRows) {
        PanelRows rows = rows_of(a, j, a.panel);
        pick_rows<kDirectRows>(a.group, [&](auto count) {
            constexpr int R = decltype(count)::value;
            if constexpr (2 * R > kDirectRows) {
                a.n_rows == 2 * R ? direct<F, R, R>(a, rows, j, 0) : direct<F, R, R - 1>(a, rows, j, 0);
            }
        });
    }
}

// As many panels as the work memory holds are repacked, then all activations pass over them; meanwhile the memory of
// the next ones is on its way.
template <class F>
void many_rows(const ProductArgs& a) {
    constexpr int64_t kPair = kPanels * kPanelRows;
    int64_t panel_bytes = a.cols / 32 * kBlockVectors<F> * kVectorBytes;
    std::byte* copy = a.panel;
    std::byte* panels = a.panel + (kPanelRows * a.w_stride + kVectorBytes - 1) / kVectorBytes * kVectorBytes;
    int64_t room = (static_cast<int64_t>(a.panel_bytes) - (panels - copy)) / (kPanels * panel_bytes) * kPair;
    int64_t tiles = 0;
    for_each_tile<kPanelActRows>(a, [&](int64_t, auto) { ++tiles; });
    for (int64_t first = 0; first < a.n_out; first += room) {
        int64_t last = first + room < a.n_out ? first + room : a.n_out;
        for (int64_t j = first; j < last; j += kPanelRows) {
            repack<F>(rows_of(a, j, copy), a.cols, a.in_file_order, panels + (j - first) / kPanelRows * panel_bytes);
        }
        int64_t tile = 0;
        for_each_tile<kPanelActRows>(a, [&](int64_t t, auto count) {
            for (int64_t j = first; j < last; j += kPair) {
                const std::byte* at = panels + (j - first) / kPanelRows * panel_bytes;
                int64_t bytes = last + (j - first) < a.n_out ? kPair * a.w_stride / tiles : 0;
                Soon soon{a.w + (last + (j - first)) * a.w_stride + tile * bytes, bytes};
                from_panels<F, decltype(count)::value>(a, at, j, last - j, t, soon);
            }
            ++tile;
        });
    }
}

template <class F>
void product_of(const ProductArgs& a) {
    if (a.n_rows <= kDirectRows) return few_rows<F>(a);
    if constexpr (kTwoGroups) {
        if (a.n_rows <= 2 * kDirectRows) return two_groups<F>(a);
    }
    many_rows<F>(a);
}

void int8_product(const ProductArgs& a) {
    if (a.type == DType::kQ8_0) product_of<Q8_0>(a);
    if (a.type == DType::kQ4_0) product_of<Q4_0>(a);
    if (a.type == DType::kQ4_K) product_of<Q4_K>(a);
    if (a.type == DType::kQ5_K) product_of<Q5_K>(a);
    if (a.type == DType::kQ6_K) product_of<Q6_K>(a);
}

void quantize(const float* x, int64_t stride, int n, int64_t cols, std::byte* group) {
    for (int64_t b = 0; b < cols / 32; ++b, group += n * kActBlockBytes) {
        for (int row = 0; row < n; ++row) {
            int32_t half[2];
            float scale = quantize_32(x + row * stride + 32 * b, reinterpret_cast<int8_t*>(group) + 32 * row, half);
            float scaled_sum = scale * static_cast<float>(half[0] + half[1]);
            int32_t negative[3] = {-(half[0] + half[1]), -half[0], -half[1]};
            std::byte* numbers = group + 32 * n + 4 * row;
            std::memcpy(numbers, &scale, 4);
            std::memcpy(numbers + 4 * n, &scaled_sum, 4);
            for (int i = 0; i < 3; ++i) std::memcpy(numbers + 4 * n * (2 + i), &negative[i], 4);
        }
    }
}

}  // namespace
}  // namespace samba
