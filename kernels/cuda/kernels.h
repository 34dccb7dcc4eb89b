// The launchers: host functions that put one op's kernels on the stream. Shapes and formulas: kernels/backend.h.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/tables.h"
#include "kernels/cuda/weight.h"

namespace samba::cuda {

// ---- embed.cu
inline constexpr int kMaxRopes = 4;
struct RopeOut {
    const uint64_t* turns = nullptr;  // (half): theta^(-2i/dim)
    float *cos = nullptr, *sin = nullptr;
    int64_t stride = 0;
    int half = 0;
};
struct EmbedArgs {
    Tables tables;
    bool decode = false;  // a block a run; the tables' next runs are advanced
    int n_ropes = 0;
    RopeOut ropes[kMaxRopes];
};
void embed(const Gpu& gpu, const EmbedArgs& args, const StepShape& step, const Weight& table, View x);

// For which architecture (as 90) the kernels were compiled that the current device would run; throws DeviceError when
// the program holds none.
int check_kernels();

// ---- norm.cu
void rmsnorm(const Gpu& gpu, View x, const float* weight, float eps, View y);

// ---- matvec_*.cu: y (+)= W x (+ bias) for at most 16 rows; matvec_f32.cu: for at most 8
inline constexpr int kMatvecRows = 16, kMatvecF32Rows = 8;
inline constexpr int kRunRows = 8;  // of a decode step's run: memory is reserved for so many
struct FewRowList {
    int32_t row[kMatvecRows];
};
// A product and what is folded into it. `norm`: x is the f32 residual stream (its rows of `rows`, where `gather`),
// normalised on the way in. `pairing`: a block multiplies with two tiles of weights that belong together. matvec_f32
// folds nothing.
struct FewRows {
    enum Pairing { kNone, kGateUp, kRotary };
    View x, y;
    const float* bias = nullptr;
    bool add = false;
    const float* norm = nullptr;
    float eps = 0;
    bool gather = false;
    FewRowList rows = {};
    Pairing pairing = kNone;
    // kRotary: heads of `head_dim` rows; the first `rotated_rows` rows are turned in pairs (i, i + rope_half).
    int head_dim = 0, rotated_rows = 0, rope_half = 0;
    const float *cos = nullptr, *sin = nullptr;  // (rows, rope_half)
    int64_t rope_stride = 0;
    unsigned char* workspace = nullptr;  // prepared_bytes(columns) of device memory
    // normed_rows.cuh, of products with 16-bit weights: where y's rows go times next_norm, prepared for the product
    // after this one, or null; and where the product before this one has left those of x, or null.
    unsigned char* next = nullptr;
    const float* next_norm = nullptr;
    const unsigned char* handed_on = nullptr;
    // Of products with 16-bit weights: which one is expected after this one. Its first weights are sent for.
    struct Product {
        DeviceWeight w;
        Pairing pairing = kNone;
    } ahead;

