#include "kernels/cpu/sampler_state.h"

#include <algorithm>

namespace samba {

void SamplerState::resize(int n_slots) { slots_.resize(static_cast<size_t>(n_slots)); }

void SamplerState::set_params(int slot, const SamplingParams& params) {
    slots_[static_cast<size_t>(slot)].params = params;
}

void SamplerState::set_history(int slot, int64_t position, std::span<const int32_t> tokens) {
    Slot& s = slots_[static_cast<size_t>(slot)];
    tokens = tokens.last(std::min(tokens.size(), static_cast<size_t>(kHistory)));
    s.first = s.next = position - static_cast<int64_t>(tokens.size());
    for (int32_t token : tokens) record(slot, s.next, token);
}

void SamplerState::record(int slot, int64_t position, int32_t token) {
    Slot& s = slots_[static_cast<size_t>(slot)];
    s.ring.resize(kHistory);
    if (position < s.first || position > s.next) s.first = position;  // not a continuation: the older ones are unknown
    s.ring[static_cast<size_t>(position % kHistory)] = token;
    s.next = position + 1;
    s.first = std::max(s.first, s.next - kHistory);
}

int32_t SamplerState::token(int slot, int64_t position) const {
    return slots_[static_cast<size_t>(slot)].ring[static_cast<size_t>(position % kHistory)];
}

std::span<const int32_t> SamplerState::recent(int slot, int64_t position) {
    const Slot& s = slots_[static_cast<size_t>(slot)];
    recent_.clear();
    for (int64_t p = std::max(s.first, position - s.params.repeat_last_n); p < std::min(position, s.next); ++p) {
        recent_.push_back(token(slot, p));
    }
    return recent_;
}

Sampled SamplerState::sample(int slot, int64_t position, std::span<const float> logits) {
    Sampled drawn = sample_token(logits, params(slot), recent(slot, position), slot, position);
    record(slot, position, drawn.token.id);
    return drawn;
}

}  // namespace samba
