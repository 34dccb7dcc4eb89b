// Products of a few rows (decode): y[r] = W x[r] for up to 16 rows of activations, on tensor cores with f32 sums.
// The 16 rows of a weight tile are the instruction's rows, eight activations its columns, one or two times: a row's
// bits do not depend on the others.
//
// A tile's groups of columns are shared by `split` warps of a block, whose sums are added in order; a block works on
// as many tiles at once as that leaves it, and goes from those to others. Every warp has a ring of groups in shared
// memory that it fills by background copies, far ahead: the first ones before grid_wait(), so that memory is busy while
// the kernel before ends. Then the block brings the activations to shared memory: with a norm folded in, x times the
// norm's weight, and each sum is multiplied with the row's 1 / rms at the end.
//
// Where tiles are paired (gate and up; the two halves of a rotated head) the block has both and writes what they make.
#pragma once
#include <algorithm>
#include <bit>
#include <climits>
#include <type_traits>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/normed_rows.cuh"

namespace samba::cuda {

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

// Computed here, and kept: the compiler would rather compute a value where it is used, after the kernel's wait.
__device__ __forceinline__ void keep(int& v) { asm volatile("" : "+r"(v)); }
template <class T>
__device__ __forceinline__ void keep(T*& p) {
    asm volatile("" : "+l"(p));
}

// An output: row `row` of a slot's tile for activation row r: the warps' sums in order, the row's scale, the bias.
template <int kRows>
class MatvecSums {
  public:
    static constexpr int kOfWarp = 128 * ((kRows + 7) / 8);

    // scales: of the rows; of a single one it is one_scale.
    __device__ __forceinline__ MatvecSums(const MatvecArgs& args, const float* sums, const float* scales,
                                          float one_scale)
        : a_(args), sums_(sums), scales_(scales), one_scale_(one_scale) {}
    // Where the sums lie.
    static __device__ __forceinline__ int at(const MatvecArgs& a, int slot, int row, int r) {
        return (slot << a.split_bits) * kOfWarp + r / 8 * 128 + ((row & 7) * 4 + r % 8 / 2) * 4 + (row >> 3) * 2 +
               (r & 1);
    }
    // n: row of the weight.
    __device__ __forceinline__ float operator()(int at, int r, int n) const {
        const float* from = sums_ + at;
        float v = 0;
        add_parts<0, 4>(from, v);
        if (a_.split > 4) add_parts<4, kMaxWarps>(from, v);
        if (a_.norm != nullptr) v *= kRows == 1 ? one_scale_ : scales_[r];
        return a_.bias != nullptr ? v + a_.bias[n] : v;
    }

  private:
    // All of them under way at once.
    template <int kFirst, int kEnd>
    __device__ __forceinline__ void add_parts(const float* from, float& v) const {
        float parts[kEnd - kFirst];
#pragma unroll
        for (int s = kFirst; s < kEnd; s++) parts[s - kFirst] = s < a_.split ? from[s * kOfWarp] : 0.0f;
#pragma unroll
        for (const float part : parts) v += part;
    }
    const MatvecArgs& a_;
    const float *sums_, *scales_;
    float one_scale_;
};

// What two tiles make: h = silu(gate) * up, or two rotated values of a head.
template <FewRows::Pairing kPairing, class Sums>
struct PairOutput {
    int r, n, m, at[2];  // row of activations, rows of the weight, their sums
    bool there, turns = false;
    int angle = 0;
    float cos = 1, sin = 0;

