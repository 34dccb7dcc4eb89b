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

// What a part of a row's logits comes to.
inline constexpr int kPartThreads = 256, kChunkLogits = 8, kPartLogits = kPartThreads * kChunkLogits;
inline int sampling_parts(int64_t vocab) { return static_cast<int>((vocab + kPartLogits - 1) / kPartLogits); }
struct PartStats {
    double raw_sum, sum;  // of exp(logit - max), of the raw logits and of those to draw from
    float raw_max, max;
    int32_t n_finite;  // logits to draw from
};

struct SamplingTables {
    const SlotSampling* slots = nullptr;  // (n_slots)
    const float* bias = nullptr;          // (n_slots, vocab)
    float* changed = nullptr;             // (kLogitRows, vocab): logits after bias and penalties
    int32_t* counts = nullptr;            // (kLogitRows, vocab)
    uint64_t* chunks = nullptr;           // (kLogitRows, parts, kPartThreads): the best candidate of each chunk
    PartStats* parts = nullptr;           // (kLogitRows, parts)
    SampleResult* results = nullptr;      // (kResultSteps, max_results), host memory
    int max_results = 0;
};
inline constexpr int kResultSteps = 8;

}  // namespace samba::cuda
