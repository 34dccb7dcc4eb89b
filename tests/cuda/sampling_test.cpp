// Sampling on the device draws the token that the specification on the host draws (kernels/sampling.h), whatever the
// parameters; and reports the same logprobs.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>

#include "tests/cuda/rig.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// One slot's sampling, from given logits.
class Sampler {
  public:
    explicit Sampler(int64_t vocab, int n_slots = 2) {
        rig_->prepare({.max_rows = 64, .n_slots = n_slots, .d_model = 8, .vocab_size = vocab, .max_cols = 8});
        logits_ = rig_.matrix(n_slots, vocab, DType::kF32);
        x_ = rig_.matrix(n_slots, 8, DType::kF32);
        Matrix zeros(vocab, 8);
        table_ = rig_.weight(zeros, DType::kF32);
    }
    Rig& rig() { return rig_; }

    // Draws for rows of logits, one a slot: the token of position + 1.
    std::vector<Sampled> draw(const Matrix& logits, int64_t position) {
        std::vector<Run> runs;
        for (int i = 0; i < logits.rows; ++i) runs.push_back({i, position, 0, 1, false});
        Step s = step_of(kDecode, runs);
        s.sample = true;
        for (int i = 0; i < logits.rows; ++i) s.wanted.push_back(i);
        rig_.write(logits, logits_);
        rig_->submit(s, [&](const Step& step) {
            rig_->embed(step, table_, {}, x_.slice(0, step.n_rows()));
            rig_->sample(step, 0, logits_.slice(0, step.n_rows()));
        });
        return rig_->receive();
    }

  private:
    Rig rig_;
    View logits_, x_;
    Weight table_;
};

SamplingParams params(float temp, int top_k, float top_p, float min_p) {
    SamplingParams p;
    p.temp = temp, p.top_k = top_k, p.top_p = top_p, p.min_p = min_p;
    p.seed = 42;
    return p;
}

void check_same(const Sampled& got, const Sampled& want) {
    CHECK(got.token.id == want.token.id);
    CHECK(got.slot == want.slot);
    CHECK(got.position == want.position);
    CHECK(std::abs(got.token.logprob - want.token.logprob) < 1e-4f);
    REQUIRE(got.top.size() == want.top.size());
    for (size_t i = 0; i < got.top.size(); ++i) {
        CHECK(got.top[i].id == want.top[i].id);
        CHECK(std::abs(got.top[i].logprob - want.top[i].logprob) < 1e-4f);
    }
}

}  // namespace

TEST_CASE("every combination of limits draws the specification's token", "[op]") {
    const int64_t vocab = GENERATE(1, 50, 513, 2048, 2049, 8192);  // groups of 4, but for the last two
    Sampler sampler(vocab);
    int64_t position = 100;
    for (const SamplingParams& base :
         {params(0, 40, 0.95f, 0.05f), params(0.8f, 40, 0.95f, 0.05f), params(1, 0, 1, 0), params(1.5f, 0, 1, 0),
          params(0.7f, 0, 0.9f, 0), params(1, 0, 1, 0.02f), params(1, 1, 1, 0), params(2, 300, 0.99f, 0),
          params(1, 7, 0.5f, 0.3f), params(0.1f, 1000, 1, 0), params(0.8f, 1000, 0, 0), params(3, 0, 0.99f, 0.0001f),
          params(1, 256, 1, 0)}) {
        for (const float deviation : {0.2f, 3.0f}) {
            SamplingParams p = base;
            p.n_top = static_cast<int>(position % 3) * 10;
            sampler.rig()->set_sampling(0, p);
            const Matrix logits = random_matrix(1, vocab, static_cast<uint32_t>(position), deviation);
            INFO("vocabulary " << vocab << ", temp " << p.temp << ", top_k " << p.top_k << ", top_p " << p.top_p
                               << ", min_p " << p.min_p << ", deviation " << deviation);
            for (int i = 0; i < 2; ++i, position += 17) {
                check_same(sampler.draw(logits, position - 1).front(), sample_token(logits.values, p, {}, 0, position));
            }
        }
    }
}

