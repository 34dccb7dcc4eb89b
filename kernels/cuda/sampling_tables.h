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

// A row's result, in host memory that the device writes: words that each carry the step's number (its lower half), so
// that whatever arrives first is known for what it is. `top` is there before them.
struct SampleResult {
    uint64_t id, logprob, n_top;
    TokenLogprob top[kMaxTop];

#ifdef __CUDACC__
    __device__ void write(uint64_t step, int32_t id_, float logprob_, int n_top_) {
        const auto put = [&](uint64_t& word, uint32_t value) {
            *const_cast<volatile uint64_t*>(&word) = step << 32 | value;
        };
        put(n_top, n_top_), put(id, id_), put(logprob, __float_as_uint(logprob_));
    }
#endif
};

// A row's logits are looked at in groups.
inline constexpr int kGroups = 512;
struct LogitGroups {
    int size_bits = 2, lane_bits = 0;  // 1 << size_bits logits by 1 << lane_bits lanes

    explicit LogitGroups(int64_t vocab) {
        while (int64_t{kGroups} << size_bits < vocab) ++size_bits;
        lane_bits = size_bits < 7 ? size_bits - 2 : 5;
    }
    int per_lane() const { return 1 << (size_bits - lane_bits); }
};
inline constexpr int kSurveyThreads = 256;
inline int survey_blocks(int64_t vocab) {
    const int64_t n = int64_t{kSurveyThreads} * LogitGroups(vocab).per_lane();
    return static_cast<int>((vocab + n - 1) / n);
}

// What a block's logits come to.
struct PartStats {
    float max, sum;    // sum: of exp(logit - max)
    int32_t n_finite;  // logits that are not -inf
};

struct SamplingTables {
    const SlotSampling* slots = nullptr;  // (n_slots)
    const float* bias = nullptr;          // (n_slots, vocab)
    float* changed = nullptr;             // (kLogitRows, vocab): logits after bias and penalties
    int32_t* counts = nullptr;            // (kLogitRows, vocab)
    uint32_t* groups = nullptr;           // (kLogitRows, kGroups): the greatest logit of each group, as a key
    PartStats* parts = nullptr;           // (kLogitRows, 2, survey_blocks): of the raw logits, of those to draw from
    SampleResult* results = nullptr;      // (kResultSteps, max_results), host memory
    int max_results = 0;
};
inline constexpr int kResultSteps = 8;

}  // namespace samba::cuda
