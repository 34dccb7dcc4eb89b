// The weights of a product on their way: which groups a warp multiplies with, and its ring of them in shared memory.
#pragma once
#include <climits>
#include <type_traits>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/matvec_spread.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quotient.cuh"

namespace samba::cuda {

// The tile of a block's slot: a pair's two tiles lie in neighbouring slots.
template <FewRows::Pairing kPairing>
__device__ __forceinline__ int tile_of_slot(const MatvecArgs& a, int slot) {
    if constexpr (kPairing == FewRows::kNone) return slot;
    const int pair = slot / 2, second = slot & 1;
    if (pair >= a.n_pairs) return INT_MAX / kTile - 1;
    if constexpr (kPairing == FewRows::kGateUp) return pair + second * a.up_tiles;
    if (2 * pair >= a.rotated_tiles) return slot;
    const int before = quotient(pair, a.head_inverse) * a.head_pairs;  // pairs of other heads
    const int j = pair - before, first = 2 * before;                   // tile of the head
    return j < a.half_tiles ? first + j + second * a.half_tiles : first + 2 * j + second;
}

// Where a warp is in its sequence of groups. Of a tile it has neighbours, or, of rows, every split-th.
template <class P, FewRows::Pairing kPairing, int kSpread = 0>
struct GroupCursor {
    int block, tile, group, end;  // end: of the warp's groups

    __device__ __forceinline__ GroupCursor(const MatvecArgs& a) : block(blockIdx.x - gridDim.x) { next_block(a); }
    static __device__ __forceinline__ int step(const MatvecArgs& a) { return P::kBulk ? 1 : a.split; }
    __device__ __forceinline__ bool ended(const MatvecArgs& a) const { return block >= a.n_blocks; }
    __device__ __forceinline__ void next_block(const MatvecArgs& a) {
        block += gridDim.x;
        const int slot = Spread<kSpread>::slot(a);
        tile = tile_of_slot<kPairing>(a, Spread<kSpread>::first_slot(a, block) + slot);
        const int part = Spread<kSpread>::part(a);
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
template <class P, FewRows::Pairing kPairing, int kSpread>
struct LaneRing {
    unsigned char* base;  // of the lane
    GroupCursor<P, kPairing, kSpread> to_fetch;
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
            if (to_fetch.group >= to_fetch.end) {  // only the last blocks have slots without a tile
                to_fetch.next_block(a);
                if (to_fetch.valid(a)) source = P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group);
            }
        }
        cp_async_commit();
    }
    __device__ __forceinline__ void fill_rest(const MatvecArgs&) {}
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
    typename P::Source source;  // of the group to fetch
    int at = 0, lane = threadIdx.x & 31;
    uint32_t parity = 0;

    __device__ __forceinline__ BulkRing(const MatvecArgs& a, unsigned char* shared, uint64_t* barriers)
        : base(shared + threadIdx.x / 32 * a.depth * P::kBytes),
          full(barriers + threadIdx.x / 32 * kMaxDepth),
          to_fetch(a),
          source(P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group)) {
        keep(full), keep(lane);
        if (lane == 0) {
#pragma unroll 1
            for (int i = 0; i < a.depth; i++) init_counter(full + i);
            counters_are_set();
        }
        fill(a, 0, a.early);
        __syncwarp();
    }
    // Sends for the groups of places first … end - 1; a tile's in one copy, for which their first place waits.
    __device__ __forceinline__ void fill(const MatvecArgs& a, int first, int end) {
        if (lane != 0) return;
#pragma unroll 1
        for (int i = first, n; i < end && to_fetch.valid(a); i += n) {
            n = min(end - i, to_fetch.end - to_fetch.group);
#pragma unroll 1
            for (int k = 1; k < n; k++) arrive(full + i + k);
            fetch(a, i, n);
        }
    }
    // What the kernel has left for the time when its activations are there.
    __device__ __forceinline__ void fill_rest(const MatvecArgs& a) {
        if (P::kRows == 1 && a.early < a.depth) fill(a, a.early, a.depth);
    }
    // The next n groups, of one tile, to the places from `place` on.
    __device__ __forceinline__ void fetch(const MatvecArgs& a, int place, int n) {
        if (!to_fetch.valid(a)) return;
        const auto bytes = static_cast<uint32_t>(n * P::kBytes);
        arrive_and_expect(full + place, bytes);
        constexpr bool kOnce = P::kRows == 1;  // more rows than one product takes read the weights again
        copy_bulk<kOnce>(base + place * P::kBytes, source, bytes, full + place);
        to_fetch.group += n, source += bytes;
        if (to_fetch.group < to_fetch.end) return;
        to_fetch.next_block(a);
        source = P::source(a.w, a.n_groups, to_fetch.tile, to_fetch.group);
    }
    template <class F>
    __device__ __forceinline__ void take(const MatvecArgs& a, F&& f) {
        wait_for_copies(full + at, parity);
        typename P::Raw raw;
        P::load(raw, base + at * P::kBytes, lane);
        f(raw);
        __syncwarp();  // all lanes have read it
        if (lane == 0) fetch(a, at, 1);
        if (++at == a.depth) at = 0, parity ^= 1;
    }
};

// Weights whose groups lie in whole pieces come by the copy engine where there is one.
template <class P, FewRows::Pairing kPairing, int kSpread>
using GroupRing = std::conditional_t<P::kBulk && kNine, BulkRing<P, kPairing>, LaneRing<P, kPairing, kSpread>>;
// Of a group in shared memory; nine: Gpu::nine.
template <class P>
constexpr int place_bytes(bool nine) {
    if constexpr (P::kBulk) {
        if (nine) return P::kBytes;
    }
    return kGroupBytes<P>;
}

}  // namespace samba::cuda