    int n_rows() const { return static_cast<int>(gather ? y.rows : x.rows); }
};
// Of kMatvecRows rows as bf16, or in 8 bits with their factors (below two bytes a value), and the parts of their sums
// of squares, one for 16 columns at most.
inline size_t prepared_bytes(int64_t cols) {
    return static_cast<size_t>(kMatvecRows * ((cols + 511) / 256 * 256) * 2 + kMatvecRows * (cols / 16 + 1) * 4 + 4096);
}
// Whether activations come to shared memory as bf16 (products with 16-bit weights), where the sums of all warps and the
// rings of weights need their part of it; then they may be f16 too. With a norm they must.
inline bool stages_activations(const Gpu& gpu, int64_t cols, int64_t rows) {
    const size_t room = gpu.max_shared > (200 << 10) ? 112 << 10 : 50 << 10;
    return cols % 8 == 0 && static_cast<size_t>(rows * ((cols + 63) / 64 * 64 + 32) * 2) <= room;
}
void matvec_bf16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_f16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_q8_0(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_q4_0(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_q4_k(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_q5_k(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_q6_k(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);
void matvec_f32(const Gpu& gpu, const DeviceWeight& w, const FewRows& p);

// ---- repack.cu, dequantize.cu
// Blocks of a file (rows of row_bytes each, at `from` in device memory) to the device's layout, for the rows first_row
// … of the weight; first_row is a multiple of 16, and the last tile's missing rows become zeros.
void repack(const Gpu& gpu, DType type, const void* from, int64_t first_row, int64_t n_rows, int64_t cols, void* to);
// Rows first … first + to.rows - 1 of a weight (first a multiple of 16) as bf16 rows.
void dequantize(const Gpu& gpu, DType type, const DeviceWeight& w, int64_t first, View to);

// ---- elementwise.cu
void convert(const Gpu& gpu, View x, View y);  // y = x in another type; columns of y beyond those of x become 0
void add_bias(const Gpu& gpu, const float* bias, View y);
void silu_mul(const Gpu& gpu, View gate_up, View h);
struct RowList {
    int32_t row[kLogitRows];
};
void gather_rows(const Gpu& gpu, View x, const RowList& rows, View y);

// ---- conv.cu
// edges: scratch of (n_tiles, width - 1, channels) f32, for prefill.
void conv_silu(const Gpu& gpu, const StepShape& step, const Tables& tables, View u, const Conv& conv, PlaneState state,
               float* edges);
inline constexpr int kMaxConvWidth = 16;

// ---- conv_proj.cu
// Stage conv_matmul of a decode step of at most kMatvecRows rows in one kernel, a cluster for kConvProjRows of them; a
// run lies within one cluster's. u in bf16, convolutions of kConvProjWidth taps, x_proj of one part that is not F32.
// False, and nothing is launched, where the device has no cluster whose shared memory holds x_proj; that does not
// depend on the step.
inline constexpr int kConvProjRows = 8, kConvProjWidth = 4;
bool conv_proj(const Gpu& gpu, const StepShape& step, const Tables& tables, View u, const Conv& conv,
               const Weight& x_proj, PlaneState state, View dbc);
// What Gpu::n_clusters and max_cluster are, of a device whose other properties are known.
int active_clusters(const Gpu& gpu, int size);
int largest_cluster(const Gpu& gpu);

// ---- scan.cu, scan16.cu, scan_decode.cu
// dt_bias: added to dt by the scan of a prefill; null where dt has it.
void scan_prefill(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                  const float* dt_bias, const ScanWeights& w, PlaneState state, View y);
void scan_decode(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                 const ScanWeights& w, PlaneState state, View y);
// The same with dt = W_dt dt_raw + bias computed inside: W_dt in F16 or BF16, activations in bf16, dt_rank and the
// stride of dbc multiples of 8.
void dt_scan_decode(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, const ScanWeights& w,
                    PlaneState state, View y);
inline constexpr int kMaxStates = 256;

// ---- decay.cu: gated linear attention, retention
void decay_scan(const Gpu& gpu, const StepShape& step, const Tables& tables, const Decayed& in, PlaneState state,
                View y);
void head_norm_gate(const Gpu& gpu, View y, const Norm& norm, View gate);

// ---- mega.cu, chunk_attention.cu
void mega_keys(const Gpu& gpu, View z, const MegaKeys& w, const RopeTable& rope, DType type, View q, View k);
void silu(const Gpu& gpu, View y);
void mul_silu(const Gpu& gpu, View y, View gate);
void gated_residual(const Gpu& gpu, View u, View h0, View h, View x);
void scan_ungated(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                  const ScanWeights& w, PlaneState state, View y);
void chunk_attention(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const ChunkRing& ring,
                     float scale, View y);

// ---- rope.cu
void head_norm_rope(const Gpu& gpu, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv);

// ---- attention_decode.cu, attention_combine.cu, attention_prefill.cu, attention_generic.cu
inline constexpr int kKeyBlock = 64;
inline constexpr int kMaxHeadDim = 256;
inline constexpr size_t kPortableShared = 99 << 10;  // what a block may have on every supported device
// Splits of a ring of so many rows, and the f32 values of `partial` that a row of n_heads needs.
int decode_splits(int64_t ring_rows);
int64_t decode_partial_values(int64_t ring_rows, int n_heads, int head_dim);
struct RunGroup {  // some runs of a step, and their rows
    int first_run = 0, n_runs = 0, first_row = 0, n_rows = 0;
};
void attention_decode(const Gpu& gpu, const Tables& tables, const RunGroup& group, const Qkv& in, const Ring& ring,
                      View y, float* partial);
// y of some rows from the sums over the blocks ("splits") of a ring: a softmax over all of them.
inline constexpr int kMaxSplits = 64;
struct AttentionSums {
    float* partial;  // (rows, n_heads, splits, head_dim): sums of values, weighted relative to the split's maximum
    float2* stats;   // (rows, n_heads, splits): that maximum, in powers of two, and the sum of the weights
    int first_row, n_rows, n_heads, head_dim, n_splits;
};
void attention_combine(const Gpu& gpu, const AttentionSums& sums, DType ring_type, View y);
// Ring of f16 or bf16, q, k, v of the ring's type, head_dim 64, 128 or 256.
void attention_prefill(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring,
                       View y);
void attention_generic(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring,
                       View y);
// The newest rows of each run into the ring, after a prefill's attention.
void append_to_ring(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring);

// ---- logprob.cu
// logprobs[i] = ln softmax(logits[i])[targets[i]], for logits.rows rows; logprobs may be host memory.
struct Targets {
    int32_t id[kLogitRows];
};
void target_logprobs(const Gpu& gpu, View logits, const Targets& targets, float* logprobs);

// ---- sample.cu: see sampling_tables.h
struct SamplingTables;
struct WantedRows {  // of a call of sample: run and row within the run
    int32_t run[kLogitRows], row[kLogitRows];
};
// changes: some slot of the step has bias or penalties.
void sample(const Gpu& gpu, const Tables& tables, const SamplingTables& sampling, const WantedRows& wanted, int first,
            View logits, bool changes);

}  // namespace samba::cuda