TEST_CASE("equal weights are cut where the specification cuts them", "[op]") {
    Sampler sampler(100);
    const Matrix logits(1, 100);
    int64_t position = 100;
    for (const SamplingParams& p : {params(1, 0, 0.8f, 0), params(1, 40, 0.6f, 0), params(1, 50, 0.8f, 1.0f),
                                    params(1, 100, 0.99f, 2.0f), params(1e-30f, 40, 0.9f, 0.5f)}) {
        sampler.rig()->set_sampling(0, p);
        INFO("top_k " << p.top_k << ", top_p " << p.top_p << ", min_p " << p.min_p);
        for (int i = 0; i < 12; ++i, ++position)
            check_same(sampler.draw(logits, position - 1).front(), sample_token(logits.values, p, {}, 0, position));
    }
}

TEST_CASE("logprobs of large logits, and as many as can be reported", "[op]") {
    Sampler sampler(1000);
    Matrix logits = random_matrix(1, 1000, 14, 2.0f);
    for (float& logit : logits.values) logit += 8192.0f;
    SamplingParams p = params(0.8f, 40, 0.95f, 0.05f);
    for (const int n_top : {-1, 0, 128}) {
        p.n_top = n_top;
        sampler.rig()->set_sampling(0, p);
        check_same(sampler.draw(logits, 4).front(), sample_token(logits.values, p, {}, 0, 5));
    }
}

TEST_CASE("equal logits: the lower id; banned ones: never; nothing finite: the first", "[op]") {
    Sampler sampler(3000);
    Matrix logits(1, 3000);
    SamplingParams greedy = params(0, 40, 0.95f, 0.05f), warm = params(1, 5, 1, 0), all = params(1, 0, 0.8f, 0);
    greedy.n_top = warm.n_top = 5;
    for (const SamplingParams& p : {greedy, warm, all}) {
        sampler.rig()->set_sampling(0, p);
        for (const float value : {0.0f, -kInf}) {
            std::fill(logits.values.begin(), logits.values.end(), value);
            logits.values[1234] = logits.values[77] = logits.values[2999] = 1.0f;
            const Sampled want = sample_token(logits.values, p, {}, 0, 5);
            const Sampled got = sampler.draw(logits, 4).front();
            CHECK(got.token.id == want.token.id);
        }
    }
    sampler.rig()->set_sampling(0, greedy);
    std::fill(logits.values.begin(), logits.values.end(), 2.5f);  // more ties than the list has room for
    CHECK(sampler.draw(logits, 4).front().token.id == 0);
}

TEST_CASE("logits close together beside some far away", "[op]") {
    const int64_t vocab = 1000;
    Sampler sampler(vocab);
    Matrix logits = random_matrix(1, vocab, 12, 1e-3f);
    for (float& logit : logits.values) logit += 8.0f;
    for (size_t i = 7; i < logits.values.size(); i += 256) logits.values[i] = -1000.0f;
    for (int position = 100; position < 120; ++position) {
        const SamplingParams p = params(1, position % 2 == 0 ? 40 : 3, 0.99f, 0);
        sampler.rig()->set_sampling(0, p);
        check_same(sampler.draw(logits, position - 1).front(), sample_token(logits.values, p, {}, 0, position));
    }
}

TEST_CASE("a large vocabulary: random, mostly banned, and more ties than there is room for", "[op]") {
    const int64_t vocab = GENERATE(65537, 131072);
    Sampler sampler(vocab);
    const Matrix random = random_matrix(1, vocab, 13, 2.0f);
    Matrix banned = random, ties = random;
    for (size_t i = 0; i < banned.values.size(); ++i) {
        if (i % 4099 != 5) banned.values[i] = -kInf;
        ties.values[i] = i % 3 == 0 ? 9.0f : -4.0f;
    }
    int position = 200;
    for (const Matrix& logits : {random, banned, ties}) {
        for (const SamplingParams& p : {params(0, 40, 0.95f, 0.05f), params(0.8f, 40, 0.95f, 0.05f),
                                        params(1, 0, 0.9f, 0), params(1.2f, 5, 1, 0)}) {
            sampler.rig()->set_sampling(0, p);
            INFO("temp " << p.temp << ", top_k " << p.top_k);
            check_same(sampler.draw(logits, position - 1).front(), sample_token(logits.values, p, {}, 0, position));
            position++;
        }
    }
}

