// The op list: the stages of a step (embed … sample) over primitives. A stage has a default body composed of
// primitives, in backend.cpp: that body is also its parity test. A backend overrides what it fuses.
//
// Shapes are row-major; n_rows are the rows of a step. x, the residual stream, is always f32. Other activations have
// the backend's activation type (CPU: f32; CUDA: bf16, but f32 with an F32 file). Row t of a run comes after row t-1.
// Sources: Ren et al., "Samba", arXiv 2406.07522, section 2; Gu & Dao, "Mamba", arXiv 2312.00752, section 3.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/sampling.h"
#include "kernels/state.h"
#include "kernels/step.h"
#include "kernels/view.h"

namespace samba {

// rmsnorm(x) = x / sqrt(mean(x²) + eps) * weight; statistics in f32.
struct Norm {
    Weight weight;  // (1, cols) F32
    float eps = 1e-5f;
};

// Depthwise causal convolution: taps (channels, width), the last tap multiplies the current token; bias may be absent.
struct Conv {
    Weight taps;
    int width() const { return static_cast<int>(taps.cols); }
    const float* bias() const { return taps.bias; }
};

struct ScanWeights {
    Weight dt_proj;  // (d_inner, dt_rank); its bias (d_inner) is added inside the softplus, in f32
    Weight A;        // (d_inner, d_state) F32, = -exp(A_log)
    Weight D;        // (1, d_inner) F32
};

// What the selective scan of a step reads: u, z (n_rows, d_inner), z empty where there is no gate; dbc = [dt_raw | B |
// C] (n_rows, dt_rank + 2 d_state).
struct Scan {
    View u, z, dbc;
    int dt_rank = 0, d_state = 0;
};

// What a recurrence with decay (gated linear attention, retention) reads: q, k (n_rows, n_heads * key_dim), v (n_rows,
// n_heads * value_dim). The decay of each key channel comes from `gates` (n_rows, n_heads * key_dim) f32, which the op
// may overwrite, or, where that is empty, is the head's own, head_decay (1, n_heads) F32.
struct Decayed {
    View q, k, v;
    View gates;
    const Weight* head_decay = nullptr;
    int n_heads = 0, key_dim = 0, value_dim = 0;
};
inline constexpr float kGateDivisor = 16;  // of gated linear attention's log decay
inline constexpr int kMaxKeyDim = 512;     // of a head

// Mega's keys and queries from the shared z (n_rows, z_dim): F32 vectors, (2, z_dim) and (1, z_dim).
struct MegaKeys {
    Weight scale, shift;    // gamma, beta; row 0 makes queries, row 1 keys
    Weight bias_q, bias_k;  // alpha, beta of the relative bias
};

// The angles of the step's rows, written by `embed`, read by every attention that rotates `dim` values with `theta`:
// cos, sin (n_rows, dim / 2) f32. Angles are position · theta^(-2i/dim), computed in f64: position 10⁹ is as right
// as 1.
struct RopeTable {
    int dim = 0;
    double theta = 10000.0;
    View cos, sin;
};

struct QkvWeights {
    Weight qkv;           // rows: q heads, k heads, v heads
    Norm q_norm, k_norm;  // (1, head_dim) over each head before the rotation, or empty
    int n_heads = 0, n_kv_heads = 0, head_dim = 0;
};

// q (n_rows, n_heads * head_dim), k, v (n_rows, n_kv_heads * head_dim): columns of one buffer, values already rounded
// to the ring's type. Their View type, and that of the attention product: f32 where activations are f32 (CPU), else the
// ring's own type (f16 for a q8_0 ring).
struct Qkv {
    View q, k, v;
};

// What a backend must have room for; known when the model is loaded. Nothing is allocated afterwards.
struct Limits {
    int max_rows = 0;  // of a step
    int n_slots = 1;
    int64_t d_model = 0, vocab_size = 0;
    int64_t max_cols = 0;  // the widest activation of any stage (2 d_inner, 2 d_ff, …)
    int64_t max_ring_rows = 0;
    int max_kv_cols = 0;  // the widest n_kv_heads * head_dim
};

class Backend {
  public:
    virtual ~Backend() = default;
    virtual std::string name() const = 0;         // "cpu", "cuda:0"
    virtual std::string description() const = 0;  // the machine, for people: model, cores or memory, kernels in use
    virtual int prefill_chunk() const = 0;        // rows; prefill steps end at absolute multiples of it
    virtual int run_ahead() const = 0;            // steps that may be submitted before the first is received
    virtual DType activation_type() const = 0;

