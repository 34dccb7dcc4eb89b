// What a slot's sampling needs on the device, and how results come back.
#pragma once
#include <cstdint>

#include "kernels/step.h"

namespace samba::cuda {

inline constexpr int kMaxTop = 128;  // logprobs of alternatives that a step can report

struct SlotSampling {
    float temp, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    int32_t top_k, repeat_last_n, n_top, has_bias;
    uint64_t seed;
};

// A row's result, in host memory that the device writes. `step` is written last.
struct SampleResult {
    uint64_t step;
    int64_t position;
    int32_t slot, n_top;
    TokenLogprob token;
    TokenLogprob top[kMaxTop];
};

struct SamplingTables {
    const SlotSampling* slots = nullptr;  // (n_slots)
    const float* bias = nullptr;          // (n_slots, vocab)
    float* changed = nullptr;             // (kLogitRows, vocab): logits after bias and penalties
    int32_t* counts = nullptr;            // (kLogitRows, vocab)
    SampleResult* results = nullptr;      // (kResultSteps, max_results), host memory
    int max_results = 0;
};
inline constexpr int kResultSteps = 8;

}  // namespace samba::cuda
