#include "engine/reply_scorer.h"

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

ReplyScorer::ReplyScorer(Engine& engine, std::span<const int32_t> prompt, int n_slots)
    : engine_(engine), rows_per_step_(engine.backend().prefill_chunk() - static_cast<int64_t>(prompt.size())) {
    for (int i = 0; i < n_slots; ++i) sessions_.push_back(std::make_unique<Session>(engine));
    Session& session = *sessions_.front();
    session.feed(prompt.first(prompt.size() - 1));
    session.feed_with_logits(prompt.last(1), [&](int64_t, std::span<const float> logits) {
        auto sum = static_cast<float>(log_sum_exp(logits));
        for (float x : logits) first_.push_back(x - sum);
    });
    after_prompt_ = session.snapshot();
}

void ReplyScorer::add(Batch& batch, size_t text, std::span<const int32_t> ids) {
    Session& session = *sessions_[batch.step.runs.size()];
    session.restore(after_prompt_);
    Run run = session.run(static_cast<int>(ids.size()) - 1);  // the last token's logits are of no use
    run.first_row = batch.step.n_rows();
    batch.step.runs.push_back(run);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
        batch.step.wanted.push_back(batch.step.n_rows());
        batch.step.tokens.push_back(ids[i]);
        batch.rows.push_back({text, ids[i + 1]});
    }
}

void ReplyScorer::run(Batch& batch, std::vector<double>& sums) {
    if (batch.rows.empty()) return;
    batch.step.kind = StepKind::kPrefill;
    batch.step.on_logits = [&](int first, View logits) {
        for (int64_t i = 0; i < logits.rows; ++i) {
            const Row& row = batch.rows[static_cast<size_t>(first + i)];
            const float* x = logits.f32(i);
            sums[row.text] += static_cast<double>(x[row.target]) - log_sum_exp({x, static_cast<size_t>(logits.cols)});
        }
    };
    engine_.run(batch.step);
    batch = {};
}

std::vector<double> ReplyScorer::score(std::span<const std::vector<int32_t>> texts) {
    std::vector<double> sums(texts.size(), 0.0);
    Batch batch;
    for (size_t i = 0; i < texts.size(); ++i) {
        std::span<const int32_t> ids = texts[i];
        if (ids.empty()) continue;
        ids = ids.first(std::min(ids.size(), static_cast<size_t>(rows_per_step_)));
        sums[i] = static_cast<double>(first_[static_cast<size_t>(ids[0])]);
        if (ids.size() > 1) {
            bool full = batch.step.runs.size() == sessions_.size() ||
                        batch.step.n_rows() + static_cast<int64_t>(ids.size()) - 1 > rows_per_step_;
            if (full) run(batch, sums);
            add(batch, i, ids);
        }
    }
    run(batch, sums);
    for (size_t i = 0; i < texts.size(); ++i) {
        size_t n = std::min(texts[i].size(), static_cast<size_t>(rows_per_step_));
        if (n > 0) sums[i] /= static_cast<double>(n);
    }
    return sums;
}

}  // namespace samba