    // Memory. allocate gives zeros; read and write move between the host and the backend's memory.
    virtual Buffer allocate(size_t bytes) = 0;
    virtual void copy(void* to, const void* from, size_t bytes) = 0;
    virtual void zero(void* to, size_t bytes) = 0;
    virtual void read(void* host, const void* from, size_t bytes) = 0;
    virtual void write(void* to, const void* host, size_t bytes) = 0;
    // Turns tensors of equal row length into a Weight. The tensors' memory outlives the backend (a mapped file).
    virtual Weight load(std::span<const Tensor> tensors, const Tensor* bias = nullptr) = 0;
    virtual void prepare(const Limits& limits) = 0;

    // Sampling of a slot: its parameters, and the tokens before `position` (the last kHistory of them or fewer).
    virtual void set_sampling(int slot, const SamplingParams& params) = 0;
    virtual void set_history(int slot, int64_t position, std::span<const int32_t> tokens) = 0;

    // Steps run in the order of their submission. `forward` calls the ops below for the step that it is given; a
    // backend may run it once, capture what it does and replay that for steps of the same shape.
    using Forward = std::function<void(const Step&)>;
    virtual void submit(const Step& step, const Forward& forward) = 0;
    // The next submitted step's sampled tokens, in the order of `wanted`. Blocks.
    virtual std::vector<Sampled> receive() = 0;

    // ---- stages -----------------------------------------------------------------------------------------------

