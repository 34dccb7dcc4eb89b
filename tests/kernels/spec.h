// What each op means, in double precision, straight from the formulas of kernels/backend.h and without any state: a
// sequence is given whole, from its first token on.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/sampling.h"
#include "tests/kernels/harness.h"

namespace samba::test::spec {

using Doubles = std::vector<double>;  // a matrix, row-major

Doubles rmsnorm(const Matrix& x, const Matrix& weight, double eps);
Doubles silu_mul(const Matrix& gate_up);  // (n, 2 d) -> (n, d)

// cos and sin of position · theta^(-2i/dim), i < dim / 2, in 80 bits or more.
void rope(int64_t position, int dim, double theta, Doubles& cos, Doubles& sin);
// A head: norm (empty: none), then the rotation of the first cos.size() * 2 values.
Doubles head(std::span<const float> x, std::span<const float> norm, double eps, const Doubles& cos, const Doubles& sin);

// u (n, channels), taps (channels, width), bias (channels) or empty.
Doubles conv_silu(const Matrix& u, const Matrix& taps, std::span<const float> bias);

struct ScanInput {
    Matrix u, z, dt;  // (n, d_inner); dt before the softplus
    Matrix B, C;      // (n, d_state)
    Matrix A, D;      // (d_inner, d_state), (1, d_inner)
};
struct ScanOutput {
    Doubles y;                    // (n, d_inner)
    std::vector<Doubles> states;  // after each row: (d_inner, d_state)
};
ScanOutput scan(const ScanInput& in);

// q, k (n, n_heads * key_dim), v (n, n_heads * value_dim); gates (n, n_heads * key_dim), or none: head_decay (1,
// n_heads).
struct DecayInput {
    int n_heads = 1;
    Matrix q, k, v, gates, head_decay;
};
DecayInput decay_input(int64_t n, int n_heads, int key_dim, int value_dim, bool gated);  // random
ScanOutput decay(const DecayInput& in);
Doubles head_norm_gate(const Matrix& y, const Matrix& weight, const Matrix& gate, double eps);

// Row `position` of the output: q, k, v (n, heads * head_dim); window 0 is full attention.
Doubles attention(const Matrix& q, const Matrix& k, const Matrix& v, int head_dim, int64_t window, int64_t position);

// Mega. z (n, dim) before its silu, scale and shift (2, dim), bias_q and bias_k (1, dim); the rows are positions 0 ….
struct MegaKeysOutput {
    Doubles q, k;  // (n, 2 dim)
};
MegaKeysOutput mega_keys(const Matrix& z, const Matrix& scale, const Matrix& shift, const Matrix& bias_q,
                         const Matrix& bias_k);
Doubles chunk_attention(const Matrix& q, const Matrix& k, const Matrix& v, int64_t chunk, double scale);
Doubles gated_residual(const Matrix& u, const Matrix& h0, const Matrix& h, const Matrix& x);
Doubles silu(const Matrix& x);

// The candidates that may be drawn and their probabilities, best first, by a sort of the whole vocabulary.
std::vector<std::pair<int32_t, double>> candidates(std::span<const float> logits, const SamplingParams& params,
                                                   std::span<const int32_t> recent);
Doubles log_softmax(std::span<const float> logits);

}  // namespace samba::test::spec
