// Products of a few rows (decode): y[r] = W x[r] for up to 8 rows of activations, on tensor cores with f32 sums.
// The 16 rows of a weight tile are the instruction's rows, the activations its 8 columns (unused ones zero): so one
// kernel serves any number of rows, and a row's bits do not depend on the others.
//
// A tile's groups of columns are shared by `split` warps of a block, whose sums are added in order. Before grid_wait()
// a warp loads its first groups and sends for more of its tile to L2, so that memory is busy while the kernel before
// ends. Then the block brings the activations to shared memory, all of them in bf16: with a norm folded in, x times
// the norm's weight, and each sum is multiplied with the row's 1 / rms at the end.
//
// Where tiles are paired (gate and up; the two halves of a rotated head) the block has both and writes what they make.
#pragma once
#include <algorithm>
#include <climits>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {

struct MatvecArgs {
    DeviceWeight w;
    int n_groups, split;
    int n_rows;
    const void* x;  // bf16 or f16, or f32 with a norm
    bool x_f16;
    int64_t x_stride;
    int shared_stride;  // of the activations in shared memory; 0: they stay where they are
    const float* norm;  // or null
    float eps;
    bool gather;
    RowList8 rows;
    void* y;
    int64_t y_stride;
    DType y_type;
    bool add;           // y += W x
    const float* bias;  // or null
    FewRows::Pairing pairing;
    int n_pairs, up_tiles;                      // kGateUp: tiles of gate
    int head_tiles, half_tiles, rotated_tiles;  // kRotary
    const float *cos, *sin;
    int64_t rope_stride;
    int prefetch_bytes;  // of a tile
};

// The tile of a block's slot: a pair's two tiles lie in neighbouring slots.
__device__ __forceinline__ int tile_of_slot(const MatvecArgs& a, int slot) {
    if (a.pairing == FewRows::kNone) return slot;
    const int pair = slot / 2, second = slot & 1;
    if (pair >= a.n_pairs) return INT_MAX / kTile - 1;
    if (a.pairing == FewRows::kGateUp) return pair + second * a.up_tiles;
    if (2 * pair >= a.rotated_tiles) return slot;
    const int j = pair % (a.head_tiles / 2), first = 2 * pair - 2 * j;  // tile of the head
    return j < a.half_tiles ? first + j + second * a.half_tiles : first + 2 * j + second;
}

// A lane's part of the activations: row g, or zeros when there is no such row. Columns beyond the end are zero.
struct ActivationRow {
    const bfloat* row;
    int cols, t;

    template <bool kSplit>
    __device__ __forceinline__ uint4 block(int column) const {
        uint4 v = make_uint4(0, 0, 0, 0);
        const int c = column + (kSplit ? 4 : 8) * t;
        if (row == nullptr || c >= cols) return v;
        if constexpr (kSplit) {
            const uint2 a = *reinterpret_cast<const uint2*>(row + c), b = *reinterpret_cast<const uint2*>(row + c + 16);
            v = make_uint4(a.x, a.y, b.x, b.y);
        } else {
            v = *reinterpret_cast<const uint4*>(row + c);
        }
        return v;
    }
};

// Quantised formats: integers times activations, a block of 32 columns at a time, then its scales.
template <class F>
struct Product {
    using Raw = typename F::Raw;
    static constexpr int kColumns = F::kBlocks * 32;
    static constexpr QuantLayout kLayout = F::kLayout;
    static constexpr int kDepth = 1, kBlocksPerSm = F::kBlocks == 8 ? 2 : 3;  // groups in flight beside the current one

    static __device__ __forceinline__ Raw load(const DeviceWeight& w, int n_groups, int tile, int group, int lane) {
        const int64_t at = static_cast<int64_t>(tile) * n_groups + group;
        return F::load(w.data + at * kLayout.quant_bytes, w.scales + at * kLayout.scale_bytes, lane);
    }