    // x = table[token], in f32; fills the rope tables; records the tokens in the slots' histories. Always the first.
    virtual void embed(const Step& s, const Weight& table, std::span<RopeTable* const> ropes, View x) = 0;
    // y = W rmsnorm(x) (+ bias)
    virtual void norm_matmul(const Step& s, View x, const Norm& norm, const Weight& w, View y);
    // u = silu(conv(u)), in place; dbc = W_x u. Conv state: the last width-1 raw rows of u, (channels, width-1), oldest
    // first.
    virtual void conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state, View dbc);
    // dt = softplus(W_dt dt_raw + dt_bias), in f32, then the Mamba-1 selective scan; the state is carried:
    //   S[d,n] = exp(dt[t,d] * A[d,n]) * S[d,n] + dt[t,d] * B[t,n] * u[t,d]
    //   y[t,d] = (sum_n C[t,n] * S[d,n] + D[d] * u[t,d]) * silu(z[t,d])
    // S (d_inner, d_state) f32. y may alias u.
    virtual void dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y);
    // [q k v] = W rmsnorm(x) (+ bias); head norms; rotation of q and k in half-split pairs (i, i + dim/2); rounding to
    // the ring's type. rope may be null (no rotation).
    virtual void norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                               DType ring_type, Qkv out);
    // Causal attention of q over the ring as it was before the call and the call's own rows up to its own, the last
    // `window` of them, scale 1/sqrt(head_dim); head h reads kv head h / (n_heads / n_kv_heads). y (n_rows, n_heads *
    // head_dim), rounded to the ring's type. On return the ring holds the newest rows. Keys are taken in blocks of 64
    // (decode: 64 ring rows; prefill: 64 absolute positions), combined in order.
    virtual void attention(const Step& s, const Qkv& in, const Ring& ring, View y) = 0;
    // [g u] = W rmsnorm(x), gate_up rows: d_ff of gate, then d_ff of up; h = silu(g) * u (n_rows, d_ff)
    virtual void norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h);
    // x += W y (+ bias). next: what x is normalised with afterwards, which a backend may begin at once; or empty.
    virtual void matmul_add(const Step& s, View y, const Weight& w, View x, const Norm& next) = 0;
    // logits[i] = W rmsnorm(x[wanted[first + i]]), f32, for i < logits.rows
    virtual void logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits);
    // For wanted rows first … first + logits.rows - 1: draws each slot's next token (step.sample), keeps it for
    // from_sample runs and for receive(), and hands the logits to step.on_logits and the targets'
    // log-probabilities to step.on_logprobs.
    virtual void sample(const Step& s, int first, View logits) = 0;

    // ---- primitives -------------------------------------------------------------------------------------------

    virtual void rmsnorm(const Step& s, View x, const Norm& norm, View y) = 0;
    virtual void matmul(const Step& s, View x, const Weight& w, View y) = 0;  // y = W x (+ bias)
    virtual void conv_silu(const Step& s, View u, const Conv& conv, PlaneState state) = 0;
    virtual void selective_scan(const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                                View y) = 0;
    // For each head of q and k: norm (if any), rotate (if rope), and round q, k, v to `type`.
    virtual void head_norm_rope(const Step& s, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv) = 0;
    // For each head, with a[t,i] = exp(logsigmoid(gates[t,i]) / kGateDivisor), or the head's decay:
    //   S[i,j] = a[t,i] * S[i,j] + k[t,i] * v[t,j]
    //   y[t,j] = sum_i q[t,i] * S[i,j] / sqrt(key_dim)
    // S (n_heads, key_dim, value_dim) f32. y (n_rows, n_heads * value_dim). Sources: Yang et al., arXiv 2312.06635; Sun
    // et al., arXiv 2307.08621.
    virtual void decay_scan(const Step& s, const Decayed& in, PlaneState state, View y) = 0;
    // For each head of y, norm.weight.cols values wide: y = rmsnorm(y) * silu(gate), in place.
    virtual void head_norm_gate(const Step& s, View y, const Norm& norm, View gate) = 0;
    // Mega, Ma et al., arXiv 2209.10655. With z = silu(z): q = [z * scale[0] + shift[0] | sqrt(z_dim) R(bias_q)] and
    // k = [z * scale[1] + shift[1] | R(bias_k)] (n_rows, 2 z_dim), R the rotation by the row's position; so q · k is
    // the score with its relative bias, times sqrt(z_dim). Rounded to the ring's type. z may be overwritten.
    virtual void mega_keys(const Step& s, View z, const MegaKeys& w, const RopeTable& rope, DType ring_type, View q,
                           View k) = 0;
    // Causal attention of one head within chunks (ChunkRing): y = softmax(q · k * scale) v; q, k (n_rows, key_dim), v,
    // y (n_rows, value_dim), of the types that Qkv has. On return the ring holds the newest rows.
    virtual void chunk_attention(const Step& s, const Qkv& in, const ChunkRing& ring, float scale, View y) = 0;
    virtual void silu(const Step& s, View y) = 0;                 // in place
    virtual void mul_silu(const Step& s, View y, View gate) = 0;  // y = y * silu(gate), in place
    // x += sigmoid(u) * (silu(h0 + h) - x)
    virtual void gated_residual(const Step& s, View u, View h0, View h, View x) = 0;
    virtual void silu_mul(const Step& s, View gate_up, View h) = 0;  // h = silu(first half) * second half
    virtual void gather_rows(const Step& s, View x, std::span<const int> rows, View y) = 0;

  protected:
    // Memory for a default body's intermediate, of the activation type (or f32); valid until the same `id` is asked
    // for again. Ids: 0 normed rows, 1 dt, 2 gate and up, 3 rows for logits.
    virtual View scratch(int id, int64_t rows, int64_t cols, DType type) = 0;
};

}  // namespace samba
