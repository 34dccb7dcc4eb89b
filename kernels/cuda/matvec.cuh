// Products of a few rows (decode): y[r] = W x[r] for up to 8 rows of activations, on tensor cores with f32 sums.
// The 16 rows of a weight tile are the instruction's rows, the activations its 8 columns: so one kernel
// serves any number of rows, and a row's bits do not depend on the others.
//
// A tile's groups of columns are shared by `split` warps of a block, whose sums are added in order; a block works on
// as many tiles at once as that leaves it, and goes from those to others. Every warp has a ring of groups in shared
// memory that it fills by background copies, far ahead: the first ones before grid_wait(), so that memory is busy while
// the kernel before ends. Then the block brings the activations to shared memory, all of them in bf16: with a norm
// folded in, x times the norm's weight, and each sum is multiplied with the row's 1 / rms at the end.
//
// Where tiles are paired (gate and up; the two halves of a rotated head) the block has both and writes what they make.
#pragma once
#include <algorithm>
#include <bit>
#include <climits>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {

struct MatvecArgs {
    DeviceWeight w;
    int n_groups, n_blocks;             // n_blocks: of tiles; the grid's blocks take them in turn
    int split, split_bits, slots_bits;  // split warps a tile, kMatvecWarps / split tiles a block
    int depth;                          // groups of a warp's ring
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
    bool add;                                   // y += W x
    const float* bias;                          // or null
    int n_pairs, up_tiles;                      // kGateUp: tiles of gate
    int head_tiles, half_tiles, rotated_tiles;  // kRotary; head_tiles is even
    const float *cos, *sin;
    int64_t rope_stride;
};

// The tile of a block's slot: a pair's two tiles lie in neighbouring slots.
template <FewRows::Pairing kPairing>
__device__ __forceinline__ int tile_of_slot(const MatvecArgs& a, int slot) {
    if constexpr (kPairing == FewRows::kNone) return slot;
    const int pair = slot / 2, second = slot & 1;
    if (pair >= a.n_pairs) return INT_MAX / kTile - 1;
    if constexpr (kPairing == FewRows::kGateUp) return pair + second * a.up_tiles;
    if (2 * pair >= a.rotated_tiles) return slot;
    const int j = pair % (a.head_tiles / 2), first = 2 * pair - 2 * j;  // tile of the head
    return j < a.half_tiles ? first + j + second * a.half_tiles : first + 2 * j + second;
}

// A lane's part of the activations: row g, or the last one where there is no such row, whose sums nobody asks for.
// Beyond the end, where all weights are zero, stand the last columns.
struct ActivationRow {
    const bfloat* row;
    int cols, t;

    template <bool kSplit>  // formats of split blocks come in groups of 256 columns alone
    __device__ __forceinline__ uint4 block(int column) const {
        if constexpr (kSplit) {
            const bfloat* from = row + column + 4 * t;
            const uint2 a = *reinterpret_cast<const uint2*>(from), b = *reinterpret_cast<const uint2*>(from + 16);
            return make_uint4(a.x, a.y, b.x, b.y);
        }
        return *reinterpret_cast<const uint4*>(row + min(column + 8 * t, cols - 8));
    }
};

// Quantised formats: integers times activations, a block of 32 columns at a time, then its scales.
template <class F>
struct Product {
    using Raw = typename F::Raw;
    static constexpr int kColumns = F::kBlocks * 32;
    static constexpr QuantLayout kLayout = F::kLayout;
    static constexpr int kPieces = F::kPieces;

    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& raw, const DeviceWeight& w, int n_groups, int tile, int group,
                                                 int lane, Fetch f) {
        const int64_t at = static_cast<int64_t>(tile) * n_groups + group;
        F::fetch(raw, w.data + at * kLayout.quant_bytes, w.scales + at * kLayout.scale_bytes, lane, f);
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
    static constexpr int kColumns = 64, kPieces = 4;

    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& raw, const DeviceWeight& w, int, int tile, int group, int lane,
                                                 Fetch f) {
        const int stride = padded_columns(w.cols), t = lane & 3;
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            const int row = min(tile * kTile + lane / 4 + 8 * upper, w.rows - 1);
            const unsigned char* from = w.data + static_cast<int64_t>(row) * stride * 2;
#pragma unroll
            for (int b = 0; b < 2; b++) {
                const int column = group * kColumns + 32 * b + 8 * t;
                f(raw.v[b][upper], from + column * 2, column < w.cols);
            }
        }
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
#pragma unroll 1
        for (int s = 0; s < a.split; s++) v += sums[((slot << a.split_bits) + s) * 128 + at];
        if (a.norm != nullptr) v *= row_scale(a, squares, r);
        return a.bias != nullptr ? v + a.bias[n] : v;
    }
};

