#include "app/perplexity.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/log_sum_exp.h"

namespace samba {

double Mean::standard_error() const {
    if (n < 2) return 0;
    double count = static_cast<double>(n);
    double variance = (sum_of_squares - sum * sum / count) / (count - 1);
    return std::sqrt(std::max(variance, 0.0) / count);
}

double nll_of(std::span<const float> logits, int32_t token) {
    return log_sum_exp(logits) - logits[static_cast<size_t>(token)];
}

double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits) {
    double p_norm = log_sum_exp(p_logits), q_norm = log_sum_exp(q_logits), sum = 0;
    for (size_t i = 0; i < p_logits.size(); ++i) {
        double log_p = p_logits[i] - p_norm, log_q = q_logits[i] - q_norm;
        sum += std::exp(log_p) * (log_p - log_q);
    }
    return sum;
}

void ByPosition::add(int64_t position, double nll) {
    size_t bucket = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(position)));
    if (bucket >= means_.size()) means_.resize(bucket + 1);
    means_[bucket].add(nll);
}

std::vector<ByPosition::Bucket> ByPosition::buckets() const {
    std::vector<Bucket> buckets;
    for (size_t i = 0; i < means_.size(); ++i) {
        if (means_[i].n > 0) buckets.push_back({i == 0 ? 0 : int64_t{1} << (i - 1), int64_t{1} << i, means_[i]});
    }
    return buckets;
}

}  // namespace samba
