// Log-probabilities of tokens, from a row of logits on the host.
#pragma once
#include <cstdint>
#include <span>

namespace samba {

// ln Σ exp(x), to a relative error of 1e-5 of the sum.
double log_sum_exp(std::span<const float> x);

// ln softmax(logits)[id]
float log_prob(std::span<const float> logits, int32_t id);

}  // namespace samba
