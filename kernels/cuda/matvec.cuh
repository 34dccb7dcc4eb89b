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
#include "kernels/cuda/matvec_ring.cuh"
#include "kernels/cuda/normed_rows.cuh"

namespace samba::cuda {

// What the warps make of their groups, in shared memory, and an output of it: row `row` of a slot's tile for activation
// row r: the warps' sums in order, the row's scale, the bias.
template <class P>
class MatvecSums {
  public:
    static constexpr int kOfWarp = P::kQuarters ? kTile * 4 : 128 * ((P::kRows + 7) / 8);

    // scales: of the rows; of a single one it is one_scale.
    __device__ __forceinline__ MatvecSums(const MatvecArgs& args, const float* sums, const float* scales,
                                          float one_scale)
        : a_(args), sums_(sums), scales_(scales), one_scale_(one_scale) {}
    // Where the sums lie.
    static __device__ __forceinline__ int at(const MatvecArgs& a, int slot, int row, int r) {
        if constexpr (P::kQuarters) return (slot << a.split_bits) * kOfWarp + row * 4;
        return (slot << a.split_bits) * kOfWarp + r / 8 * 128 + ((row & 7) * 4 + r % 8 / 2) * 4 + (row >> 3) * 2 +
               (r & 1);
    }
    static __device__ __forceinline__ void put(float* of_warp, const typename P::Sum& sum) {
        const int lane = threadIdx.x & 31;
        if constexpr (P::kQuarters) {
            of_warp[lane] = sum.row[0], of_warp[lane + 32] = sum.row[1];
        } else {
            float v[(P::kRows + 7) / 8][4];
            P::total(sum, v);
            int at = lane * 4;
            for (const auto& [v0, v1, v2, v3] : v) {
                *reinterpret_cast<float4*>(of_warp + at) = make_float4(v0, v1, v2, v3);
                at += 128;
            }
        }
    }
    // n: row of the weight.
    __device__ __forceinline__ float operator()(int at, int r, int n) const {
        const float* from = sums_ + at;
        float v = 0;
        add_parts<0, 4>(from, v);
        if (a_.split > 4) add_parts<4, kMaxWarps>(from, v);
        if (a_.norm != nullptr) v *= P::kRows == 1 ? one_scale_ : scales_[r];
        return a_.has_bias ? v + a_.bias[n] : v;
    }

