// Sampling on the host. Top-k, top-p and min-p each keep a beginning of the candidates in their order (logit, then id),
// so only as much of that order is established as the draw needs.
#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/op_kernels.h"
#include "kernels/philox.h"

namespace samba {
namespace {

struct Candidate {
    float logit;
    int32_t id;
};
bool better(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

constexpr size_t kPiece = 64;            // logits looked at together
constexpr size_t kFewCandidates = 1024;  // up to so many are selected in one pass over the logits
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Values of a piece above a bound? Written so that the compiler makes vectors of it.
bool any_above(const float* x, size_t n, float bound) {
    int any = 0;
    for (size_t i = 0; i < n; ++i) any |= x[i] > bound;
    return any != 0;
}

// Logits are searched and summed with the machine's own instructions; sums may differ in their last bits.
const OpKernels& ops() {
    static const OpKernels& kernels = op_kernels(cpu_isa());
    return kernels;
}

Candidate best_of(std::span<const float> logits) {
    float max = ops().max(logits.data(), static_cast<int64_t>(logits.size()));
    auto at = std::find(logits.begin(), logits.end(), max);
    return {max, at == logits.end() ? 0 : static_cast<int32_t>(at - logits.begin())};
}

// The k best, in order; -inf is no candidate.
void select_best(std::span<const float> logits, size_t k, std::vector<Candidate>& out) {
    out.clear();
    if (k == 0) return;
    float bound = -kInfinity;  // k candidates of lower ids are at least as good
    auto shrink = [&] {
        if (out.size() <= k) return;
        std::nth_element(out.begin(), out.begin() + static_cast<ptrdiff_t>(k - 1), out.end(), better);
        out.resize(k);
        bound = out.back().logit;
    };
    for (size_t i = 0; i < logits.size(); i += kPiece) {
        size_t n = std::min(kPiece, logits.size() - i);
        if (!any_above(&logits[i], n, bound)) continue;
        for (size_t j = i; j < i + n; ++j) {
            if (logits[j] > bound) out.push_back({logits[j], static_cast<int32_t>(j)});
        }
        if (out.size() >= 2 * k + kPiece) shrink();
    }
    shrink();
    std::sort(out.begin(), out.end(), better);
}

// Bias, then penalties of the recent tokens, into `out`.
void adjust(std::span<const float> logits, const SamplingParams& params, std::span<const int32_t> recent,
            std::vector<float>& out) {
    out.assign(logits.begin(), logits.end());
    auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < out.size(); };
    for (auto [id, bias] : params.logit_bias) {
        if (known(id)) out[static_cast<size_t>(id)] += bias;
    }
    static thread_local std::vector<int32_t> ids;
    ids.assign(recent.begin(), recent.end());
    std::sort(ids.begin(), ids.end());
    for (size_t i = 0, next; i < ids.size(); i = next) {
        for (next = i + 1; next < ids.size() && ids[next] == ids[i];) ++next;
        if (!known(ids[i])) continue;
        float& logit = out[static_cast<size_t>(ids[i])];
        double x = logit > 0 ? double{logit} / params.repeat_penalty : double{logit} * params.repeat_penalty;
        logit =
            static_cast<float>(x - static_cast<double>(next - i) * params.frequency_penalty - params.presence_penalty);
    }
}

// Candidates of which a growing beginning is in order.
class Order {
  public:
    Order(std::vector<Candidate>& all, bool few) : all_(all) {
        if (!few) return;
        std::sort(all.begin(), all.end(), better);
        sorted_ = all.size();
    }
    const Candidate& operator[](size_t i) {
        if (i >= sorted_) {
            size_t more = std::min(all_.size(), std::max<size_t>(256, 4 * i));
            auto from = all_.begin() + static_cast<ptrdiff_t>(sorted_),
                 to = all_.begin() + static_cast<ptrdiff_t>(more);
            if (to != all_.end()) std::nth_element(from, to, all_.end(), better);
            std::sort(from, to, better);
            sorted_ = more;
        }
        return all_[i];
    }
    size_t size() const { return all_.size(); }

