// What `bench` measures: prompts read and tokens generated, at a depth, for a number of sequences at once.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/session.h"

namespace samba {

struct BenchTest {
    int64_t n_prompt = 0, n_gen = 0;  // one of them
    int64_t n_depth = 0;              // tokens in the state before
    int64_t n_batch = 1;              // sequences at once
    std::string name() const;         // "pp512", "tg128 b8 @ d4096"
};

struct BenchResult {
    BenchTest test;
    std::vector<double> samples;  // tokens a second, of all sequences together
    double mean() const, sd() const, median() const;
};

// Runs tests on one engine; sequences of a depth are read once and restored before each repetition.
class Bench {
  public:
    explicit Bench(Engine& engine) : engine_(engine) {}

    // `reps` timed repetitions after one that is not counted. `tick` is called between; false stops (fewer samples).
    BenchResult run(const BenchTest& test, int64_t reps, const std::function<bool(const std::string&)>& tick);

  private:
    Engine& engine_;
    std::vector<std::unique_ptr<Session>> sessions_;
    Snapshot deep_;
    int64_t depth_ = -1;  // of deep_
    std::function<bool(const std::string&)> tick_;

    bool prepare(const BenchTest& test);
    void begin(Session& session) const;
    double seconds(const BenchTest& test);
};

// Bytes that a decode step of n_batch sequences at that position moves: weights once; of each sequence, the recurrent
// state read and written and the visible ring rows read.
double step_bytes(Engine& engine, int64_t position, int64_t n_batch);

// Operations of the matrix products for one token of a prompt (the head is computed for the last token alone).
double token_operations(const Engine& engine);

}  // namespace samba