    static __device__ __forceinline__ void prefetch(const DeviceWeight& w, int n_groups, int tile, int bytes) {
        const int64_t at = static_cast<int64_t>(tile) * n_groups;
        const int n = min(n_groups, bytes / kLayout.quant_bytes);
        if (n == 0) return;
        prefetch_l2(w.data + at * kLayout.quant_bytes, n * kLayout.quant_bytes);
        prefetch_l2(w.scales + at * kLayout.scale_bytes, n * kLayout.scale_bytes);
    }

    static __device__ __forceinline__ void add(const Raw& raw, const ActivationRow& x, int column, float (&sum)[4]) {
#pragma unroll
        for (int b = 0; b < F::kBlocks; b++) {
            const uint4 v = x.block<F::kSplit>(column + 32 * b);
            const Pairs p = F::pairs(raw, b, 0), q = F::pairs(raw, b, 1);
            float first[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
            mma_bf16(first, p.w[0], q.w[0], p.w[1], q.w[1], v.x, v.y);
            mma_bf16(F::kSplit ? second : first, p.w[2], q.w[2], p.w[3], q.w[3], v.z, v.w);
            scale_into(sum, first, F::scale(raw, b, 0, 0), F::scale(raw, b, 0, 1));
            if constexpr (F::kSplit) scale_into(sum, second, F::scale(raw, b, 1, 0), F::scale(raw, b, 1, 1));
            if constexpr (F::kMins) {
                constexpr uint32_t kOnes = 0x3f803f80u;  // the activations' own sums, in the lanes that need them
                float x_sum[4] = {0, 0, 0, 0};
                mma_bf16(x_sum, kOnes, kOnes, kOnes, kOnes, v.x, v.y);
                mma_bf16(x_sum, kOnes, kOnes, kOnes, kOnes, v.z, v.w);
                scale_into(sum, x_sum, -F::min(raw, b, 0), -F::min(raw, b, 1));
            }
        }
    }

    static __device__ __forceinline__ void scale_into(float (&sum)[4], const float (&part)[4], float g, float g8) {
        sum[0] = fmaf(g, part[0], sum[0]);
        sum[1] = fmaf(g, part[1], sum[1]);
        sum[2] = fmaf(g8, part[2], sum[2]);
        sum[3] = fmaf(g8, part[3], sum[3]);
    }
};

// 16-bit rows as they lie in the file, padded to a multiple of 8 values.
struct RowsRaw {
    uint4 v[2][2];  // block, row g or g + 8
};
struct RowsProduct {
    using Raw = RowsRaw;
    static constexpr int kColumns = 64, kDepth = 2, kBlocksPerSm = 3;

    // The tile's rows lie one after another; all of them are begun, each to the same column.
    static __device__ __forceinline__ void prefetch(const DeviceWeight& w, int, int tile, int bytes) {
        const int row_bytes = padded_columns(w.cols) * 2, n = min(kTile, w.rows - tile * kTile);
        const unsigned char* from = w.data + static_cast<int64_t>(tile) * kTile * row_bytes;
        if (bytes >= n * row_bytes) return prefetch_l2(from, n * row_bytes);
        const int each = bytes / kTile / 128 * 128;
        for (int r = 0; r < n && each > 0; r++) prefetch_l2(from + r * row_bytes, each);
    }

    static __device__ __forceinline__ Raw load(const DeviceWeight& w, int, int tile, int group, int lane) {
        const int stride = padded_columns(w.cols), t = lane & 3;
        Raw raw;
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            const int row = min(tile * kTile + lane / 4 + 8 * upper, w.rows - 1);
            const unsigned char* from = w.data + static_cast<int64_t>(row) * stride * 2;
#pragma unroll
            for (int b = 0; b < 2; b++) {
                const int column = group * kColumns + 32 * b + 8 * t;
                raw.v[b][upper] = column < w.cols ? load_stream(from + column * 2) : make_uint4(0, 0, 0, 0);
            }
        }
        return raw;
    }
};