  private:
    // All of them under way at once.
    template <int kFirst, int kEnd>
    __device__ __forceinline__ void add_parts(const float* from, float& v) const {
        using Part = std::conditional_t<P::kQuarters, float4, float>;
        Part parts[kEnd - kFirst];
#pragma unroll
        for (int s = kFirst; s < kEnd; s++) {
            parts[s - kFirst] = s < a_.split ? *reinterpret_cast<const Part*>(from + s * kOfWarp) : Part{};
        }
#pragma unroll
        for (const Part& part : parts) v += whole(part);
    }
    static __device__ __forceinline__ float whole(float part) { return part; }
    static __device__ __forceinline__ float whole(const float4& q) { return (q.x + q.y) + (q.z + q.w); }

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
        const int before = quotient(pair, a.head_inverse) * 2 * a.head_pairs;  // tiles of other heads
        const int of_head = n - before * kTile, half = a.half_tiles * kTile;
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
        const auto type = static_cast<DType>(a.y_type);
        if constexpr (kPairing == FewRows::kGateUp) {
            store_as(type, a.y, to + n, silu(first) * second);
        } else {
            store_as(type, a.y, to + n, turns ? first * cos - second * sin : first);
            store_as(type, a.y, to + m, turns ? second * cos + first * sin : second);
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

// A warp's share of the weights that the product after this one begins with, to L2, while this one ends: memory would
// have a rest otherwise. Of quantised weights, whose products wait for other things, it cost more than it gave.
template <class P>
inline constexpr int kAheadBytes = P::kRows == 1 ? 1536 : 3072;
template <class P>
__device__ __forceinline__ void send_ahead(const MatvecArgs& a) {
    if (a.ahead == nullptr || (threadIdx.x & 31) != 0) return;
    const int64_t at = int64_t{a.ahead_stride} * blockIdx.x + threadIdx.x / 32 * kAheadBytes<P>;
    prefetch_l2(a.ahead + at, kAheadBytes<P>);
}

// Sets of sums in shared memory: with two, blocks go from tile to tile with one barrier; a second one for 16 rows would
// take the room of half a place in every ring of 16-bit weights.
template <class P, int kSpread>
inline constexpr int kSumSets = kSpread > 0 || (!P::kBulk && P::kRows > 8) ? 1 : 2;

// kSpread: log2 of the blocks that share the activations (matvec_spread.cuh); they take one turn, without a norm or
// pairs of tiles.
template <class P, FewRows::Pairing kPairing, int kSpread = 0>
__global__ void __launch_bounds__(kMaxWarps * 32, 1) matvec_kernel(const __grid_constant__ MatvecArgs a) {
    using Sums = MatvecSums<P>;
    constexpr int kEights = (P::kRows + 7) / 8;
    using Cluster = Spread<kSpread>;
    __shared__ __align__(16) float sums[kSumSets<P, kSpread>][kMaxWarps * Sums::kOfWarp];
    __shared__ __align__(16) float squares[8 * kEights * kMaxWarps];
    __shared__ float scales[8 * kEights];
    __shared__ uint64_t full[kMaxWarps * kMaxDepth], received;
    grid_dependents();
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, slots_mask = (1 << a.slots_bits) - 1;
    if constexpr (kSpread > 0) {
        if (threadIdx.x == 0) expect_bytes(&received, blockDim.x / 32 * Sums::kOfWarp * sizeof(float));
        cluster_arrive();
    }
    GroupRing<P, kPairing, kSpread> ring(a, dynamic_shared(), full);
    // Everything that can be known before the wait is.
    typename P::Activations x(a, dynamic_shared() + blockDim.x / 32 * a.depth * a.place_bytes,
                              kPairing == FewRows::kNone && a.by_warps);
    if constexpr (kSpread > 0) x.template expect_part<kSpread>(a);
    GroupCursor<P, kPairing, kSpread> at(a);
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
    if constexpr (requires { x.ask(); }) x.ask();
    const bool own = kPairing == FewRows::kNone && a.add && r0 < a.n_rows && n < a.w.rows;
    const float old = own ? static_cast<const float*>(a.y)[r0 * a.y_stride + n] : 0.0f;
    pair.load(a);
    if constexpr (kSpread > 0) {
        x.template bring_part<kSpread>(a);
    } else {
        x.bring(a, squares);
    }
    ring.fill_rest(a);
    const float one_scale = P::kRows == 1 && a.norm != nullptr ? row_scale(a, squares, 0) : 0.0f;
    if (P::kRows > 1 && a.norm != nullptr && static_cast<int>(threadIdx.x) < a.n_rows) {
        scales[threadIdx.x] = row_scale(a, squares, threadIdx.x);  // read behind the sums' barrier
    }
    int set = 0;
#pragma unroll 1
    for (; !at.ended(a); at.next_block(a), set ^= kSumSets<P, kSpread> - 1, n += (gridDim.x << a.slots_bits) * kTile) {
        typename P::Sum sum = {};
#pragma unroll 1
        for (int group = at.group; group < at.end; group += at.step(a)) {
            const auto columns =
                P::columns(x, Cluster::local(a, group));  // on their way, if they are not in shared memory
            ring.take(a, [&](const typename P::Raw& raw) { P::add(raw, x, columns, group, sum); });
        }
        if constexpr (!P::kBulk) {
            if (at.block + static_cast<int>(gridDim.x) >= a.n_blocks) send_ahead<P>(a);
        }
        if constexpr (kSpread > 0) {
            const int to = Cluster::slot(a), place = (to & slots_mask) << a.split_bits | Cluster::part(a);
            float v[kEights][4];
            P::total(sum, v);
            cluster_wait();
#pragma unroll
            for (int e = 0; e < kEights; e++) {
                send(to >> a.slots_bits, &sums[0][place * Sums::kOfWarp + e * 128 + lane * 4], &received, v[e]);
            }
            wait_for_bytes(&received);
        } else {
            // No thread writes to the sums that another still reads.
            if (kSumSets<P, kSpread> == 1 && at.block != blockIdx.x) __syncthreads();
            Sums::put(&sums[set][warp * Sums::kOfWarp], sum);
            __syncthreads();
        }
        const Sums value(a, sums[set], scales, one_scale);
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
                store_as(static_cast<DType>(a.y_type), a.y, to, v);
            }
            if (P::kRows == 1) break;
            if (hands_on) hand_on(a, r, n, v, at.block == blockIdx.x ? next_weight : there ? a.next_norm[n] : 0.0f);
        }
    }
}

// How many warps share a tile: what makes the longest sequence of groups shortest (a block's end costs half a group).
inline int matvec_split(int n_warps, int n_blocks, int n_tiles, int n_groups, int most) {
    int best = 1, least = INT_MAX;
    for (int split = 1; split <= most && split <= n_groups; split *= 2) {
        const int slots = n_warps / split, blocks = (n_tiles + slots - 1) / slots;
        const int work = (blocks + n_blocks - 1) / n_blocks * (2 * ((n_groups + split - 1) / split) + 1);
        if (work < least) best = split, least = work;
    }
    return best;
}

// How a product is shared among the blocks.
struct Sharing {
    int n_tiles, n_groups, split, slots, n_blocks;

