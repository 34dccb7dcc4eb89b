// How well a model predicts a text: negative log-likelihood of its tokens, and how it depends on the position.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace samba {

// Mean and standard error of a growing number of values.
struct Mean {
    int64_t n = 0;
    double sum = 0, sum_of_squares = 0;

    void add(double value) {
        ++n;
        sum += value;
        sum_of_squares += value * value;
    }
    double mean() const { return n > 0 ? sum / static_cast<double>(n) : 0; }
    double standard_error() const;
};

// The negative logarithm of the token's probability, in nats.
double nll_of(std::span<const float> logits, int32_t token);

// KL(p || q) in nats, p and q being the distributions of these logits.
double kl_divergence(std::span<const float> p_logits, std::span<const float> q_logits);

// Values by position in buckets that double: 0, 1, 2–3, 4–7, …
class ByPosition {
  public:
    struct Bucket {
        int64_t from = 0, to = 0;  // positions from … to - 1
        Mean nll;
    };
    void add(int64_t position, double nll);
    std::vector<Bucket> buckets() const;  // those that hold something

  private:
    std::vector<Mean> means_;
};

}  // namespace samba