struct Bf16Product : RowsProduct {
    static __device__ __forceinline__ void add(const Raw& raw, const ActivationRow& x, int column, float (&sum)[4]) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const uint4 v = x.block<false>(column + 32 * b), p = raw.v[b][0], q = raw.v[b][1];
            mma_bf16(sum, p.x, q.x, p.y, q.y, v.x, v.y);
            mma_bf16(sum, p.z, q.z, p.w, q.w, v.z, v.w);
        }
    }
};

// An f16 is the sum of two bf16, exactly (11 bits in 8 + 3).
struct F16Product : RowsProduct {
    static __device__ __forceinline__ void add(const Raw& raw, const ActivationRow& x, int column, float (&sum)[4]) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const uint4 v = x.block<false>(column + 32 * b);
            const Two p0 = split(raw.v[b][0].x), p1 = split(raw.v[b][0].y), p2 = split(raw.v[b][0].z),
                      p3 = split(raw.v[b][0].w);
            const Two q0 = split(raw.v[b][1].x), q1 = split(raw.v[b][1].y), q2 = split(raw.v[b][1].z),
                      q3 = split(raw.v[b][1].w);
            mma_bf16(sum, p0.high, q0.high, p1.high, q1.high, v.x, v.y);
            mma_bf16(sum, p0.low, q0.low, p1.low, q1.low, v.x, v.y);
            mma_bf16(sum, p2.high, q2.high, p3.high, q3.high, v.z, v.w);
            mma_bf16(sum, p2.low, q2.low, p3.low, q3.low, v.z, v.w);
        }
    }

    struct Two {
        uint32_t high, low;
    };
    static __device__ __forceinline__ Two split(uint32_t pair) {
        const float2 f = floats_of_f16(pair);
        Two r;
        r.high = pack_bf16(f.x, f.y);
        r.low = pack_bf16(f.x - low_bf16(r.high), f.y - high_bf16(r.high));
        return r;
    }
};

inline constexpr int kMatvecWarps = 8, kMatvecThreads = kMatvecWarps * 32;

__device__ __forceinline__ uint32_t f16_as_bf16(uint32_t pair) { return pack_bf16(low_f16(pair), high_f16(pair)); }

// The activations as bf16 in shared memory; with a norm, squares[r][warp] are parts of each row's sum of squares.
__device__ __forceinline__ void stage_activations(const MatvecArgs& a, bfloat* to, float* squares) {
    if (a.norm == nullptr) {
        const int vectors = a.w.cols / 8;
        for (int r = 0; r < a.n_rows; r++) {
            const auto* from = reinterpret_cast<const uint4*>(static_cast<const bfloat*>(a.x) + r * a.x_stride);
            auto* row = reinterpret_cast<uint4*>(to + r * a.shared_stride);
#pragma unroll 4
            for (int i = threadIdx.x; i < vectors; i += kMatvecThreads) {
                const uint4 v = from[i];
                row[i] =
                    a.x_f16 ? make_uint4(f16_as_bf16(v.x), f16_as_bf16(v.y), f16_as_bf16(v.z), f16_as_bf16(v.w)) : v;
            }
        }
        return;
    }
    for (int r = 0; r < a.n_rows; r++) {
        const auto* from = static_cast<const float*>(a.x) + (a.gather ? a.rows.row[r] : r) * a.x_stride;
        float sum = 0;
#pragma unroll 3
        for (int i = 4 * threadIdx.x; i < a.w.cols; i += 4 * kMatvecThreads) {
            const float4 v = *reinterpret_cast<const float4*>(from + i),
                         w = *reinterpret_cast<const float4*>(a.norm + i);
            sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
            *reinterpret_cast<uint2*>(to + r * a.shared_stride + i) =
                make_uint2(pack_bf16(v.x * w.x, v.y * w.y), pack_bf16(v.z * w.z, v.w * w.w));
        }
        sum = warp_sum(sum);
        if ((threadIdx.x & 31) == 0) squares[r * kMatvecWarps + threadIdx.x / 32] = sum;
    }
}

