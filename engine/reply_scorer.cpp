#include "engine/reply_scorer.h"

#include <algorithm>

#include "kernels/log_sum_exp.h"

namespace samba {

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
        batch.step.targets.push_back(ids[i + 1]);
        batch.texts.push_back(text);
    }
}

void ReplyScorer::run(Batch& batch, std::vector<double>& sums) {
    if (batch.texts.empty()) return;
    batch.step.kind = StepKind::kPrefill;
    batch.step.on_logprobs = [&](int first, std::span<const float> logprobs) {
        for (size_t i = 0; i < logprobs.size(); ++i) {
            sums[batch.texts[static_cast<size_t>(first) + i]] += static_cast<double>(logprobs[i]);
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