    // The o-th of the block's.
    __device__ __forceinline__ PairOutput(const MatvecArgs& a, int block, int o) {
        const int bits = a.slots_bits - 1, pair = (block << bits) + (o / kTile & ((1 << bits) - 1));
        const int local = pair - (block << bits), row = o % kTile;
        r = o / kTile >> bits;
        at[0] = Sums::at(a, 2 * local, row, r), at[1] = Sums::at(a, 2 * local + 1, row, r);
        there = r < a.n_rows && pair < a.n_pairs;
        const int tile = tile_of_slot<kPairing>(a, 2 * pair);
        n = tile * kTile + row, m = tile_of_slot<kPairing>(a, 2 * pair + 1) * kTile + row;
        if (kPairing != FewRows::kRotary || !there) return;
        const int of_head = n % (a.head_tiles * kTile), half = a.half_tiles * kTile;
        if (m - n != half || tile >= a.rotated_tiles || of_head >= half) return;
        turns = true, angle = of_head;
    }
    __device__ __forceinline__ void keep_places() { keep(n), keep(m), keep(at[0]), keep(at[1]); }
    // What this step's embed has made.
    __device__ __forceinline__ void load(const MatvecArgs& a) {
        if (turns) cos = a.cos[r * a.rope_stride + angle], sin = a.sin[r * a.rope_stride + angle];
    }
    __device__ __forceinline__ void write(const MatvecArgs& a, const Sums& value) const {
        if (!there) return;
        const float first = value(at[0], r, n), second = value(at[1], r, m);
        const int64_t to = r * a.y_stride;
        if constexpr (kPairing == FewRows::kGateUp) {
            store_as(a.y_type, a.y, to + n, silu(first) * second);
        } else {
            store_as(a.y_type, a.y, to + n, turns ? first * cos - second * sin : first);
            store_as(a.y_type, a.y, to + m, turns ? second * cos + first * sin : second);
        }
    }
};

// Tiles that are not paired have none.
template <class Sums>
struct PairOutput<FewRows::kNone, Sums> {
    __device__ __forceinline__ PairOutput(const MatvecArgs&, int, int) {}
    __device__ __forceinline__ void keep_places() {}
    __device__ __forceinline__ void load(const MatvecArgs&) {}
};

// Where a warp is in its sequence of groups. Of a tile it has neighbours, or, of rows, every split-th.
template <class P, FewRows::Pairing kPairing>
struct GroupCursor {
    int block, tile, group, end;  // end: of the warp's groups

    __device__ __forceinline__ GroupCursor(const MatvecArgs& a) : block(blockIdx.x - gridDim.x) { next_block(a); }
    static __device__ __forceinline__ int step(const MatvecArgs& a) { return P::kBulk ? 1 : a.split; }
    __device__ __forceinline__ bool ended(const MatvecArgs& a) const { return block >= a.n_blocks; }
    __device__ __forceinline__ void next_block(const MatvecArgs& a) {
        block += gridDim.x;
        const int slot = static_cast<int>(threadIdx.x) / 32 >> a.split_bits;
        tile = tile_of_slot<kPairing>(a, (block << a.slots_bits) + slot);
        const int part = threadIdx.x / 32 & (a.split - 1);
        group = P::kBulk ? part * a.n_groups >> a.split_bits : part;
        end = tile * kTile >= a.w.rows ? 0 : P::kBulk ? (part + 1) * a.n_groups >> a.split_bits : a.n_groups;
    }
    __device__ __forceinline__ bool valid(const MatvecArgs& a) const { return !ended(a) && group < end; }
};

// All but the newest n groups of copies have arrived.
__device__ __forceinline__ void wait_for_all_but(int n) {
    if (n == 5) return cp_async_wait<5>();
    if (n == 3) return cp_async_wait<3>();
    if (n == 2) return cp_async_wait<2>();
    if (n == 4) return cp_async_wait<4>();
    if (n == 1) return cp_async_wait<1>();
    cp_async_wait<0>();
}
inline constexpr int kMaxDepth = 6;

template <class P>
inline constexpr int kGroupBytes = P::kPieces* kPieceBytes;

// The ring of a warp, filled by copies of its lanes: one group of copies is committed for each group of columns, also
// where there is none left.
template <class P, FewRows::Pairing kPairing>
struct LaneRing {
    unsigned char* base;  // of the lane
    GroupCursor<P, kPairing> to_fetch;
    typename P::Source source;  // of the group to fetch
    int at = 0;

    __device__ __forceinline__ LaneRing(const MatvecArgs& a, unsigned char* shared, uint64_t*)
        : base(shared + threadIdx.x / 32 * a.depth * a.place_bytes + (threadIdx.x & 31) * 16), to_fetch(a) {
        if (to_fetch.valid(a)) source = P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group);
#pragma unroll 1
        for (int i = 0; i < a.depth; i++) fetch(a, i);
    }
    __device__ __forceinline__ void fetch(const MatvecArgs& a, int place) {
        if (to_fetch.valid(a)) {
            typename P::Raw none;
            P::fetch(none, source, ToShared{base + place * a.place_bytes});
            to_fetch.group += to_fetch.step(a);
            P::step(source, to_fetch.step(a));
            if (to_fetch.group >= to_fetch.end) {  // only the last block has slots without a tile
                to_fetch.next_block(a);
                if (to_fetch.valid(a)) source = P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group);
            }
        }
        cp_async_commit();
    }
    // f(group's weights); its place is filled again.
    template <class F>
    __device__ __forceinline__ void take(const MatvecArgs& a, F&& f) {
        wait_for_all_but(a.depth - 1);
        typename P::Raw raw;
        P::fetch(raw, typename P::Source(), FromShared{base + at * a.place_bytes});
        f(raw);
        fetch(a, at);
        at = at + 1 == a.depth ? 0 : at + 1;
    }
};