TEST_CASE("bias and penalties of the recent tokens", "[op]") {
    const int64_t vocab = GENERATE(1000, 5000);  // of one block that looks at them, of five
    Sampler sampler(vocab);
    std::vector<int32_t> history;
    for (int i = 0; i < 70000; ++i) history.push_back(static_cast<int32_t>(i * 7919LL % 40 * (i % 3) * (vocab / 85)));
    int64_t position = 70000;
    sampler.rig()->set_history(0, position, history);
    for (const int last_n : {0, 3, 64, 65536}) {
        for (const float temp : {0.0f, 0.9f}) {
            SamplingParams p = params(temp, 30, 0.98f, 0.01f);
            p.repeat_last_n = last_n;
            p.repeat_penalty = 1.3f;
            p.frequency_penalty = 0.01f;
            p.presence_penalty = 0.2f;
            p.n_top = last_n == 64 ? 128 : 3;
            p.logit_bias = {{5, 3.0f}, {17, -kInf}, {999, 2.0f}};
            if (vocab > 2048) p.logit_bias.push_back({2047, 3.0f}), p.logit_bias.push_back({2048, 3.1f});
            sampler.rig()->set_sampling(0, p);
            Matrix logits = random_matrix(1, vocab, static_cast<uint32_t>(last_n + 1), 2.0f);
            logits.values[17] = 50;
            // The step feeds token 0 at `position`, which so becomes the last of the recent ones.
            history.push_back(0);
            const Sampled got = sampler.draw(logits, position).front();
            ++position;
            const std::span<const int32_t> recent =
                std::span(history).last(std::min<size_t>(history.size(), static_cast<size_t>(last_n)));
            check_same(got, sample_token(logits.values, p, recent, 0, position));
            CHECK(got.token.id != 17);
        }
    }
}

TEST_CASE("a short history counts only what is known", "[op]") {
    Sampler sampler(100);
    const std::vector<int32_t> known = {4, 4, 9};
    sampler.rig()->set_history(0, 1000, known);
    SamplingParams p = params(0, 0, 1, 0);
    p.repeat_penalty = 1;
    p.frequency_penalty = 1;
    sampler.rig()->set_sampling(0, p);
    const Matrix logits = random_matrix(1, 100, 9);
    const int32_t recent[] = {4, 4, 9, 0};
    check_same(sampler.draw(logits, 1000).front(), sample_token(logits.values, p, recent, 0, 1001));
}

TEST_CASE("slots have parameters of their own", "[op]") {
    Sampler sampler(500, 3);
    SamplingParams each[] = {params(0, 0, 1, 0), params(1, 40, 0.9f, 0), params(2, 0, 1, 0.1f)};
    each[1].logit_bias = {{3, 4.0f}};  // its logits are changed, the others' not
    each[1].n_top = each[2].n_top = 5;
    for (int i = 0; i < 3; ++i) sampler.rig()->set_sampling(i, each[i]);
    const Matrix logits = random_matrix(3, 500, 10, 2.0f);
    for (int64_t position = 0; position < 20; ++position) {
        const std::vector<Sampled> got = sampler.draw(logits, position);
        REQUIRE(got.size() == 3);
        for (int i = 0; i < 3; ++i) {
            const std::span<const float> row(logits.row(i), 500);
            check_same(got[static_cast<size_t>(i)], sample_token(row, each[i], {}, i, position + 1));
        }
    }
}