    Sharing(int n_warps, int n_multiprocessors, const DeviceWeight& w, int columns, FewRows::Pairing pairing)
        : n_tiles((w.rows + kTile - 1) / kTile),
          n_groups((w.cols + columns - 1) / columns),
          split(matvec_split(n_warps, n_multiprocessors, n_tiles, n_groups,
                             pairing == FewRows::kNone ? n_warps : n_warps / 2)),
          slots(n_warps / split),
          n_blocks((n_tiles + slots - 1) / slots) {}
};

// One block a multiprocessor, of 16 warps where there is much shared memory. How a sum is split depends on that and on
// the weight alone, never on the number of rows: a row has the same bits in any company.
inline int matvec_warps(const Gpu& gpu) { return gpu.max_shared > (200 << 10) ? kMaxWarps : kMaxWarps / 2; }

// What is left of a block's shared memory for its rings: beside the activations the sums of all warps, declared by the
// kernel, and its alignment.
template <class P>
size_t ring_room(const Gpu& gpu, size_t activations, bool spread = false) {
    const size_t sets = spread ? kSumSets<P, 1> : kSumSets<P, 0>;
    const size_t sums = sets * kMaxWarps * MatvecSums<P>::kOfWarp * sizeof(float);
    const size_t taken = activations + sums + (3 << 10);
    return gpu.max_shared > taken ? gpu.max_shared - taken : 0;
}
template <class P>
constexpr bool eight_bits() {
    if constexpr (P::kBulk) return P::kLayout.quant_bytes == kTile * P::kLayout.columns;
    return false;
}
// Groups that a warp's ring holds at most, of so many that it takes in all. What the kernel waits for, its activations,
// comes later the more weights are under way. Measured on an H200: of quantised weights, all sent for at once, 80 KB a
// block are best (112 where a weight has eight bits), or two groups; rows of 16 bits want long rings, but where those
// would just hold all of them, a few are better left for later.
template <class P>
int ring_depth(const Gpu& gpu, size_t ring_row, int groups) {
    if constexpr (P::kBulk) {
        const size_t room = (eight_bits<P>() ? 112 : 80) << 10;
        if (gpu.nine) return std::clamp(static_cast<int>(room / ring_row), 2, kMaxDepth);
    }
    return groups > 4 && groups <= kMaxDepth ? 4 : kMaxDepth;
}
// Of a single row of weights below eight bits a block sends for a part alone before its activations are there
// (MatvecArgs::early), by what it takes in all. Measured as the depths: some 40 KB (one place, of K types) where it is
// little more than that, or where all blocks bring f32 rows, in one turn; else 80 KB, and as much again behind them.
inline void leave_for_later(MatvecArgs& a, bool one_turn, size_t of_block, size_t ring_row, size_t room) {
    const auto places = [&](int kilobytes) { return std::max<int>(1, (size_t{1} << 10) * kilobytes / ring_row); };
    if (of_block <= 64 << 10) return;
    const bool few = one_turn && (a.norm != nullptr || of_block <= 128 << 10);
    const int early = places(few ? 40 : 80);
    if (!few) a.depth = std::clamp(static_cast<int>(room / ring_row), a.depth, std::min(2 * early, kMaxDepth));
    a.early = static_cast<uint8_t>(std::min(early, a.depth));
}
template <class P>
bool matvec_fits(const Gpu& gpu, int cols, int n_rows) {
    const auto row = static_cast<size_t>(matvec_warps(gpu) * place_bytes<P>(gpu.nine));
    return ring_room<P>(gpu, P::Activations::bytes(cols, n_rows)) >= row;
}

// Into the shared memory of how many blocks (log2) the activations are to be spread: of four, or of two where four
// would not run all at once (there is no second turn). Measured on an H200: worth it above 128 KB, of two blocks for up
// to eight rows alone.
template <class P>
int matvec_spread(const Gpu& gpu, const Sharing& sharing, const DeviceWeight& w, const FewRows& p) {
    if (P::kBulk || P::kRows == 1 || p.pairing != FewRows::kNone || p.norm != nullptr) return 0;
    if (w.cols % P::kColumns != 0 || p.x.type != DType::kBF16 || p.n_rows() * w.cols <= (128 << 10) / 2) return 0;
    for (int spread = 2; spread > (P::kRows > 8 ? 1 : 0); spread--) {
        const int split_bits = std::countr_zero(static_cast<unsigned>(sharing.split));
        if (split_bits < spread) continue;
        const int columns = spread_groups(sharing.n_groups, split_bits, spread) * P::kColumns;
        const size_t room = ring_room<P>(gpu, P::Activations::bytes(columns, p.n_rows()), true);
        const bool fits = room >= static_cast<size_t>(3 * matvec_warps(gpu) * place_bytes<P>(gpu.nine));
        const int clusters = (sharing.n_blocks + (1 << spread) - 1) >> spread;
        if (fits && clusters <= gpu.n_clusters[spread]) return spread;
    }
    return 0;
}

template <class P>
void launch_matvec(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    MatvecArgs a = {};
    const int n_warps = matvec_warps(gpu);
    const Sharing sharing(n_warps, gpu.n_multiprocessors, w, P::kColumns, p.pairing);
    const int n_tiles = sharing.n_tiles;
    a.w = w;
    a.n_groups = sharing.n_groups, a.n_blocks = sharing.n_blocks, a.split = sharing.split;
    a.split_bits = static_cast<uint8_t>(std::countr_zero(static_cast<unsigned>(sharing.split)));
    a.slots_bits = static_cast<uint8_t>(std::countr_zero(static_cast<unsigned>(sharing.slots)));
    a.n_rows = p.n_rows();
    const int spread = matvec_spread<P>(gpu, sharing, w, p);
    if (spread > 0) a.n_blocks = (a.n_blocks + (1 << spread) - 1) >> spread << spread;
    a.staged =
        spread > 0 || P::Activations::kAlwaysStaged || p.norm != nullptr || stages_activations(gpu, w.cols, a.n_rows);
    const int columns = spread == 0 ? w.cols : spread_groups(a.n_groups, a.split_bits, spread) * P::kColumns;
    size_t activations = a.staged ? P::Activations::bytes(columns, a.n_rows) : 0;
    if constexpr (P::kQuarters) {
        // Passes of 256 columns: a warp has the loads of three under way at once. Of fewer bits than eight, whose loops
        // take long, it must have no more of them than where all warps share the columns.
        const int own = ((a.n_groups + a.split - 1) / a.split * P::kColumns + 255) / 256;
        const int most = eight_bits<P>() ? 3 : std::min(3, (w.cols + n_warps * 256 - 1) / (n_warps * 256));
        a.by_warps = p.norm == nullptr && own <= most && sharing.slots <= 2;
        if (a.by_warps) activations *= static_cast<size_t>(sharing.slots);
    }
    const auto ring_row = static_cast<size_t>(n_warps * place_bytes<P>(gpu.nine));
    a.place_bytes = place_bytes<P>(gpu.nine);
    a.x = p.x.data, a.x_stride = static_cast<int>(p.x.stride), a.x_f16 = p.x.type == DType::kF16;
    a.norm = p.norm, a.eps = p.eps, a.per_column = 1.0f / static_cast<float>(w.cols);
    a.gather = p.gather, a.rows = p.rows;
    a.y = p.y.data, a.y_stride = static_cast<int>(p.y.stride), a.y_type = static_cast<uint8_t>(p.y.type);
    a.add = p.add, a.bias = p.bias, a.has_bias = p.bias != nullptr;
    a.n_pairs = n_tiles / 2, a.up_tiles = n_tiles / 2;
    a.head_pairs = static_cast<uint16_t>(p.head_dim / (2 * kTile));
    a.head_inverse = a.head_pairs > 0 ? inverse_of(a.head_pairs) : 0;
    a.half_tiles = static_cast<uint16_t>(p.rope_half / kTile);
    a.rotated_tiles = static_cast<uint16_t>(p.rotated_rows / kTile);
    a.cos = p.cos, a.sin = p.sin, a.rope_stride = static_cast<int>(p.rope_stride);
    const int turns = (a.n_blocks + gpu.n_multiprocessors - 1) / gpu.n_multiprocessors;
    const int deepest = ring_depth<P>(gpu, ring_row, turns * ((a.n_groups + a.split - 1) / a.split));
    a.depth = std::clamp(static_cast<int>(ring_room<P>(gpu, activations, spread > 0) / ring_row), 1, deepest);
    a.early = static_cast<uint8_t>(a.depth);
    if (P::kQuarters && !eight_bits<P>() && gpu.nine) {
        const size_t bytes = static_cast<size_t>(n_tiles) * a.n_groups * a.place_bytes;
        leave_for_later(a, turns == 1, bytes / std::min(a.n_blocks, gpu.n_multiprocessors), ring_row,
                        ring_room<P>(gpu, activations));
    }
    // Of many values a kernel of its own makes what is to come to shared memory, once, where the product before has
    // not: all blocks would take longer over it.
    constexpr int kFewValues = 12288;
    a.next = p.next, a.next_norm = p.next_norm;
    if (p.handed_on != nullptr) {
        a.prepared = p.handed_on, a.by_maker = true;
    } else if constexpr (P::kRows > 1) {
        if ((P::kPrepares || p.norm != nullptr) && a.n_rows * w.cols > kFewValues) {
            launch(gpu, dim3(a.n_rows), dim3(n_warps * 32), 0, P::kPrepare, a, p.workspace);
            a.prepared = p.workspace;
        }
    }
    if constexpr (!P::kBulk) {
        const int64_t tile = int64_t{kTile} * padded_columns(p.ahead.w.cols) * 2, size = p.ahead.w.rows / kTile * tile;
        const int64_t most = size - n_warps * kAheadBytes<P>, last = gpu.n_multiprocessors - 1;
        const Sharing next(n_warps, gpu.n_multiprocessors, p.ahead.w, P::kColumns, p.ahead.pairing);
        // Where a block's first tiles begin (half of them are gates); of few tiles, evenly.
        const int64_t first = tile * (p.ahead.pairing == FewRows::kGateUp ? next.slots / 2 : next.slots);
        a.ahead = most > 0 ? p.ahead.w.data : nullptr;
        a.ahead_stride = static_cast<int>(first * last <= most ? first : most / (last + 1) / 128 * 128);
    }
    const auto start = [&](auto kernel, int cluster = 0) {
        launch_clusters(gpu, cluster, dim3(std::min(a.n_blocks, gpu.n_multiprocessors)), dim3(n_warps * 32),
                        activations + static_cast<size_t>(a.depth) * ring_row, kernel, a);
    };
    if constexpr (!P::kBulk && P::kRows > 1) {
        if (spread == 1) return start(matvec_kernel<P, FewRows::kNone, 1>, 2);
        if (spread == 2) return start(matvec_kernel<P, FewRows::kNone, 2>, 4);
    }
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