// The same, filled by the copy engine, at the word of lane 0. full: a barrier for each place.
template <class P, FewRows::Pairing kPairing>
struct BulkRing {
    unsigned char* base;
    uint64_t* full;
    GroupCursor<P, kPairing> to_fetch;
    int at = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ BulkRing(const MatvecArgs& a, unsigned char* shared, uint64_t* barriers)
        : base(shared + threadIdx.x / 32 * a.depth * P::kBytes),
          full(barriers + threadIdx.x / 32 * kMaxDepth),
          to_fetch(a) {
        keep(full);
        if ((threadIdx.x & 31) == 0) {
#pragma unroll 1
            for (int i = 0; i < a.depth; i++) init_copies(full + i);
#pragma unroll 1  // a tile's in one copy, for which their first place waits
            for (int i = 0, n; i < a.depth && to_fetch.valid(a); i += n) {
                n = min(a.depth - i, to_fetch.end - to_fetch.group);
#pragma unroll 1
                for (int k = 1; k < n; k++) arrive(full + i + k);
                fetch(a, i, n);
            }
        }
        __syncwarp();
    }
    // The next n groups, of one tile, to the places from `place` on.
    __device__ __forceinline__ void fetch(const MatvecArgs& a, int place, int n) {
        if (!to_fetch.valid(a)) return;
        const auto bytes = static_cast<uint32_t>(n * P::kBytes);
        arrive_and_expect(full + place, bytes);
        constexpr bool kOnce = P::kRows == 1;  // more rows than one product takes read the weights again
        copy_bulk<kOnce>(base + place * P::kBytes, P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group), bytes,
                         full + place);
        to_fetch.group += n;
        if (to_fetch.group >= to_fetch.end) to_fetch.next_block(a);
    }
    template <class F>
    __device__ __forceinline__ void take(const MatvecArgs& a, F&& f) {
        wait_for_copies(full + at, parity);
        typename P::Raw raw;
        P::load(raw, base + at * P::kBytes);
        f(raw);
        __syncwarp();  // all lanes have read it
        if ((threadIdx.x & 31) == 0) fetch(a, at, 1);
        if (++at == a.depth) at = 0, parity ^= 1;
    }
};

// Weights whose groups lie in whole pieces come by the copy engine where there is one.
template <class P, FewRows::Pairing kPairing>
using GroupRing = std::conditional_t<P::kBulk && kNine, BulkRing<P, kPairing>, LaneRing<P, kPairing>>;
template <class P>
int place_bytes(const Gpu& gpu) {
    if constexpr (P::kBulk) {
        if (gpu.nine) return P::kBytes;
    }
    return kGroupBytes<P>;
}

