#include "kernels/log_sum_exp.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace samba {
namespace {

constexpr size_t kLanes = 64;  // sums of their own, so that loops over them become vector code

constexpr float kLowest = -87.0f;  // its exponential is the least normal number

// exp(x) for x in [kLowest, 0], relative error below 1e-5, without branches.
inline float exp_negative(float x) {
    constexpr float kLog2E = 1.44269504f, kLn2 = 0.69314718f;
    float y = x * kLog2E;
    auto whole = static_cast<int32_t>(y - 0.5f);  // the nearest integer: y is not positive
    float t = (y - static_cast<float>(whole)) * kLn2;
    // e^t, |t| < 0.35, by Taylor's series
    float p = 1 + t * (1 + t * (1 / 2.f + t * (1 / 6.f + t * (1 / 24.f + t * (1 / 120.f)))));
    return p * std::bit_cast<float>((whole + 127) << 23);
}

}  // namespace

double log_sum_exp(std::span<const float> x) {
    const float* v = x.data();
    size_t whole = x.size() / kLanes * kLanes;
    float most[kLanes], sums[kLanes] = {};
    std::fill(most, most + kLanes, v[0]);
    for (size_t i = 0; i < whole; i += kLanes) {
        for (size_t l = 0; l < kLanes; ++l) most[l] = v[i + l] > most[l] ? v[i + l] : most[l];
    }
    for (size_t i = whole; i < x.size(); ++i) most[0] = std::max(most[0], v[i]);
    float max = *std::max_element(most, most + kLanes);
    for (size_t i = 0; i < whole; i += kLanes) {
        float d[kLanes];
        for (size_t l = 0; l < kLanes; ++l) d[l] = v[i + l] - max > kLowest ? v[i + l] - max : kLowest;
        for (size_t l = 0; l < kLanes; ++l) sums[l] += exp_negative(d[l]);
    }
    for (size_t i = whole; i < x.size(); ++i) sums[0] += exp_negative(std::max(v[i] - max, kLowest));
    double sum = 0;
    for (float s : sums) sum += static_cast<double>(s);
    return static_cast<double>(max) + std::log(sum);
}

float log_prob(std::span<const float> logits, int32_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum_exp(logits));
}

}  // namespace samba
