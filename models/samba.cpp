#include "models/samba.h"

#include <algorithm>
#include <cmath>

namespace samba {
namespace {

const Norm& norm_of(const Layer& layer) {
    return std::visit([](const auto& weights) -> const Norm& { return weights.norm; }, layer);
}

}  // namespace

// ---- the forward pass ------------------------------------------------------------------------------------------

void Samba::forward(const Step& step) {
    View x = ws_.x.slice(0, step.n_rows());
    backend_.embed(step, embedding_, rope_list_, x);
    for (size_t i = 0; i < layers_.size(); ++i) {
        const Layer& layer = layers_[i];
        const Norm& next = i + 1 < layers_.size() ? norm_of(layers_[i + 1]) : final_norm_;
        if (auto* w = std::get_if<MambaWeights>(&layer)) mamba(step, *w, x, next);
        if (auto* w = std::get_if<AttentionWeights>(&layer)) attention(step, *w, x, next);
        if (auto* w = std::get_if<DecayedWeights>(&layer)) decayed(step, *w, x, next);
        if (auto* w = std::get_if<MegaWeights>(&layer)) mega(step, *w, x, next);
        if (auto* w = std::get_if<MlpWeights>(&layer)) mlp(step, *w, x, next);
    }
    int n_wanted = static_cast<int>(step.wanted.size());
    for (int first = 0; first < n_wanted; first += kLogitRows) {
        View logits = ws_.logits.slice(0, std::min(kLogitRows, n_wanted - first));
        backend_.logits(step, x, final_norm_, head_, first, logits);
        backend_.sample(step, first, logits);
    }
}

// x += W_out (scan(conv(u)) * silu(z)), [u z] = W_in rmsnorm(x)
void Samba::mamba(const Step& s, const MambaWeights& w, View x, const Norm& next) {
    int64_t d_inner = w.ssm.A.rows, d_state = w.ssm.A.cols, dt_rank = w.ssm.dt_proj.cols;
    View uz = ws_.uz.slice(0, x.rows), dbc = ws_.dbc.slice(0, x.rows), y = ws_.y.slice(0, x.rows);
    View u = uz.columns(0, d_inner), z = uz.columns(d_inner, d_inner);
    backend_.norm_matmul(s, x, w.norm, w.in_proj, uz);
    backend_.conv_matmul(s, u, w.conv, w.x_proj, w.conv_state, dbc);
    backend_.dt_scan(s, {u, z, dbc, static_cast<int>(dt_rank), static_cast<int>(d_state)}, w.ssm, w.ssm_state, y);
    backend_.matmul_add(s, y, w.out_proj, x, next);
}

// x += W_o attention(q, k, v), [q k v] = W_qkv rmsnorm(x), with a convolution over the tokens: silu(conv(W_qkv …))
void Samba::attention(const Step& s, const AttentionWeights& w, View x, const Norm& next) {
    int64_t q_cols = static_cast<int64_t>(w.qkv.n_heads) * w.qkv.head_dim;
    int64_t kv_cols = static_cast<int64_t>(w.qkv.n_kv_heads) * w.qkv.head_dim;
    View all = ws_.qkv.slice(0, x.rows), y = ws_.attended.slice(0, x.rows).columns(0, q_cols);
    Qkv qkv{all.columns(0, q_cols), all.columns(q_cols, kv_cols), all.columns(q_cols + kv_cols, kv_cols)};
    if (w.conv.taps.empty()) {
        backend_.norm_qkv_rope(s, x, w.norm, w.qkv, w.rope, w.ring.type, qkv);
    } else {
        View channels = all.columns(0, w.qkv.qkv.rows);
        backend_.norm_matmul(s, x, w.norm, w.qkv.qkv, channels);
        backend_.conv_silu(s, channels, w.conv, w.conv_state);
        backend_.head_norm_rope(s, w.qkv, w.rope, w.ring.type, qkv);
    }
    backend_.attention(s, qkv, w.ring, y);
    backend_.matmul_add(s, y, w.out_proj, x, next);
}

// x += W_o (rmsnorm(y) * silu(g)), by heads; y the decaying recurrence of q, k, v; [q k v g low] = W rmsnorm(x). In gla
// the key channels decay as W_gate low says; in retention each head decays at its own rate, and q and k are rotated.
void Samba::decayed(const Step& s, const DecayedWeights& w, View x, const Norm& next) {
    int64_t keys = int64_t{w.n_heads} * w.key_dim, values = int64_t{w.n_heads} * w.value_dim;
    View all = ws_.qkvg.slice(0, x.rows).columns(0, w.qkvg.rows), y = ws_.recalled.slice(0, x.rows).columns(0, values);
    View q = all.columns(0, keys), k = all.columns(keys, keys), v = all.columns(2 * keys, values);
    View gate = all.columns(2 * keys + values, values), gates;
    backend_.norm_matmul(s, x, w.norm, w.qkvg, all);
    if (!w.gate_proj.empty()) {
        gates = ws_.gates.slice(0, x.rows).columns(0, keys);
        backend_.matmul(s, all.columns(2 * (keys + values), w.gate_proj.cols), w.gate_proj, gates);
    }
    if (w.rope) backend_.head_norm_rope(s, w.heads, w.rope, DType::kF32, {q, k, v});
    Decayed in{q, k, v, gates, w.gate_proj.empty() ? &w.head_decay : nullptr, w.n_heads, w.key_dim, w.value_dim};
    backend_.decay_scan(s, in, w.state, y);
    backend_.head_norm_gate(s, y, w.head_norm, gate);
    backend_.matmul_add(s, y, w.out_proj, x, next);
}

// n = rmsnorm(x); v = silu(W_v n); [u z r h0] = W_mix silu(scan(conv(n))); with q and k made of z, and their relative
// bias, a = attention(q, k, v) within chunks; x += sigmoid(u) * (silu(h0 + W_o (a * silu(r))) - x)
void Samba::mega(const Step& s, const MegaWeights& w, View x, const Norm&) {
    int64_t d = x.cols, z_dim = w.keys.scale.cols, key_dim = w.ring.key_dim;
    View n = ws_.normed.slice(0, x.rows), dbc = ws_.dbc.slice(0, x.rows), all = ws_.qkv.slice(0, x.rows);
    View mix = ws_.mix.slice(0, x.rows), y = ws_.attended.slice(0, x.rows).columns(0, d);
    View u = mix.columns(0, d), z = mix.columns(d, z_dim), r = mix.columns(d + z_dim, d);
    Qkv qkv{all.columns(0, key_dim), all.columns(key_dim, key_dim), all.columns(2 * key_dim, d)};
    backend_.rmsnorm(s, x, w.norm, n);
    backend_.matmul(s, n, w.v_proj, qkv.v);
    backend_.silu(s, qkv.v);
    backend_.conv_matmul(s, n, w.conv, w.x_proj, w.conv_state, dbc);
    Scan scan{n, {}, dbc, static_cast<int>(w.ssm.dt_proj.cols), static_cast<int>(w.ssm.A.cols)};
    backend_.dt_scan(s, scan, w.ssm, w.ssm_state, n);
    backend_.silu(s, n);
    backend_.matmul(s, n, w.mix, mix);
    backend_.mega_keys(s, z, w.keys, *w.rope, w.ring.type, qkv.q, qkv.k);
    backend_.chunk_attention(s, qkv, w.ring, 1.0f / std::sqrt(static_cast<float>(z_dim)), y);
    backend_.mul_silu(s, y, r);
    backend_.matmul(s, y, w.out_proj, n);
    backend_.gated_residual(s, u, mix.columns(2 * d + z_dim, d), n, x);
}

// x += W_down (silu(W_gate h) * W_up h), h = rmsnorm(x)
void Samba::mlp(const Step& s, const MlpWeights& w, View x, const Norm& next) {
    View h = ws_.h.slice(0, x.rows).columns(0, w.down.cols);
    backend_.norm_gate_up(s, x, w.norm, w.gate_up, h);
    backend_.matmul_add(s, h, w.down, x, next);
}

}  // namespace samba