template <class P, FewRows::Pairing kPairing>
__global__ void __launch_bounds__(kMaxWarps * 32, 1) matvec_kernel(const __grid_constant__ MatvecArgs a) {
    using Sums = MatvecSums<P::kRows>;
    constexpr int kEights = (P::kRows + 7) / 8;
    __shared__ float sums[2][kMaxWarps * Sums::kOfWarp];
    __shared__ __align__(16) float squares[8 * kEights * kMaxWarps];
    __shared__ float scales[8 * kEights];
    __shared__ uint64_t full[kMaxWarps * kMaxDepth];
    grid_dependents();
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, slots_mask = (1 << a.slots_bits) - 1;
    GroupRing<P, kPairing> ring(a, dynamic_shared(), full);
    // Everything that can be known before the wait is.
    typename P::Activations x(a, dynamic_shared() + blockDim.x / 32 * a.depth * a.place_bytes);
    GroupCursor<P, kPairing> at(a);
    // The thread's first output: slot, row of the tile, row of activations; row of the weight.
    const int slot = threadIdx.x / kTile & slots_mask, row = threadIdx.x % kTile;
    const int r_step = blockDim.x / kTile >> a.slots_bits;
    int r0 = threadIdx.x / kTile >> a.slots_bits, n = ((blockIdx.x << a.slots_bits) + slot) * kTile + row;
    int sums_at = Sums::at(a, slot, row, r0);
    PairOutput<kPairing, Sums> pair(a, blockIdx.x, threadIdx.x);
    keep(at.group), keep(at.end), pair.keep_places();
    if constexpr (kPairing == FewRows::kNone) keep(r0), keep(n), keep(sums_at);
    const bool hands_on = P::kRows > 1 && a.next != nullptr;
    const float next_weight = hands_on && n < a.w.rows ? a.next_norm[n] : 0.0f;
    grid_wait();
    const bool own = kPairing == FewRows::kNone && a.add && r0 < a.n_rows && n < a.w.rows;
    const float old = own ? static_cast<const float*>(a.y)[r0 * a.y_stride + n] : 0.0f;
    pair.load(a);
    x.bring(a, squares);
    const float one_scale = P::kRows == 1 && a.norm != nullptr ? row_scale(a, squares, 0) : 0.0f;
    if (P::kRows > 1 && a.norm != nullptr && static_cast<int>(threadIdx.x) < a.n_rows) {
        scales[threadIdx.x] = row_scale(a, squares, threadIdx.x);  // read behind the sums' barrier
    }
    int parity = 0;
#pragma unroll 1
    for (; !at.ended(a); at.next_block(a), parity ^= 1, n += (gridDim.x << a.slots_bits) * kTile) {
        float sum[kEights][4] = {};
#pragma unroll 1
        for (int group = at.group; group < at.end; group += at.step(a)) {
            const auto columns = P::columns(x, group);  // on their way, if they are not in shared memory
            ring.take(a, [&](const typename P::Raw& raw) { P::add(raw, x, columns, group, sum); });
        }
        // Two sets of sums: no thread writes to the one that another still reads.
#pragma unroll
        for (int e = 0; e < kEights; e++) {
            *reinterpret_cast<float4*>(&sums[parity][warp * Sums::kOfWarp + e * 128 + lane * 4]) =
                make_float4(sum[e][0], sum[e][1], sum[e][2], sum[e][3]);
        }
        __syncthreads();
        const Sums value(a, sums[parity], scales, one_scale);
        if constexpr (kPairing != FewRows::kNone) {
            if (at.block == blockIdx.x) pair.write(a, value);
            const int n_outputs = (kTile * a.n_rows) << (a.slots_bits - 1);
            const int first = at.block == blockIdx.x ? threadIdx.x + blockDim.x : threadIdx.x;
#pragma unroll 1
            for (int o = first; o < n_outputs; o += blockDim.x) {
                PairOutput<kPairing, Sums> output(a, at.block, o);
                output.load(a);
                output.write(a, value);
            }
            continue;
        }
        const bool there = n < a.w.rows;
        if (!there && !hands_on) continue;
#pragma unroll 1
        for (int r = r0; r < a.n_rows; r += r_step) {
            float v = 0;
            if (there) {
                v = value(r == r0 ? sums_at : Sums::at(a, slot, row, r), r, n);
                const int64_t to = r * a.y_stride + n;
                if (a.add) v += at.block == blockIdx.x && r == r0 ? old : static_cast<const float*>(a.y)[to];
                store_as(a.y_type, a.y, to, v);
            }
            if (P::kRows == 1) break;
            if (hands_on) hand_on(a, r, n, v, at.block == blockIdx.x ? next_weight : there ? a.next_norm[n] : 0.0f);
        }
    }
}

// How many warps share a tile: what makes the longest sequence of groups shortest (a block's end costs about one).
inline int matvec_split(int n_warps, int n_blocks, int n_tiles, int n_groups, int most) {
    int best = 1, least = INT_MAX;
    for (int split = 1; split <= most && split <= n_groups; split *= 2) {
        const int slots = n_warps / split, blocks = (n_tiles + slots - 1) / slots;
        const int work = (blocks + n_blocks - 1) / n_blocks * ((n_groups + split - 1) / split + 1);
        if (work < least) best = split, least = work;
    }
    return best;
}

// One block a multiprocessor, of 16 warps where there is much shared memory. How a sum is split depends on that and on
// the weight alone, never on the number of rows: a row has the same bits in any company.
inline int matvec_warps(const Gpu& gpu) { return gpu.max_shared > (200 << 10) ? kMaxWarps : kMaxWarps / 2; }

