// Where the parts of a sequence's state lie in its slot. Its size depends on the config alone, never on the position
// (full attention excepted: its ring has max_context rows).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/dtype.h"
#include "models/config.h"

namespace samba {

struct StateLayout {
    struct Planes {  // a recurrent state of one mixer: n_planes planes of f32, one behind the other
        size_t offset, plane_bytes;
    };
    struct RingPart {  // of one attention or mega: K, then V, each (n_kv_heads, n_rows, …)
        size_t offset;
        int n_kv_heads;
        int64_t n_rows, window;  // window 0: full attention …
        size_t row_bytes, value_row_bytes;
        int64_t chunk = 0;  // … but where tokens see their own chunk
        size_t end() const { return values_offset() + static_cast<size_t>(n_kv_heads * n_rows) * value_row_bytes; }
        // Rows that the token of `position` may read.
        int64_t visible(int64_t position) const;
        size_t values_offset() const { return offset + static_cast<size_t>(n_kv_heads * n_rows) * row_bytes; }
    };
    int n_planes = 8;
    std::vector<Planes> planes;   // in block order: conv, then SSM, of a Mamba or mega; conv of an attention that has
                                  // one; what gla and retention recall
    std::vector<RingPart> rings;  // of each attention and mega in block order
    size_t slot_bytes = 0;

    // Calls f(offset, bytes) for all that a snapshot at `position` holds, in a fixed order: the current plane of each
    // mixer, then of each K and V and head the visible ring rows, the oldest first. The same bytes on every backend and
    // for any number of planes.
    void for_each_part(int64_t position, const std::function<void(size_t offset, size_t bytes)>& f) const;
    size_t snapshot_bytes(int64_t position) const;
};

// Rings of mega are never quantised.
inline DType chunk_ring_type(DType ring_type) { return ring_type == DType::kQ8_0 ? DType::kF16 : ring_type; }

StateLayout state_layout(const Config& config, DType ring_type, int n_planes, int64_t max_context);

}  // namespace samba
