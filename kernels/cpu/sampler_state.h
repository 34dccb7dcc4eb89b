// What the CPU remembers of each slot for sampling: its parameters and its last tokens.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sampling.h"

namespace samba {

class SamplerState {
  public:
    void resize(int n_slots);
    void set_params(int slot, const SamplingParams& params);
    const SamplingParams& params(int slot) const { return slots_[static_cast<size_t>(slot)].params; }

    // The tokens before `position`: the last kHistory of them or fewer. Forgets all others.
    void set_history(int slot, int64_t position, std::span<const int32_t> tokens);
    // The token of `position` is now known; positions after it are forgotten.
    void record(int slot, int64_t position, int32_t token);
    // The token of `position`, which must have been recorded.
    int32_t token(int slot, int64_t position) const;
    // The last repeat_last_n tokens before `position`, oldest first, or those that are known; valid until the next
    // call.
    std::span<const int32_t> recent(int slot, int64_t position);
    // Draws the token of `position` of a slot (sample_token), with the recent tokens before it, and records it.
    Sampled sample(int slot, int64_t position, std::span<const float> logits);

  private:
    struct Slot {
        SamplingParams params;
        int64_t first = 0, next = 0;  // the tokens of positions first … next - 1 are known
        std::vector<int32_t> ring;    // kHistory ids, position mod kHistory; allocated with the first token
    };
    std::vector<Slot> slots_;
    std::vector<int32_t> recent_;
};

}  // namespace samba