// What is left of a block's shared memory for its rings: beside the activations the sums of all warps, declared by the
// kernel, and its alignment.
template <class P>
size_t ring_room(const Gpu& gpu, size_t activations) {
    const size_t sums = size_t{2 * kMaxWarps} * 128 * sizeof(float) * ((P::kRows + 7) / 8);
    const size_t taken = activations + sums + (3 << 10);
    return gpu.max_shared > taken ? gpu.max_shared - taken : 0;
}
// Groups that a warp's ring holds at most, of so many that it takes in all. What the kernel waits for, its activations,
// comes later the more weights are under way. Measured on an H200: of quantised weights, all sent for at once, 80 KB a
// block are best (112 where a weight has eight bits), or two groups; rows of 16 bits want long rings, but where those
// would just hold all of them, a few are better left for later.
template <class P>
int ring_depth(const Gpu& gpu, size_t ring_row, int groups) {
    if constexpr (P::kBulk) {
        const size_t room = (P::kLayout.quant_bytes == kTile * P::kLayout.columns ? 112 : 80) << 10;
        if (gpu.nine) return std::clamp(static_cast<int>(room / ring_row), 2, kMaxDepth);
    }
    return groups > 4 && groups <= kMaxDepth ? 4 : kMaxDepth;
}
template <class P>
bool matvec_fits(const Gpu& gpu, int cols, int n_rows) {
    const auto row = static_cast<size_t>(matvec_warps(gpu) * place_bytes<P>(gpu));
    return ring_room<P>(gpu, P::Activations::bytes(cols, n_rows)) >= row;
}

template <class P>
void launch_matvec(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    MatvecArgs a = {};
    const int n_tiles = (w.rows + kTile - 1) / kTile, n_warps = matvec_warps(gpu);
    a.w = w;
    a.n_groups = (w.cols + P::kColumns - 1) / P::kColumns;
    a.n_rows = p.n_rows();
    a.staged = P::Activations::kAlwaysStaged || p.norm != nullptr || stages_activations(gpu, w.cols, a.n_rows);
    const size_t activations = a.staged ? P::Activations::bytes(w.cols, a.n_rows) : 0;
    const auto ring_row = static_cast<size_t>(n_warps * place_bytes<P>(gpu));
    a.place_bytes = place_bytes<P>(gpu);
    a.split = matvec_split(n_warps, gpu.n_multiprocessors, n_tiles, a.n_groups,
                           p.pairing == FewRows::kNone ? n_warps : n_warps / 2);
    a.x = p.x.data, a.x_stride = static_cast<int>(p.x.stride), a.x_f16 = p.x.type == DType::kF16;
    a.norm = p.norm, a.eps = p.eps, a.per_column = 1.0f / static_cast<float>(w.cols);
    a.gather = p.gather, a.rows = p.rows;
    a.y = p.y.data, a.y_stride = static_cast<int>(p.y.stride), a.y_type = p.y.type;
    a.add = p.add, a.bias = p.bias;
    a.n_pairs = n_tiles / 2, a.up_tiles = n_tiles / 2;
    a.head_tiles = p.head_dim / kTile, a.half_tiles = p.rope_half / kTile, a.rotated_tiles = p.rotated_rows / kTile;
    a.cos = p.cos, a.sin = p.sin, a.rope_stride = static_cast<int>(p.rope_stride);
    const int slots = n_warps / a.split;
    a.split_bits = std::countr_zero(static_cast<unsigned>(a.split));
    a.slots_bits = std::countr_zero(static_cast<unsigned>(slots));
    a.n_blocks = (n_tiles + slots - 1) / slots;
    const int turns = (a.n_blocks + gpu.n_multiprocessors - 1) / gpu.n_multiprocessors;
    const int most = ring_depth<P>(gpu, ring_row, turns * ((a.n_groups + a.split - 1) / a.split));
    a.depth = std::clamp(static_cast<int>(ring_room<P>(gpu, activations) / ring_row), 1, most);
    // Of many values a kernel of its own makes what is to come to shared memory, once, where the product before has
    // not: all blocks would take longer over it.
    constexpr int kFewValues = 12288;
    a.next = p.next, a.next_norm = p.next_norm;
    if (p.handed_on != nullptr) {
        a.prepared = p.handed_on, a.by_maker = true;
    } else if ((P::kPrepares || p.norm != nullptr) && P::kRows > 1 && a.n_rows * w.cols > kFewValues) {
        launch(gpu, dim3(a.n_rows), dim3(n_warps * 32), 0, P::kPrepare, a, p.workspace);
        a.prepared = p.workspace;
    }
    const auto start = [&](auto kernel) {
        launch(gpu, dim3(std::min(a.n_blocks, gpu.n_multiprocessors)), dim3(n_warps * 32),
               activations + static_cast<size_t>(a.depth) * ring_row, kernel, a);
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
