// What the two kinds of attention share: where keys lie, and how they get there.
#pragma once
#include <algorithm>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {

// The ring's row of a position.
inline char* ring_k(const Ring& ring, int slot, int64_t head, int64_t row) {
    return ring.k + slot * ring.slot_stride + static_cast<size_t>(head) * ring.head_bytes() +
           static_cast<size_t>(row) * ring.row_bytes();
}
inline char* ring_v(const Ring& ring, int slot, int64_t head, int64_t row) {
    return ring.v + (ring_k(ring, slot, head, row) - ring.k);
}

// The first position that the token of `position` sees.
inline int64_t first_seen(const Ring& ring, int64_t position) {
    return ring.window == 0 ? 0 : std::max<int64_t>(0, position - ring.window + 1);
}

// Writes k and v of one head of row t of a run into the ring.
void append_row(const OpKernels& ops, const Run& run, const Qkv& in, const Ring& ring, int64_t head, int64_t t);

// y (head_dim) = acc / sum, rounded to the ring's type; acc in steps of `stride` values.
void finish_head(const OpKernels& ops, DType type, const float* acc, int64_t stride, float sum, int head_dim, float* y);

void attention_decode(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring,
                      View y);
void attention_prefill(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring,
                       View y);

}  // namespace samba