  private:
    std::vector<Candidate>& all_;
    size_t sorted_ = 0;
};

// How many candidates top-p leaves: the fewest whose share of all reaches it.
size_t top_p_count(Order& order, double p, double total) {
    size_t n = 0;
    for (double sum = 0; n < order.size() && sum < p * total; ++n)
        sum += std::exp(double{order[n].logit} - order[0].logit);
    return std::max<size_t>(1, n);
}

// What top-k leaves, in any order; `total` becomes the sum of their exp(logit - best).
void keep_top_k(std::span<const float> logits, const SamplingParams& params, float best, std::vector<Candidate>& kept,
                double& total) {
    size_t k = params.top_k > 0 ? std::min(static_cast<size_t>(params.top_k), logits.size()) : logits.size();
    if (k <= kFewCandidates) {
        select_best(logits, k, kept);
    } else {
        // What min-p drops anyway need not be collected where all are candidates; rounding is left to its own test.
        float floor = k == logits.size() ? best + std::log(params.min_p) - 0.001f : -kInfinity;
        kept.clear();
        for (size_t i = 0; i < logits.size(); ++i) {
            if (logits[i] > floor) kept.push_back({logits[i], static_cast<int32_t>(i)});
        }
        if (kept.size() > k) {
            std::nth_element(kept.begin(), kept.begin() + static_cast<ptrdiff_t>(k - 1), kept.end(), better);
            kept.resize(k);
        }
    }
    total = 0;
    if (k == logits.size()) {
        total = ops().sum_exp(logits.data(), static_cast<int64_t>(k), best);
    } else {
        for (const Candidate& c : kept) total += std::exp(double{c.logit} - best);
    }
}

int32_t draw(std::span<const float> logits, const Candidate& best, const SamplingParams& params, float uniform) {
    static thread_local std::vector<Candidate> kept;
    double total = 0, min_p = std::min(params.min_p, 1.0f);
    keep_top_k(logits, params, best.logit, kept, total);
    auto too_small = [&](const Candidate& c) { return std::exp(double{c.logit} - best.logit) < min_p; };
    if (min_p > 0) kept.erase(std::remove_if(kept.begin(), kept.end(), too_small), kept.end());
    if (kept.empty()) return best.id;
    Order order(kept, kept.size() <= kFewCandidates);
    if (params.top_p < 1) kept.resize(std::min(kept.size(), top_p_count(order, params.top_p, total)));
    auto weight = [&](const Candidate& c) { return std::exp((double{c.logit} - best.logit) / params.temp); };
    double sum = 0, seen = 0;
    for (const Candidate& c : kept) sum += weight(c);
    for (size_t i = 0; i + 1 < kept.size(); ++i) {
        seen += weight(order[i]);
        if (uniform * sum < seen) return order[i].id;
    }
    return order[kept.size() - 1].id;
}

}  // namespace

float philox_uniform(uint64_t seed, int64_t position) { return philox_uniform_at(seed, position); }

Sampled sample_token(std::span<const float> logits, const SamplingParams& params, std::span<const int32_t> recent,
                     int slot, int64_t position) {
    static thread_local std::vector<float> adjusted;
    static thread_local std::vector<Candidate> best;
    recent = recent.last(std::min(recent.size(), static_cast<size_t>(std::max(0, params.repeat_last_n))));
    bool penalties = params.repeat_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0;
    if (!penalties) recent = {};
    std::span<const float> x = logits;
    Candidate raw_top = best_of(logits), top = raw_top;
    if (!params.logit_bias.empty() || !recent.empty()) {
        adjust(logits, params, recent, adjusted);
        x = adjusted;
        top = best_of(x);
    }
    Sampled out;
    out.slot = slot;
    out.position = position;
    out.token.id = top.id;
    if (params.temp > 0 && std::isfinite(top.logit)) {
        out.token.id = draw(x, top, params, philox_uniform(params.seed, position));
    }
    double total = ops().sum_exp(logits.data(), static_cast<int64_t>(logits.size()), raw_top.logit);
    double log_total = raw_top.logit + std::log(total);
    auto logprob = [&](int32_t id) { return static_cast<float>(logits[static_cast<size_t>(id)] - log_total); };
    out.token.logprob = logprob(out.token.id);
    select_best(logits, static_cast<size_t>(std::max(0, params.n_top)), best);
    for (const Candidate& c : best) out.top.push_back({c.id, logprob(c.id)});
    return out;
}

}  // namespace samba