__device__ __forceinline__ float row_scale(const MatvecArgs& a, const float* squares, int r) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kMatvecWarps; w++) sum += squares[r * kMatvecWarps + w];
    return 1.0f / sqrtf(sum / static_cast<float>(a.w.cols) + a.eps);
}

// Row `row` of a slot's tile for activation row r: the warps' sums in order, the row's scale, the bias.
struct MatvecSums {
    const MatvecArgs& a;
    const float *sums, *squares;

    __device__ __forceinline__ float operator()(int slot, int row, int r, int n) const {
        const int at = ((row & 7) * 4 + r / 2) * 4 + (row >> 3) * 2 + (r & 1);
        float v = 0;
        for (int s = 0; s < a.split; s++) v += sums[(slot * a.split + s) * 128 + at];
        if (a.norm != nullptr) v *= row_scale(a, squares, r);
        return a.bias != nullptr ? v + a.bias[n] : v;
    }
};

// What two tiles make: h = silu(gate) * up, or two rotated values of a head.
__device__ __forceinline__ void write_pairs(const MatvecArgs& a, const MatvecSums& value, int slots) {
    for (int o = threadIdx.x; o < slots / 2 * 128; o += kMatvecThreads) {
        const int slot = o / 128 * 2, row = o % kTile, r = o / kTile % 8;
        const int pair = (blockIdx.x * slots + slot) / 2;
        if (pair >= a.n_pairs || r >= a.n_rows) continue;
        const int tile = tile_of_slot(a, 2 * pair), n = tile * kTile + row,
                  m = tile_of_slot(a, 2 * pair + 1) * kTile + row;
        float first = value(slot, row, r, n), second = value(slot + 1, row, r, m);
        const int64_t to = r * a.y_stride;
        if (a.pairing == FewRows::kGateUp) {
            store_as(a.y_type, a.y, to + n, silu(first) * second);
            continue;
        }
        if (m - n == a.half_tiles * kTile && tile < a.rotated_tiles && tile % a.head_tiles < a.half_tiles) {
            const int64_t i = r * a.rope_stride + n % (a.head_tiles * kTile);
            const float c = a.cos[i], s = a.sin[i], x = first;
            first = x * c - second * s;
            second = second * c + x * s;
        }
        store_as(a.y_type, a.y, to + n, first);
        store_as(a.y_type, a.y, to + m, second);
    }
}

