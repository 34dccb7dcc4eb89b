// Views of the sequences' states: a base and strides, indexed by slot. All f32 but the rings. A fresh slot is zero.
#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace samba {

// The recurrent state of one mixer in every slot, in planes: the state after token t lies in plane t mod n_planes, and
// token t reads plane (t - 1) mod n_planes. So going back up to n_planes - 1 tokens is only a smaller position.
// A run of many rows writes the planes of its last n_planes tokens.
struct PlaneState {
    float* base = nullptr;
    int64_t slot_stride = 0;   // values from slot to slot
    int64_t plane_stride = 0;  // values from plane to plane
    int n_planes = 8;

    // The state after `position - 1`, which the token of `position` reads.
    float* before(int slot, int64_t position) const { return after(slot, position - 1); }
    float* after(int slot, int64_t position) const {
        int64_t plane = (position % n_planes + n_planes) % n_planes;  // position -1: the fresh state
        return base + slot * slot_stride + plane * plane_stride;
    }
};

// Keys and values of one attention, in every slot: a ring (n_kv_heads, n_rows, head_dim) of each, a token's row is its
// position mod n_rows. n_rows = window + kRingSlack, so that no row that going back could need is overwritten;
// `window` rows, the token's own included, are visible. window 0: full attention, n_rows is the longest context.
inline constexpr int kRingSlack = 64;
struct Ring {
    char* k = nullptr;
    char* v = nullptr;
    int64_t slot_stride = 0;  // bytes from slot to slot
    int64_t n_rows = 0;
    int64_t window = 0;
    int n_kv_heads = 0, head_dim = 0;
    DType type = DType::kF16;

    size_t row_bytes() const { return samba::row_bytes(type, head_dim); }
    size_t head_bytes() const { return static_cast<size_t>(n_rows) * row_bytes(); }
};

// Keys and values of an attention of one head within chunks: token t sees the tokens of its own chunk, from
// t - t mod chunk to itself. As a Ring, n_rows = chunk + kRingSlack.
struct ChunkRing {
    char* k = nullptr;        // (n_rows, key_dim)
    char* v = nullptr;        // (n_rows, value_dim)
    int64_t slot_stride = 0;  // bytes from slot to slot
    int64_t n_rows = 0, chunk = 0;
    int key_dim = 0;
    int64_t value_dim = 0;
    DType type = DType::kF16;  // F32, F16 or BF16

    size_t key_bytes() const { return row_bytes(type, key_dim); }
    size_t value_bytes() const { return row_bytes(type, value_dim); }
};

}  // namespace samba
