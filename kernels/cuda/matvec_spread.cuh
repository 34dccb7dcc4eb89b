// Products whose activations are too many for a block's shared memory (some long rows): the blocks of a cluster share
// them. Each has a part of the columns, for the tiles of all of them: of each tile it plays some of the warps that
// would share it in one block, and sends their sums to the block that the tile belongs to, where they are added in the
// same order. So a row has the bits that it has alone.
#pragma once
#include "kernels/cuda/matvec_args.h"

namespace samba::cuda {

// Of 1 << kSpread blocks. The first `split` groups of columns are played by as many warps, the next by the same again.
template <int kSpread>
struct Spread {
    static constexpr int kBlocks = 1 << kSpread;

    // How many of a tile's warps a block plays, as a power of two.
    static __device__ __forceinline__ int bits(const MatvecArgs& a) { return a.split_bits - kSpread; }
    static __device__ __forceinline__ int rank() { return static_cast<int>(blockIdx.x) & (kBlocks - 1); }
    // This warp's slot among those of the cluster, and which of the tile's warps it plays.
    static __device__ __forceinline__ int slot(const MatvecArgs& a) {
        return static_cast<int>(threadIdx.x) / 32 >> bits(a);
    }
    static __device__ __forceinline__ int part(const MatvecArgs& a) {
        if constexpr (kSpread == 0) return threadIdx.x / 32 & (a.split - 1);
        return (rank() << bits(a)) + static_cast<int>(threadIdx.x / 32 & ((1 << bits(a)) - 1));
    }
    // The cluster's first slot.
    static __device__ __forceinline__ int first_slot(const MatvecArgs& a, int block) {
        return (block & ~(kBlocks - 1)) << a.slots_bits;
    }
    // Where a group stands among the block's own.
    static __device__ __forceinline__ int local(const MatvecArgs& a, int group) {
        if constexpr (kSpread == 0) return group;
        return (group >> a.split_bits << bits(a)) + (group & ((1 << bits(a)) - 1));
    }
};

// Groups that a block of 1 << spread has room for; spread: at most split_bits.
__host__ __device__ inline int spread_groups(int n_groups, int split_bits, int spread) {
    return (n_groups + (1 << split_bits) - 1) >> split_bits << (split_bits - spread);
}

}  // namespace samba::cuda
