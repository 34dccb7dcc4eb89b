// The laws of sampling, against hand-computed examples and a naive sort of the whole vocabulary.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <set>

#include "kernels/cpu/sampler_state.h"
#include "kernels/philox.h"
#include "kernels/sampling.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

SamplingParams plain() {  // nothing but the temperature
    SamplingParams p;
    p.temp = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

int32_t sampled(const std::vector<float>& logits, const SamplingParams& p, int64_t position = 0,
                std::vector<int32_t> recent = {}) {
    return sample_token(logits, p, recent, 0, position).token.id;
}

std::vector<float> random_logits(size_t n, uint32_t seed, float deviation = 3.0f) {
    return random_matrix(1, static_cast<int64_t>(n), seed, deviation).values;
}

// How often each token is drawn at positions 0 … n - 1.
std::map<int32_t, int> frequencies(const std::vector<float>& logits, const SamplingParams& p, int n,
                                   const std::vector<int32_t>& recent = {}) {
    std::map<int32_t, int> counts;
    for (int i = 0; i < n; ++i) ++counts[sampled(logits, p, i, recent)];
    return counts;
}

}  // namespace

TEST_CASE("philox-4x32-10 gives the known answers of Random123") {
    struct Known {
        uint32_t counter[4], key[2], words[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (Known& k : known) {
        philox(k.counter, k.key[0], k.key[1]);
        CHECK(std::equal(k.counter, k.counter + 4, k.words));
    }
    CHECK(philox_uniform(0, 0) == static_cast<float>(0x6627e8d5 >> 8) / 16777216.0f);
}

TEST_CASE("the uniform number depends on the seed and the position alone, and is uniform") {
    int buckets[16] = {};
    std::set<float> values;
    for (int64_t p = 0; p < 16000; ++p) {
        float u = philox_uniform(7, p);
        REQUIRE((u >= 0 && u < 1));
        ++buckets[static_cast<int>(u * 16)];
        values.insert(u);
    }
    double chi = 0;
    for (int n : buckets) chi += (n - 1000.0) * (n - 1000.0) / 1000;
    CHECK(chi < 37.7);  // 15 degrees of freedom, p = 0.001
    CHECK(values.size() > 15950);
    CHECK(philox_uniform(7, 5) != philox_uniform(8, 5));
    CHECK(philox_uniform(7, 5) != philox_uniform(7, 5 + (int64_t{1} << 32)));
    CHECK(philox_uniform(7, 5) != philox_uniform(7 + (uint64_t{1} << 32), 5));
}

TEST_CASE("temperature 0 is the argmax, ties to the lower id") {
    SamplingParams p = plain();
    p.temp = 0;
    CHECK(sampled({1, 3, 2, 3}, p) == 1);
    CHECK(sampled({-5, -5, -5}, p) == 0);
    std::vector<float> logits = random_logits(1000, 1);
    logits[77] = logits[640] = logits[998] = 50;
    CHECK(sampled(logits, p) == 77);
    CHECK(sampled({-kInf, 2, 2}, p) == 1);
    p.top_k = 3;
    p.top_p = 0.1f;
    CHECK(sampled(logits, p) == 77);
}

TEST_CASE("top_k 1 is the argmax at any temperature, and ties at the border go to the lower ids") {
    SamplingParams p = plain();
    p.temp = 5;
    p.top_k = 1;
    for (int i = 0; i < 50; ++i) CHECK(sampled({1, 3, 2, 3}, p, i) == 1);
    p.top_k = 2;
    std::set<int32_t> seen;
    for (int i = 0; i < 100; ++i) seen.insert(sampled({0, 1, 2, 1, 1}, p, i));
    CHECK(seen == std::set<int32_t>{1, 2});
}

TEST_CASE("top_p keeps the fewest best tokens that reach it") {
    std::vector<float> logits;  // probabilities 0.5, 0.25, 0.125, 0.125
    for (float x : {0.125f, 0.5f, 0.125f, 0.25f}) logits.push_back(std::log(x));
    auto support = [&](float top_p) {
        SamplingParams p = plain();
        p.top_p = top_p;
        std::set<int32_t> seen;
        for (auto [id, n] : frequencies(logits, p, 400)) seen.insert(id);
        return seen;
    };
    CHECK(support(0.0f) == std::set<int32_t>{1});
    CHECK(support(0.49f) == std::set<int32_t>{1});
    CHECK(support(0.51f) == std::set<int32_t>{1, 3});
    CHECK(support(0.76f) == std::set<int32_t>{0, 1, 3});  // of the two that tie, the lower id
    CHECK(support(1.0f) == std::set<int32_t>{0, 1, 2, 3});
}

TEST_CASE("min_p keeps what has at least that share of the best, before the temperature") {
    std::vector<float> logits;
    for (float x : {0.5f, 0.06f, 0.04f, 0.4f}) logits.push_back(std::log(x));
    SamplingParams p = plain();
    p.min_p = 0.1f;
    p.temp = 100;  // flat: all that is left is drawn
    std::set<int32_t> seen;
    for (auto [id, n] : frequencies(logits, p, 300)) seen.insert(id);
    CHECK(seen == std::set<int32_t>{0, 1, 3});
    p.min_p = 1;
    CHECK(frequencies(logits, p, 50).size() == 1);
}

TEST_CASE("top-p counts the probabilities that top-k has left") {
    std::vector<float> logits;
    for (float x : {0.4f, 0.3f, 0.2f, 0.1f}) logits.push_back(std::log(x));
    SamplingParams p = plain();
    p.top_k = 2;      // 0.4 / 0.7 = 0.571 …
    p.top_p = 0.56f;  // … is enough
    CHECK(frequencies(logits, p, 100).size() == 1);
    p.top_k = 0;
    CHECK(frequencies(logits, p, 100).size() == 2);
}

TEST_CASE("penalties act on recent tokens as computed by hand") {
    SamplingParams p = plain();
    p.temp = 0;
    std::vector<float> logits = {2.0f, 1.9f, -1.0f};
    p.repeat_penalty = 1.1f;  // 2 / 1.1 = 1.818 < 1.9
    CHECK(sampled(logits, p, 0, {0}) == 1);
    CHECK(sampled(logits, p, 0, {0, 1}) == 0);        // 1.818 > 1.727
    CHECK(sampled({-1.0f, -1.05f}, p, 0, {0}) == 1);  // -1 * 1.1 = -1.1
    p.repeat_penalty = 1;
    p.presence_penalty = 0.15f;
    CHECK(sampled(logits, p, 0, {0, 0, 0}) == 1);  // once, however often: 1.85
    p.presence_penalty = 0.05f;
    CHECK(sampled(logits, p, 0, {0, 0, 0}) == 0);  // 1.95
    p.presence_penalty = 0;
    p.frequency_penalty = 0.04f;
    CHECK(sampled(logits, p, 0, {0, 0}) == 0);     // 2 - 0.08
    CHECK(sampled(logits, p, 0, {0, 0, 0}) == 1);  // 2 - 0.12
    p.repeat_last_n = 2;                           // only the last two count
    CHECK(sampled(logits, p, 0, {0, 0, 0}) == 0);
    p.repeat_last_n = 0;
    CHECK(sampled(logits, p, 0, {0, 0, 0}) == 0);
}

TEST_CASE("logit bias is added before all else; -inf bans, and may ban all but one") {
    SamplingParams p = plain();
    p.logit_bias = {{1, 1.0f}};
    p.temp = 0;
    CHECK(sampled({2.0f, 1.5f, 0}, p) == 1);
    p.repeat_penalty = 2;  // (1.5 + 1) / 2 < 2
    CHECK(sampled({2.0f, 1.5f, 0}, p, 0, {1}) == 0);
    p = plain();
    p.logit_bias = {{0, -kInf}, {2, -kInf}};
    for (int i = 0; i < 20; ++i) CHECK(sampled({9, 1, 9}, p, i) == 1);
    p.logit_bias.push_back({1, -kInf});
    CHECK_NOTHROW(sampled({9, 1, 9}, p));
}

TEST_CASE("logprobs are of the raw logits, whatever the parameters") {
    std::vector<float> logits = random_logits(5003, 2);
    spec::Doubles expected = spec::log_softmax(logits);
    SamplingParams p;
    p.n_top = 5;
    p.logit_bias = {{17, 30.0f}};
    Sampled s = sample_token(logits, p, std::vector<int32_t>{17}, 3, 99);
    CHECK(s.slot == 3);
    CHECK(s.position == 99);
    CHECK(s.token.id == 17);
    CHECK(s.token.logprob == Approx(expected[17]).margin(2e-6));
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    REQUIRE(s.top.size() == 5);
    for (size_t i = 0; i < 5; ++i) {
        CHECK(s.top[i].id == order[i]);
        CHECK(s.top[i].logprob == Approx(expected[static_cast<size_t>(order[i])]).margin(2e-6));
    }
}

TEST_CASE("every draw is the inverse of the distribution function over the sorted candidates") {
    struct Case {
        int top_k;
        float top_p, min_p, temp;
    };
    Case c = GENERATE(Case{40, 0.95f, 0.05f, 0.8f}, Case{0, 1, 0, 1}, Case{0, 0.9f, 0, 1.3f}, Case{0, 1, 0.02f, 0.7f},
                      Case{1, 1, 0, 1}, Case{7, 1, 0, 2}, Case{2000, 0.99f, 0, 1}, Case{40, 0.5f, 0, 0.1f},
                      Case{0, 0.97f, 0.001f, 1}, Case{100000, 0.3f, 0, 1});
    for (size_t vocab : {1u, 50u, 4099u}) {
        for (uint32_t seed = 0; seed < 3; ++seed) {
            std::vector<float> logits = random_logits(vocab, 10 + seed, seed == 0 ? 1.0f : 4.0f);
            if (seed == 2) {
                for (float& x : logits) x = std::round(x);  // many ties
            }
            SamplingParams p;
            p.top_k = c.top_k;
            p.top_p = c.top_p;
            p.min_p = c.min_p;
            p.temp = c.temp;
            p.seed = 1234 + seed;
            p.repeat_penalty = 1.2f;
            std::vector<int32_t> recent = {0, static_cast<int32_t>(vocab / 2), 0, 1};
            if (vocab == 1) recent = {0};
            auto all = spec::candidates(logits, p, recent);
            for (int64_t position = 0; position < 20; ++position) {
                double u = philox_uniform(p.seed, position), sum = 0;
                size_t i = 0;
                while (i + 1 < all.size() && (sum += all[i].second) <= u) ++i;
                if (std::abs(sum - u) < 1e-6) continue;  // too near a border for the rounding of the logits
                INFO("top_k " << c.top_k << ", vocabulary " << vocab << ", seed " << seed << ", position " << position);
                REQUIRE(sampled(logits, p, position, recent) == all[i].first);
            }
        }
    }
}

TEST_CASE("frequencies follow the probabilities (chi-square, fixed seeds)") {
    std::vector<float> logits = random_logits(200, 5, 1.0f);
    SamplingParams p = plain();
    p.temp = 0.7f;
    p.top_k = 12;
    auto all = spec::candidates(logits, p, {});
    const int n = 20000;
    auto counts = frequencies(logits, p, n);
    double chi = 0;
    for (auto [id, probability] : all) {
        double expected = n * probability, d = counts[id] - expected;
        chi += d * d / expected;
        counts.erase(id);
    }
    CHECK(counts.empty());
    CHECK(chi < 31.3);  // 11 degrees of freedom, p = 0.001
}

TEST_CASE("a slot's history: the last tokens by position, rewritten after going back") {
    SamplerState state;
    state.resize(2);
    SamplingParams p = plain();
    p.repeat_last_n = 4;
    state.set_params(1, p);
    auto recent = [&](int64_t position) {
        auto r = state.recent(1, position);
        return std::vector<int32_t>(r.begin(), r.end());
    };
    CHECK(recent(0).empty());
    for (int i = 0; i < 6; ++i) state.record(1, i, 100 + i);
    CHECK(recent(6) == std::vector<int32_t>{102, 103, 104, 105});
    CHECK(recent(2) == std::vector<int32_t>{100, 101});
    state.record(1, 4, 7);  // back to 4 and on
    CHECK(recent(5) == std::vector<int32_t>{101, 102, 103, 7});
    CHECK(recent(6) == std::vector<int32_t>{102, 103, 7});  // what came after is forgotten
    state.set_history(1, 1000, std::vector<int32_t>{1, 2});
    CHECK(recent(1000) == std::vector<int32_t>{1, 2});
    state.record(1, 1000, 3);
    CHECK(recent(1001) == std::vector<int32_t>{1, 2, 3});
    CHECK(state.token(1, 999) == 2);
    std::vector<int32_t> many(kHistory + 10);
    for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int32_t>(i);
    state.set_history(1, kHistory + 10, many);
    p.repeat_last_n = static_cast<int>(kHistory);
    state.set_params(1, p);
    CHECK(recent(kHistory + 10) == std::vector<int32_t>(many.begin() + 10, many.end()));
}

TEST_CASE("a slot draws with its own parameters and history, and remembers what it drew") {
    SamplerState state;
    state.resize(2);
    SamplingParams p = plain();
    p.temp = 0;
    p.presence_penalty = 1;
    state.set_params(0, p);
    std::vector<float> logits = {3, 2.5f, 2.2f};
    CHECK(state.sample(0, 5, logits).token.id == 0);
    CHECK(state.token(0, 5) == 0);
    CHECK(state.sample(0, 6, logits).token.id == 1);  // 3 - 1 < 2.5
    CHECK(state.sample(0, 7, logits).token.id == 2);
    CHECK(state.sample(1, 7, logits).position == 7);  // the other slot has its own
}