// What two tiles make: h = silu(gate) * up, or two rotated values of a head.
template <FewRows::Pairing kPairing>
__device__ __forceinline__ void write_pairs(const MatvecArgs& a, const MatvecSums& value, int block) {
#pragma unroll 1
    for (int o = threadIdx.x; o < (kTile * a.n_rows) << (a.slots_bits - 1); o += kMatvecThreads) {
        const int local = o / kTile & ((1 << (a.slots_bits - 1)) - 1), row = o % kTile,
                  r = o / kTile >> (a.slots_bits - 1);
        const int pair = (block << (a.slots_bits - 1)) + local;
        if (pair >= a.n_pairs) continue;
        const int tile = tile_of_slot<kPairing>(a, 2 * pair), n = tile * kTile + row,
                  m = tile_of_slot<kPairing>(a, 2 * pair + 1) * kTile + row;
        float first = value(2 * local, row, r, n), second = value(2 * local + 1, row, r, m);
        const int64_t to = r * a.y_stride;
        if constexpr (kPairing == FewRows::kGateUp) {
            store_as(a.y_type, a.y, to + n, silu(first) * second);
            continue;
        }
        const int of_head = n % (a.head_tiles * kTile);
        if (m - n == a.half_tiles * kTile && tile < a.rotated_tiles && of_head < a.half_tiles * kTile) {
            const int64_t i = r * a.rope_stride + of_head;
            const float c = a.cos[i], s = a.sin[i], x = first;
            first = x * c - second * s;
            second = second * c + x * s;
        }
        store_as(a.y_type, a.y, to + n, first);
        store_as(a.y_type, a.y, to + m, second);
    }
}

// Where a warp is in its sequence of groups.
template <FewRows::Pairing kPairing>
struct GroupCursor {
    int block, tile, group, first_group;

    __device__ __forceinline__ GroupCursor(const MatvecArgs& a)
        : block(blockIdx.x - gridDim.x), first_group(threadIdx.x / 32 & (a.split - 1)) {
        next_block(a);
    }
    __device__ __forceinline__ bool ended(const MatvecArgs& a) const { return block >= a.n_blocks; }
    __device__ __forceinline__ void next_block(const MatvecArgs& a) {
        block += gridDim.x;
        const int slot = static_cast<int>(threadIdx.x) / 32 >> a.split_bits;
        tile = tile_of_slot<kPairing>(a, (block << a.slots_bits) + slot);
        group = tile * kTile < a.w.rows ? first_group : a.n_groups;
    }
    // To the next group there is; only the last block has slots without a tile.
    __device__ __forceinline__ void advance(const MatvecArgs& a) {
        group += a.split;
        if (group >= a.n_groups) next_block(a);
    }
    __device__ __forceinline__ bool valid(const MatvecArgs& a) const { return !ended(a) && group < a.n_groups; }
};

// All but the newest n groups of copies have arrived.
__device__ __forceinline__ void wait_for_all_but(int n) {
    switch (n) {
        case 0:
            return cp_async_wait<0>();
        case 1:
            return cp_async_wait<1>();
        case 2:
            return cp_async_wait<2>();
        case 3:
            return cp_async_wait<3>();
        case 4:
            return cp_async_wait<4>();
        case 5:
            return cp_async_wait<5>();
        case 6:
            return cp_async_wait<6>();
        default:
            return cp_async_wait<7>();
    }
}
inline constexpr int kMaxDepth = 8;

