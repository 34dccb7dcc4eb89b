// How a token is drawn from logits, the same on every device and in this order: logit bias; penalties over the last
// `repeat_last_n` tokens, prompt included; top-k; top-p; min-p; temperature; draw. Ties go to the lower id.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/step.h"

namespace samba {

struct SamplingParams {
    float temp = 0.8f;  // 0: greedy
    int top_k = 40;     // 0: all
    float top_p = 0.95f;
    float min_p = 0.05f;
    float repeat_penalty = 1.0f;     // a positive logit of a recent token is divided by it, a negative one multiplied
    int repeat_last_n = 64;          // how many of the last tokens count as recent; at most kHistory
    float frequency_penalty = 0.0f;  // subtracted for each occurrence among the recent tokens
    float presence_penalty = 0.0f;   // subtracted once for a recent token
    uint64_t seed = 0;
    std::vector<std::pair<int32_t, float>> logit_bias;  // added; -inf bans
    int n_top = 0;                                      // how many best logprobs to report
};

// A slot remembers its last tokens, the token of position p at index p mod kHistory.
inline constexpr int64_t kHistory = 65536;

// The uniform number in [0, 1) of position p: Philox-4x32-10 (Salmon et al., SC 2011) with the seed as its key and the
// position as its counter, 24 bits. No generator state exists, so none needs saving.
float philox_uniform(uint64_t seed, int64_t position);

// The specification of sampling, in double precision on the host: draws the token of `position` from logits (vocab).
// `recent`: the last repeat_last_n tokens before it, oldest first. Uses scratch memory of its own.
Sampled sample_token(std::span<const float> logits, const SamplingParams& params, std::span<const int32_t> recent,
                     int slot, int64_t position);

}  // namespace samba
