// The inner loops of the ops, compiled once for each instruction set from one source (op_*_kernel.h); arguments are
// plain pointers, so that no inline function of another header is compiled with those instructions.
#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/dtype.h"

namespace samba {

// One head of q, k or v, in place.
struct HeadArgs {
    float* x = nullptr;  // (head_dim)
    int head_dim = 0;
    const float* norm = nullptr;  // (head_dim), or null
    float eps = 0;
    const float* cos = nullptr;  // (dim / 2), or null: no rotation
    const float* sin = nullptr;
    int dim = 0;
};

// Some rows of one run, for some channels (pointers are at the first of them).
struct ConvArgs {
    float* u = nullptr;  // (n_rows, channels), the run's rows; row -1 … are in `before`
    int64_t stride = 0;
    int64_t first = 0, last = 0;  // rows to compute, in place; rows before `first` still hold raw values
    int64_t channels = 0;
    const float* taps = nullptr;  // (channels, width)
    const float* bias = nullptr;  // (channels), or null
    int width = 0;
    const float* before = nullptr;  // (channels, width - 1): the raw rows before the run, oldest first
};

// Some rows of one run, for some channels (pointers are at the first row and channel).
struct ScanArgs {
    const float *u = nullptr, *z = nullptr, *dt = nullptr;  // (n_rows, channels); z null: no gate
    float* y = nullptr;
    int64_t u_stride = 0, z_stride = 0, dt_stride = 0, y_stride = 0;
    const float *B = nullptr, *C = nullptr;  // (n_rows, d_state)
    int64_t bc_stride = 0;
    int64_t n_rows = 0, channels = 0;  // n_rows at most kScanRows
    int d_state = 0;
    const float* A = nullptr;       // (channels, d_state)
    const float* D = nullptr;       // (channels)
    const float* before = nullptr;  // (channels, d_state)
    // The state after row t goes to planes[(first_plane + t) mod n_planes] for t >= first_kept, and after the last row.
    float* planes = nullptr;
    int64_t plane_stride = 0;
    int n_planes = 1, first_plane = 0;
    int64_t first_kept = 0;
};
inline constexpr int64_t kScanRows = 64;

// Some rows of one run, for one head and at most kValueTile of its values (pointers are at the first row and value).
inline constexpr int kValueTile = 32;
struct DecayArgs {
    const float *q = nullptr, *k = nullptr;  // (n_rows, key_dim)
    const float* v = nullptr;                // (n_rows, values)
    float* y = nullptr;
    int64_t q_stride = 0, k_stride = 0, v_stride = 0, y_stride = 0;
    const float* decay = nullptr;  // (n_rows, key_dim), or (with stride 0 and `same`) one value for all
    int64_t decay_stride = 0;
    bool same = false;
    int64_t n_rows = 0;
    int key_dim = 0, values = 0;
    const float* before = nullptr;  // (key_dim, value_stride): the state, at the first value
    int64_t value_stride = 0;
    // The state after row t goes to planes[(first_plane + t) mod n_planes] for t >= first_kept.
    float* planes = nullptr;
    int64_t plane_stride = 0;
    int n_planes = 1, first_plane = 0;
    int64_t first_kept = 0;
    float* room = nullptr;  // (key_dim, kValueTile)
};

// Some keys of one kv head, consecutive rows of a ring, for the queries that see all of them.
struct DecodeArgs {
    const char *k = nullptr, *v = nullptr;  // the first visible row
    DType type = DType::kF16;
    int64_t row_bytes = 0;
    int n_keys = 0;                   // at most 64
    const float* const* q = nullptr;  // n_queries pointers to (head_dim)
    int n_queries = 0, head_dim = 0;
    float scale = 0;       // log2 e / sqrt(head_dim)
    float* out = nullptr;  // n_queries partials, see kPartialHead
};
// A partial softmax of a query: [max, sum, 0 …, acc (head_dim)]; scores are in units of log2.
inline constexpr int kPartialHead = 16;
inline constexpr float kNoScore = -1e20f;  // the max of a partial without keys
inline constexpr float kMasked = -1e30f;

// Queries are lanes: kQueryTile of them, each with its own range of visible keys.
inline constexpr int kQueryTile = 64;
inline constexpr int kKeyBlock = 64;
struct PrefillArgs {
    const float* k = nullptr;  // (kKeyBlock, head_dim)
    const float* v = nullptr;
    int head_dim = 0, n_queries = 0;
    int first_key = 0, last_key = 0;    // of the block: those that any query sees
    bool masked = false;                // some query does not see all of them
    const float* first_seen = nullptr;  // (kQueryTile) keys of the block that the query sees: first … last
    const float* last_seen = nullptr;
    const float* q = nullptr;  // (head_dim, kQueryTile), times log2 e / sqrt(head_dim)
    float* acc = nullptr;      // (head_dim, kQueryTile)
    float* max = nullptr;      // (kQueryTile)
    float* sum = nullptr;      // (kQueryTile)
    float* p = nullptr;        // (kKeyBlock, kQueryTile) scratch
};

// Some keys of a chunk for the queries of some rows; row r sees the first n_seen + r of its keys.
struct ChunkScoreArgs {
    const float* q = nullptr;  // (n_rows, dim)
    int64_t q_stride = 0;
    const float* k = nullptr;  // (n_keys, dim)
    int n_rows = 0, n_keys = 0, dim = 0;
    float scale = 0;
    float* scores = nullptr;  // (n_rows, n_keys), at the first key
    int64_t score_stride = 0;
};
inline constexpr int kChunkCols = 64;
struct ChunkValueArgs {
    const float* p = nullptr;  // (n_rows, n_keys)
    int64_t p_stride = 0;
    const float* v = nullptr;  // (n_keys, kChunkCols)
    int n_rows = 0, n_keys = 0;
    int64_t n_seen = 0;    // keys that row 0 sees; row r sees r more
    float* acc = nullptr;  // (n_rows, kChunkCols)
};

struct OpKernels {
    void (*rmsnorm)(const float* x, const float* weight, float eps, int64_t n, float* y);
    void (*silu_mul)(const float* gate, const float* up, int64_t n, float* h);
    void (*head)(const HeadArgs& a);
    void (*round)(DType type, float* x, int64_t n);                    // to F16 or BF16 and back
    void (*narrow)(DType type, const float* x, int64_t n, void* out);  // to F32, F16, BF16 or Q8_0, in memory
    void (*widen)(DType type, const void* x, int64_t n, float* out);   // from F32, F16, BF16 or Q8_0
    float (*max)(const float* x, int64_t n);                           // -inf where there is nothing but NaN
    double (*sum_exp)(const float* x, int64_t n, float max);           // of exp(x - max)
    void (*conv)(const ConvArgs& a);
    void (*conv_one)(const ConvArgs& a, float* after);  // width 4, one row; `after` may be a.before
    void (*scan)(const ScanArgs& a);
    void (*gate_decay)(float* x, int64_t n, float divisor);  // x = exp(logsigmoid(x) / divisor)
    void (*decay_scan)(const DecayArgs& a);
    void (*silu)(float* x, int64_t n);
    void (*gated_residual)(const float* u, const float* h0, const float* h, int64_t n, float* x);
    void (*chunk_scores)(const ChunkScoreArgs& a);
    void (*softmax)(float* x, int64_t n);
    void (*chunk_values)(const ChunkValueArgs& a);
    void (*decode)(const DecodeArgs& a);
    void (*fold)(float* into, const float* partial, int head_dim);
    void (*prefill)(const PrefillArgs& a);
};

extern const OpKernels kOpsPortable, kOpsAvx2, kOpsAvx512;

inline const OpKernels& op_kernels(Isa isa) {
    return isa == Isa::kPortable ? kOpsPortable : isa == Isa::kAvx2 ? kOpsAvx2 : kOpsAvx512;
}

}  // namespace samba
