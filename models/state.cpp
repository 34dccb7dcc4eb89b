#include "models/state.h"

#include <algorithm>

#include "kernels/state.h"

namespace samba {
namespace {

constexpr size_t kAlignment = 256;  // of every part: whole cache lines, and what a GPU loads best

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

StateLayout state_layout(const Config& config, DType ring_type, int n_planes, int64_t max_context) {
    StateLayout layout;
    layout.n_planes = n_planes;
    size_t at = 0;
    auto add_planes = [&](int64_t values) {
        size_t bytes = static_cast<size_t>(values) * sizeof(float);
        layout.planes.push_back({at, bytes});
        at = aligned(at + bytes * static_cast<size_t>(n_planes));
    };
    for (const BlockConfig& block : config.blocks) {
        if (block.mixer == Mixer::kMamba || block.mixer == Mixer::kMega) {
            add_planes(static_cast<int64_t>(config.d_inner) * (config.d_conv - 1));
            add_planes(static_cast<int64_t>(config.d_inner) * config.d_state);
        }
        if (is_decayed(block.mixer)) {
            add_planes(static_cast<int64_t>(block.n_heads) * block.head_dim * block.value_dim);
        }
        if (block.conv_width > 0) {  // of an attention's q, k and v
            add_planes(static_cast<int64_t>(block.n_heads + 2 * block.n_kv_heads) * block.head_dim *
                       (block.conv_width - 1));
        }
    }
    for (const BlockConfig& block : config.blocks) {
        if (block.mixer == Mixer::kMega) {
            DType type = chunk_ring_type(ring_type);
            layout.rings.push_back({at, 1, block.chunk + kRingSlack, 0, row_bytes(type, 2 * block.head_dim),
                                    row_bytes(type, config.d_model), block.chunk});
            at = aligned(layout.rings.back().end());
        }
        if (block.mixer != Mixer::kAttention) continue;
        size_t bytes = row_bytes(ring_type, block.head_dim);
        int64_t n_rows = block.window > 0 ? block.window + kRingSlack : max_context + kRingSlack;
        layout.rings.push_back({at, block.n_kv_heads, n_rows, block.window, bytes, bytes});
        at = aligned(layout.rings.back().end());
    }
    layout.slot_bytes = at;
    return layout;
}

int64_t StateLayout::RingPart::visible(int64_t position) const {
    if (chunk > 0) return position % chunk;
    return std::min(position, window > 0 ? window : n_rows);
}

void StateLayout::for_each_part(int64_t position, const std::function<void(size_t, size_t)>& f) const {
    size_t plane = static_cast<size_t>((position + n_planes - 1) % n_planes);  // written by token position - 1
    for (const Planes& p : planes) f(p.offset + plane * p.plane_bytes, p.plane_bytes);
    for (const RingPart& ring : rings) {
        int64_t used = ring.visible(position);
        int64_t first = (position - used) % ring.n_rows;
        int64_t until_wrap = std::min(used, ring.n_rows - first);
        for (bool values : {false, true}) {
            size_t part = values ? ring.values_offset() : ring.offset;
            size_t bytes = values ? ring.value_row_bytes : ring.row_bytes;
            for (int head = 0; head < ring.n_kv_heads; ++head) {
                size_t base = part + static_cast<size_t>(head * ring.n_rows) * bytes;
                auto rows = [&](int64_t from, int64_t n) {
                    if (n > 0) f(base + static_cast<size_t>(from) * bytes, static_cast<size_t>(n) * bytes);
                };
                rows(first, until_wrap);
                rows(0, used - until_wrap);
            }
        }
    }
}

size_t StateLayout::snapshot_bytes(int64_t position) const {
    size_t sum = 0;
    for_each_part(position, [&](size_t, size_t bytes) { sum += bytes; });
    return sum;
}

}  // namespace samba