// The ring of a warp: one group of copies is committed for each group of columns, also where there is none left.
template <class P>
inline constexpr int kGroupBytes = P::kPieces* kPieceBytes;
template <class P, FewRows::Pairing kPairing>
struct GroupRing {
    static constexpr int kBytes = kGroupBytes<P>;
    unsigned char* base;  // of the lane
    GroupCursor<kPairing> to_fetch;
    int at = 0;

    __device__ __forceinline__ GroupRing(const MatvecArgs& a, unsigned char* shared)
        : base(shared + (threadIdx.x / 32 * a.depth) * kBytes + (threadIdx.x & 31) * 16), to_fetch(a) {
#pragma unroll 1
        for (int i = 0; i < a.depth; i++) fetch(a, i);
    }
    __device__ __forceinline__ void fetch(const MatvecArgs& a, int slot) {
        if (to_fetch.valid(a)) {
            typename P::Raw none;
            P::fetch(none, a.w, a.n_groups, to_fetch.tile, to_fetch.group, threadIdx.x & 31,
                     ToShared{base + slot * kBytes});
            to_fetch.advance(a);
        }
        cp_async_commit();
    }
    // f(group's weights); its place is filled again.
    template <class F>
    __device__ __forceinline__ void take(const MatvecArgs& a, F&& f) {
        wait_for_all_but(a.depth - 1);
        typename P::Raw raw;
        P::fetch(raw, a.w, 0, 0, 0, 0, FromShared{base + at * kBytes});
        f(raw);
        fetch(a, at);
        at = at + 1 == a.depth ? 0 : at + 1;
    }
};

template <class P, FewRows::Pairing kPairing>
__global__ void __launch_bounds__(kMatvecThreads, 3) matvec_kernel(const __grid_constant__ MatvecArgs a) {
    __shared__ float sums[2][kMatvecWarps * 128], squares[kMatvecRows * kMatvecWarps];
    grid_dependents();
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, slots_mask = (1 << a.slots_bits) - 1;
    GroupRing<P, kPairing> ring(a, dynamic_shared());
    // The thread's output: slot, row of the tile, row of activations; row of the weight.
    const int slot = threadIdx.x / kTile & slots_mask, row = threadIdx.x % kTile;
    const int r0 = threadIdx.x / kTile >> a.slots_bits, r_step = kMatvecThreads / kTile >> a.slots_bits;
    const auto out = [&](int block) { return ((block << a.slots_bits) + slot) * kTile + row; };
    grid_wait();
    const bool own = kPairing == FewRows::kNone && a.add && r0 < a.n_rows && out(blockIdx.x) < a.w.rows;
    const float old = own ? load_as(a.y_type, a.y, r0 * a.y_stride + out(blockIdx.x)) : 0.0f;
    const auto* rows = static_cast<const bfloat*>(a.x);
    int64_t stride = a.x_stride;
    if (a.shared_stride > 0) {
        auto* shared = reinterpret_cast<bfloat*>(dynamic_shared() + kMatvecWarps * a.depth * kGroupBytes<P>);
        stage_activations(a, shared, squares);
        __syncthreads();
        rows = shared, stride = a.shared_stride;
    }
    const ActivationRow x{rows + min(lane / 4, a.n_rows - 1) * stride, padded_columns(a.w.cols), lane & 3};
    int parity = 0;
#pragma unroll 1
    for (GroupCursor<kPairing> at(a); !at.ended(a); at.next_block(a), parity ^= 1) {
        float sum[4] = {0, 0, 0, 0};
#pragma unroll 1
        for (int group = at.group; group < a.n_groups; group += a.split) {
            ring.take(a, [&](const typename P::Raw& raw) { P::add(raw, x, group * P::kColumns, sum); });
        }
        // Two sets of sums: no thread writes to the one that another still reads.
        *reinterpret_cast<float4*>(&sums[parity][warp * 128 + lane * 4]) = make_float4(sum[0], sum[1], sum[2], sum[3]);
        __syncthreads();
        const MatvecSums value{a, sums[parity], squares};
        if constexpr (kPairing != FewRows::kNone) {
            write_pairs<kPairing>(a, value, at.block);
            continue;
        }
        const int n = out(at.block);
        if (n >= a.w.rows) continue;
#pragma unroll 1
        for (int r = r0; r < a.n_rows; r += r_step) {
            float v = value(slot, row, r, n);
            const int64_t to = r * a.y_stride + n;
            if (a.add) v += at.block == blockIdx.x && r == r0 ? old : load_as(a.y_type, a.y, to);
            store_as(a.y_type, a.y, to, v);
        }
    }
}