template <class P>
__global__ void __launch_bounds__(kMatvecThreads, P::kBlocksPerSm) matvec_kernel(const __grid_constant__ MatvecArgs a) {
    __shared__ float sums[kMatvecWarps * 128], squares[kMatvecRows * kMatvecWarps];
    grid_dependents();
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const int slots = kMatvecWarps / a.split;  // of this block
    const int tile = tile_of_slot(a, blockIdx.x * slots + warp / a.split);
    const int n_groups = tile * kTile < a.w.rows ? a.n_groups : 0;
    int group = warp % a.split;
    if (lane == 0 && group == 0 && n_groups > 0) P::prefetch(a.w, n_groups, tile, a.prefetch_bytes);
    typename P::Raw raw[P::kDepth];
#pragma unroll
    for (int d = 0; d < P::kDepth; d++) {
        if (group + d * a.split < n_groups) raw[d] = P::load(a.w, a.n_groups, tile, group + d * a.split, lane);
    }
    grid_wait();
    const auto out = [&](int o) { return (blockIdx.x * slots + o / 128) * kTile + o % kTile; };
    const int own_row = threadIdx.x / kTile % 8;
    const bool own = a.add && threadIdx.x < slots * 128 && out(threadIdx.x) < a.w.rows && own_row < a.n_rows;
    const float old = own ? load_as(a.y_type, a.y, own_row * a.y_stride + out(threadIdx.x)) : 0.0f;
    const auto* rows = static_cast<const bfloat*>(a.x);
    int64_t stride = a.x_stride;
    if (a.shared_stride > 0) {
        auto* shared = dynamic_shared<bfloat>();
        stage_activations(a, shared, squares);
        __syncthreads();
        rows = shared, stride = a.shared_stride;
    }
    const ActivationRow x{lane / 4 < a.n_rows ? rows + lane / 4 * stride : nullptr, a.w.cols, lane & 3};
    float sum[4] = {0, 0, 0, 0};
    while (group < n_groups) {
#pragma unroll
        for (int d = 0; d < P::kDepth; d++) {
            if (group >= n_groups) break;
            const typename P::Raw now = raw[d];
            const int next = group + P::kDepth * a.split;
            if (next < n_groups) raw[d] = P::load(a.w, a.n_groups, tile, next, lane);
            P::add(now, x, group * P::kColumns, sum);
            group += a.split;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) sums[warp * 128 + lane * 4 + i] = sum[i];
    __syncthreads();
    const MatvecSums value{a, sums, squares};
    if (a.pairing != FewRows::kNone) return write_pairs(a, value, slots);
    for (int o = threadIdx.x; o < slots * 128; o += kMatvecThreads) {
        const int n = out(o), r = o / kTile % 8;
        if (n >= a.w.rows || r >= a.n_rows) continue;
        float v = value(o / 128, o % kTile, r, n);
        const int64_t to = r * a.y_stride + n;
        if (a.add) v += o == threadIdx.x ? old : load_as(a.y_type, a.y, to);
        store_as(a.y_type, a.y, to, v);
    }
}

// How many warps share a tile: enough warps to fill the device, and no warp without a group.
inline int matvec_split(const Gpu& gpu, int n_tiles, int n_groups, int most) {
    int split = 1;
    while (split < most && 2 * split <= n_groups && n_tiles * split < 16 * gpu.n_multiprocessors) split *= 2;
    return split;
}

template <class P>
void launch_matvec(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    constexpr int64_t kPrefetch = 4 << 20;  // bytes on their way to L2, of all resident tiles
    MatvecArgs a = {};
    const int n_tiles = (w.rows + kTile - 1) / kTile;
    a.w = w;
    a.n_groups = (w.cols + P::kColumns - 1) / P::kColumns;
    a.split = matvec_split(gpu, n_tiles, a.n_groups, p.pairing == FewRows::kNone ? kMatvecWarps : kMatvecWarps / 2);
    a.n_rows = static_cast<int>(p.x.rows);
    a.x = p.x.data, a.x_stride = p.x.stride, a.x_f16 = p.x.type == DType::kF16;
    a.norm = p.norm, a.eps = p.eps;
    a.gather = p.gather, a.rows = p.rows;
    if (p.gather) a.n_rows = static_cast<int>(p.y.rows);
    a.y = p.y.data, a.y_stride = p.y.stride, a.y_type = p.y.type;
    a.add = p.add, a.bias = p.bias;
    a.pairing = p.pairing;
    a.n_pairs = n_tiles / 2, a.up_tiles = n_tiles / 2;
    a.head_tiles = p.head_dim / kTile, a.half_tiles = p.rope_half / kTile, a.rotated_tiles = p.rotated_rows / kTile;
    a.cos = p.cos, a.sin = p.sin, a.rope_stride = p.rope_stride;
    const int slots = kMatvecWarps / a.split, blocks = (n_tiles + slots - 1) / slots;
    const int resident = std::min(n_tiles, 3 * gpu.n_multiprocessors * slots);
    a.prefetch_bytes = gpu.dependent_launch ? static_cast<int>(std::min<int64_t>(kPrefetch / resident, 1 << 20)) : 0;
    const int stride = (w.cols + 63) / 64 * 64 + 32;  // neighbouring rows start in different halves of the banks
    size_t shared = 0;
    if (p.norm != nullptr || stages_activations(w.cols, a.n_rows)) {
        a.shared_stride = stride;
        shared = static_cast<size_t>(a.n_rows * stride) * sizeof(bfloat);
    }
    launch(gpu, dim3(blocks), dim3(kMatvecThreads), shared, matvec_kernel<P>, a);
}

}  // namespace samba::cuda
