// How likely texts are as replies to one prompt: its state is computed once and forked for every text, many texts a
// step.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "engine/session.h"

namespace samba {

class ReplyScorer {
  public:
    // With that many slots of the engine. `prompt` is not empty.
    ReplyScorer(Engine& engine, std::span<const int32_t> prompt, int n_slots);

    // The mean log-probability a token of each text, natural logarithm; 0 for one without tokens. Of a text that is
    // longer than a step, the begin counts.
    std::vector<double> score(std::span<const std::vector<int32_t>> texts);
    // Texts in portions of about this many tokens cost least.
    int64_t rows_per_step() const { return rows_per_step_; }

  private:
    Engine& engine_;
    std::vector<std::unique_ptr<Session>> sessions_;
    Snapshot after_prompt_;
    std::vector<float> first_;  // log-probabilities (vocab) of a reply's first token
    int64_t rows_per_step_;

    // Texts that go into one step, each in a session of its own.
    struct Batch {
        Step step;
        std::vector<size_t> texts;  // of each wanted row
    };
    void add(Batch& batch, size_t text, std::span<const int32_t> ids);
    void run(Batch& batch, std::vector<double>& sums);
};

}  // namespace samba
