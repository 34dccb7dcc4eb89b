#include "app/inspect.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "engine/engine.h"
#include "kernels/error.h"
#include "kernels/quant.h"
#include "kernels/step.h"
#include "models/progress.h"
#include "models/state.h"

namespace samba {
namespace {

// The activations of a chunk, as models/samba_load.cpp and kernels/cpu/backend.cpp lay them out.
size_t work_bytes(const Config& c) {
    constexpr int64_t kChunk = 512;
    int64_t qkv = 0, attended = 0, d_ff = 0, others = 0;
    for (const BlockConfig& b : c.blocks) {
        if (is_decayed(b.mixer)) {  // [q k v g low], gates, the recurrence
            int64_t keys = int64_t{b.n_heads} * b.head_dim, values = int64_t{b.n_heads} * b.value_dim;
            others = std::max(others, 3 * keys + 3 * values + b.gate_rank);
        }
        if (b.mixer == Mixer::kMega) others = std::max(others, 6 * c.d_model + 5 * int64_t{b.head_dim});
        attended = std::max(attended, int64_t{b.n_heads} * b.head_dim);
        qkv = std::max(qkv, int64_t{b.n_heads + 2 * b.n_kv_heads} * b.head_dim);
        d_ff = std::max(d_ff, b.d_ff);
    }
    int64_t widest = std::max({c.d_model, int64_t{2} * c.d_inner, 2 * d_ff, qkv, others});
    int64_t row = c.d_model + 3LL * c.d_inner + c.dt_rank + 2LL * c.d_state + qkv + attended + d_ff + others;
    int64_t scratch = c.d_model + 3 * widest;
    return sizeof(float) * static_cast<size_t>(kChunk * (row + scratch) + kLogitRows * (c.vocab_size + c.d_model));
}

}  // namespace

Needs needs_of(const ModelFile& file) {
    const EngineOptions defaults;
    DType ring = file.weight_type == DType::kF32 ? DType::kF32 : DType::kF16;
    StateLayout layout = state_layout(file.config, ring, defaults.n_planes, defaults.max_context);
    Needs needs{.weights = file.bytes, .state = layout.slot_bytes, .work = work_bytes(file.config)};
    int64_t longest = 0;
    for (const StateLayout::RingPart& part : layout.rings) {
        bool grows = part.window == 0 && part.chunk == 0;
        needs.grows = needs.grows || grows;
        longest = std::max(longest, grows ? part.n_rows : part.chunk > 0 ? part.chunk - 1 : part.window);
    }
    needs.saved_state = layout.snapshot_bytes(longest);
    return needs;
}

uint64_t parameter_count(const Gguf& gguf) {
    uint64_t n = 0;
    for (const GgufTensor& t : gguf.tensors) {
        if (t.name.ends_with("ssm_a_log")) continue;  // the source's exact form of ssm_a
        uint64_t values = 1;
        for (uint64_t dim : t.dims) values *= dim;
        n += values;
    }
    return n;
}

std::string tensor_hash(const GgufTensor& tensor) { return hex64(XXH3_64bits(tensor.data, tensor.bytes)); }

void check_tensors(const Gguf& gguf, const ModelFile& file, const std::string& path) {
    Progress progress("checking", "B", file.bytes);
    uint64_t done = 0;
    std::vector<float> row;
    for (const GgufTensor& t : gguf.tensors) {
        int64_t cols = static_cast<int64_t>(t.dims.empty() ? 1 : t.dims[0]);
        size_t bytes = row_bytes(t.type, cols);
        row.resize(static_cast<size_t>(cols));
        for (uint64_t at = 0; at + bytes <= t.bytes && bytes > 0; at += bytes) {
            if (interrupted()) throw Cancelled("interrupted");
            dequantize_row(t.type, static_cast<const char*>(t.data) + at, row.data(), cols);
            auto bad = std::find_if(row.begin(), row.end(), [](float v) { return !std::isfinite(v); });
            if (bad != row.end()) {
                throw FileError(visible_line(path) + ": tensor " + visible_line(t.name) + ", row " +
                                std::to_string(at / bytes) + ", column " + std::to_string(bad - row.begin()) +
                                ": expected a finite number, found " + (std::isnan(*bad) ? "NaN" : "infinity"));
            }
        }
        progress.update(done += t.bytes, visible_line(t.name));
    }
    if (file.content_hash.empty()) return;
    std::string found = content_hash(file);
    if (found != file.content_hash) {
        throw FileError(visible_line(path) + ": the tensors' content hash is " + found + ", the file says " +
                        file.content_hash + ": it was changed or damaged; get it again");
    }
}

}  // namespace samba
