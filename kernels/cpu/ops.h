// The CPU's ops other than matrix products. Activations are f32.
//
// Each op comes as one thread's part of the work (it ends in a Range: call it inside ThreadPool::run, parts are
// independent) and, where that is of use alone, on the whole pool. Formulas stand in kernels/backend.h. A row's bits
// depend on that row and its state alone, never on the Range, the other rows or the threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"

namespace samba {

// ---- rows: norm.cpp ---------------------------------------------------------------------------------------------

// y[n] = x / sqrt(mean(x²) + eps) * weight; y may be x.
void rmsnorm_row(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* y);
// h[n] = silu(gate) * up; h may be gate or up. Any cut of a row into pieces gives the same bits.
void silu_mul_row(Isa isa, const float* gate, const float* up, int64_t n, float* h);

void rmsnorm(Isa isa, View x, const Norm& norm, View y, Range rows);
void rmsnorm(ThreadPool& pool, View x, const Norm& norm, View y);
// gate_up (n_rows, 2 d_ff), h (n_rows, d_ff)
void silu_mul(ThreadPool& pool, View gate_up, View h);
// y[i] = x[rows[i]]
void gather_rows(View x, std::span<const int> rows, View y);
// x (cols) = table[token], widened to f32
void embed_row(const Weight& table, int32_t token, float* x);

// ---- rotary embedding: rope.cpp -------------------------------------------------------------------------------------

// theta^(-2i/dim) for i < dim / 2, in turns per position as 64-bit binary fractions: position times frequency modulo a
// whole turn is one wrapping product, exact to position · 2^-64 turns.
struct RopeFrequencies {
    int dim = 0;
    double theta = 0;
    std::vector<uint64_t> turns;

    RopeFrequencies(int dim, double theta);
};

// cos, sin (dim / 2) of one position.
void rope_row(const RopeFrequencies& f, int64_t position, float* cos, float* sin);
// The rows of a step's table. One thread's part.
void rope_rows(const Step& s, const RopeFrequencies& f, const RopeTable& table, Range rows);

// For each head of q and k: norm (if any), rotate its first rope->dim values (if rope); all of q, k, v rounded to
// `type` (F16 where the ring is Q8_0). Items are (row, head) with the heads of q, then k, then v: there are
// qkv.q.rows * (n_heads + 2 n_kv_heads). One thread's part.
void head_norm_rope(Isa isa, const QkvWeights& w, const RopeTable* rope, DType type, const Qkv& qkv, Range items);
void head_norm_rope(ThreadPool& pool, const QkvWeights& w, const RopeTable* rope, DType type, const Qkv& qkv);

// ---- Mamba: conv.cpp, scan.cpp ------------------------------------------------------------------------------------

// Shares of channels are cut at multiples of this: share(d_inner, thread, n_threads, kChannelTile).
inline constexpr int64_t kChannelTile = 16;

// u = silu(conv(u)) in place for every run of the step, and the state planes. u (n_rows, d_inner). One thread's part.
void conv_silu(Isa isa, const Step& s, View u, const Conv& conv, PlaneState state, Range channels);
void conv_silu(ThreadPool& pool, const Step& s, View u, const Conv& conv, PlaneState state);

// dt (n_rows, d_inner) holds W_dt dt_raw + dt_bias; the softplus is taken here. y may alias u or dt. in.dbc is read at
// columns dt_rank … One thread's part: only columns `channels` of u, z, dt, y are touched.
void selective_scan(Isa isa, const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state, View y,
                    Range channels);
void selective_scan(ThreadPool& pool, const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                    View y);

// ---- gated linear attention, retention: decay.cpp ------------------------------------------------------------------

// in.gates are overwritten with the decays. key_dim at most kMaxKeyDim.
void decay_scan(ThreadPool& pool, const Step& s, const Decayed& in, PlaneState state, View y);
void head_norm_gate(ThreadPool& pool, View y, const Norm& norm, View gate);

// ---- attention: attention.cpp -------------------------------------------------------------------------------------

// Memory of an attention call; grows to the largest call seen and stays.
class AttentionScratch {
  public:
    float* floats(size_t n);  // 64-byte aligned, contents undefined

  private:
    std::unique_ptr<float[]> memory_;
    size_t size_ = 0;
};

// Decode and prefill steps, by s.kind; runs on the whole pool, appends the rows' k and v to the ring.
// head_dim is a multiple of 8 (of 32 with a Q8_0 ring), at most 256.
void attention(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring, View y);

// ---- Mega: mega.cpp -----------------------------------------------------------------------------------------------

// key_dim at most kMaxKeyDim.
void chunk_attention(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const ChunkRing& ring,
                     float scale, View y);
void mega_keys(ThreadPool& pool, View z, const MegaKeys& w, const RopeTable& rope, DType type, View q, View k);
void silu(ThreadPool& pool, View y);
void mul_silu(ThreadPool& pool, View y, View gate);
void gated_residual(ThreadPool& pool, View u, View h0, View h, View x);

}  // namespace samba