// How many warps share a tile: what makes the longest sequence of groups shortest (a block's end costs about one).
inline int matvec_split(int n_blocks, int n_tiles, int n_groups, int most) {
    int best = 1, least = INT_MAX;
    for (int split = 1; split <= most && split <= n_groups; split *= 2) {
        const int slots = kMatvecWarps / split, blocks = (n_tiles + slots - 1) / slots;
        const int work = (blocks + n_blocks - 1) / n_blocks * ((n_groups + split - 1) / split + 1);
        if (work < least) best = split, least = work;
    }
    return best;
}

template <class P>
void launch_matvec(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    MatvecArgs a = {};
    const int n_tiles = (w.rows + kTile - 1) / kTile;
    // Two blocks a multiprocessor with 96 KB of rings each, or one with less where there is not so much shared memory.
    constexpr size_t kRing = 96 << 10;
    const int most_blocks = gpu.n_multiprocessors * (gpu.max_shared > 2 * kRing ? 2 : 1);
    a.w = w;
    a.n_groups = (w.cols + P::kColumns - 1) / P::kColumns;
    a.split =
        matvec_split(most_blocks, n_tiles, a.n_groups, p.pairing == FewRows::kNone ? kMatvecWarps : kMatvecWarps / 2);
    a.n_rows = static_cast<int>(p.x.rows);
    a.x = p.x.data, a.x_stride = p.x.stride, a.x_f16 = p.x.type == DType::kF16;
    a.norm = p.norm, a.eps = p.eps;
    a.gather = p.gather, a.rows = p.rows;
    if (p.gather) a.n_rows = static_cast<int>(p.y.rows);
    a.y = p.y.data, a.y_stride = p.y.stride, a.y_type = p.y.type;
    a.add = p.add, a.bias = p.bias;
    a.n_pairs = n_tiles / 2, a.up_tiles = n_tiles / 2;
    a.head_tiles = p.head_dim / kTile, a.half_tiles = p.rope_half / kTile, a.rotated_tiles = p.rotated_rows / kTile;
    a.cos = p.cos, a.sin = p.sin, a.rope_stride = p.rope_stride;
    const int slots = kMatvecWarps / a.split;
    a.split_bits = std::countr_zero(static_cast<unsigned>(a.split)), a.slots_bits = 3 - a.split_bits;
    a.n_blocks = (n_tiles + slots - 1) / slots;
    const int stride = (w.cols + 63) / 64 * 64 + 32;  // neighbouring rows start in different halves of the banks
    size_t shared = 0;
    if (p.norm != nullptr || stages_activations(w.cols, a.n_rows)) {
        a.shared_stride = stride;
        shared = static_cast<size_t>(a.n_rows * stride) * sizeof(bfloat);
    }
    constexpr size_t kRow = kMatvecWarps * kGroupBytes<P>, kStatic = 12 << 10;
    const size_t room = gpu.max_shared > shared + kStatic ? gpu.max_shared - shared - kStatic : 0;
    a.depth = std::clamp(static_cast<int>(std::min(kRing, room) / kRow), 1, kMaxDepth);
    shared += static_cast<size_t>(a.depth) * kRow;
    const auto start = [&](auto kernel) {
        launch(gpu, dim3(std::min(a.n_blocks, most_blocks)), dim3(kMatvecThreads), shared, kernel, a);
    };
    switch (p.pairing) {
        case FewRows::kNone:
            return start(matvec_kernel<P, FewRows::kNone>);
        case FewRows::kGateUp:
            return start(matvec_kernel<P, FewRows::kGateUp>);
        case FewRows::kRotary:
            return start(matvec_kernel<P, FewRows::kRotary>);
    }
}

}  // namespace samba::cuda
