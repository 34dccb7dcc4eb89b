// The arguments of the products of a few rows.
#pragma once
#include <cstddef>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/weight.h"

namespace samba::cuda {

inline constexpr int kMaxWarps = 16;  // of a block

// In the order of their use: a kernel waits for its arguments, 64 bytes at a time, of which the first 16 are not
// theirs.
struct MatvecArgs {
    DeviceWeight w;
    int n_groups, n_blocks;          // n_blocks: of tiles; the grid's blocks take them in turn
    int split;                       // warps a tile
    uint8_t split_bits, slots_bits;  // slots: tiles a block, its warps / split
    uint8_t early;                   // places of a ring that are filled before the activations are there (BulkRing)
    bool by_warps;                   // each warp brings the activations of its own groups
    int depth, place_bytes;          // of a warp's ring: places, each for a group
    int n_rows;
    int ahead_stride;
    const void* x;                  // bf16 or f16, or f32 with a norm
    const unsigned char* prepared;  // what is to come to shared memory, and the squares, already made; or null
    const float* norm;              // or null
    void* y;
    const unsigned char* ahead;  // of the product expected next: the first block's weights, those of others
                                 // ahead_stride apart; or null
    int x_stride, y_stride;
    float eps, per_column;  // 1 / columns
    uint8_t y_type;         // DType
    bool x_f16;
    bool staged;    // activations come to shared memory
    bool by_maker;  // prepared: by the product that made x (next), not by a kernel of its own
    bool gather;
    bool add;  // y += W x; y is f32
    bool has_bias;
    int n_pairs, up_tiles;            // kGateUp: tiles of gate
    uint16_t head_pairs, half_tiles;  // kRotary: pairs of tiles of a head, tiles of half of what is rotated
    uint16_t rotated_tiles;
    uint32_t head_inverse;  // of head_pairs
    int rope_stride;
    const float *cos, *sin;
    unsigned char* next;  // y's rows times next_norm, for the next product, and their squares; or null
    const float* next_norm;
    const float* bias;
    FewRowList rows;  // where `gather`
};
static_assert(offsetof(MatvecArgs, x) == 48 && offsetof(MatvecArgs, n_pairs) == 48 + 64);

}  // namespace samba::cuda
