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

// Rows from `row` on of their group of n rows of activations (the layout stands in matmul_kernels.h).
struct Acts {
    const std::byte* q;
    const std::byte* numbers;
    int64_t n;

    Acts(const ProductArgs& a, int64_t row) {
        int64_t first = row / a.group * a.group;
        n = a.n_rows - first < a.group ? a.n_rows - first : a.group;
        const std::byte* data = static_cast<const std::byte*>(a.converted) + first * (a.cols / 32) * kActBlockBytes;
        q = data + 32 * (row - first);
        numbers = data + 32 * n + 4 * (row - first);
    }
    int64_t block_bytes() const { return n * kActBlockBytes; }
    // The r-th row's number of that kind: 0 scale, 1 scaled sum, 2 negated sum, 3 and 4 those of the halves.
    const std::byte* number(int64_t block, int kind, int r) const {
        return numbers + block * block_bytes() + 4 * n * kind + 4 * r;
    }
};

// Adds block b of P panels to the sums of R rows of activations.
template <class F, int P, int R, class Source>
inline void add_block(const Source (&panels)[P], const Acts& x, int64_t b, vf (&sums)[P][R]) {
    constexpr int kParts = F::kHalves ? 2 : 1, kSteps = 8 / kParts;
    const std::byte* q = x.q + b * x.block_bytes();
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
        Dot<F::kDotBits> dots[P][R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            vi initial = izero();
            if (F::kOffsetShift >= 0) {
                initial = shift_left(ibroadcast(x.number(b, F::kHalves ? 3 + part : 2, r)), F::kOffsetShift);
            }
            for (int p = 0; p < P; ++p) dots[p][r].start(initial);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kSteps; ++i) {
            vi w[P];
            for (int p = 0; p < P; ++p) w[p] = panels[p].weights(part * kSteps + i);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                vi act = ibroadcast(q + 32 * r + 4 * (part * kSteps + i));
                for (int p = 0; p < P; ++p) dots[p][r].add(i, w[p], act);
            }
        }
        for (int p = 0; p < P; ++p) {
            vf scale = part == 0 ? panels[p].scale() : panels[p].second();
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                vf x_scale = fbroadcast(x.number(b, 0, r));
                sums[p][r] = vfma(to_f32(dots[p][r].total()), scale * x_scale, sums[p][r]);
                if (F::kMin) sums[p][r] = vfnma(panels[p].second(), fbroadcast(x.number(b, 1, r)), sums[p][r]);
            }
        }
    }
}

// y[t …, j …] of R rows and of n columns, at most kPanelRows.
template <int R>
inline void store_sums(const ProductArgs& a, int64_t t, int64_t j, int64_t n, const vf (&sums)[R]) {
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

// A few rows of activations: blocks are used as they are unpacked.
template <class F, int R>
__attribute__((flatten)) void direct(const ProductArgs& a, PanelRows rows, int64_t j, int64_t n, int64_t t) {
    vf sums[1][R];
    for (vf& s : sums[0]) s = vzero();
    constexpr int kBlocks = F::kColumns / 32;
    Acts x(a, t);
    for (int64_t b = 0; b < a.cols / F::kColumns; ++b) {
        ask_for_next<F>(rows, b, a.in_file_order);
        F::unpack(rows, b, [&](int i, const Block& block) {
            const UnpackedBlock panels[1] = {{block}};
            add_block<F, 1, R>(panels, x, b * kBlocks + i, sums);
        });
    }
    store_sums<R>(a, t, j, n, sums[0]);
}

template <class F>
__attribute__((flatten)) void repack(PanelRows rows, int64_t cols, bool in_file_order, std::byte* to) {
    constexpr int kBlocks = F::kColumns / 32;
    for (int64_t b = 0; b < cols / F::kColumns; ++b) {
        ask_for_next<F>(rows, b, in_file_order);
        F::unpack(rows, b, [&](int i, const Block& block) {
            std::byte* at = to + (b * kBlocks + i) * kBlockVectors<F> * kVectorBytes;
            for (int v = 0; v < 8; ++v) istore(at + v * kVectorBytes, block.w[v]);
            vstore(reinterpret_cast<float*>(at + 8 * kVectorBytes), block.scale);
            if (F::kMin || F::kHalves) vstore(reinterpret_cast<float*>(at + 9 * kVectorBytes), block.second);
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
    Acts x(a, t);
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
        for_each_tile<kDirectRows>(
            a, [&](int64_t t, auto count) { direct<F, decltype(count)::value>(a, rows, j, a.n_out - j, t); });
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
    a.n_rows <= kDirectRows ? few_rows<F>(a) : many_rows<F>(a);
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
