// The CPU backend as a whole: memory, weights, submit and receive, sampling. Its stages: stages_test.cpp.
#include "kernels/cpu/backend.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/kernels/harness.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr int64_t kVocab = 50;

std::unique_ptr<Backend> small_backend(CpuOptions options = {}) {
    if (options.threads == 0) options.threads = 2;
    auto backend = make_cpu_backend(options);
    Limits limits;
    limits.max_rows = 16;
    limits.n_slots = 3;
    limits.d_model = 32;
    limits.vocab_size = kVocab;
    limits.max_cols = 64;
    limits.max_ring_rows = 80;
    limits.max_kv_cols = 32;
    backend->prepare(limits);
    return backend;
}

// A decode step of one row for each slot, greedy, whose logits are highest at `winner[i]`.
std::vector<Sampled> draw(Backend& backend, Step step, const std::vector<int>& winner) {
    step.sample = true;
    backend.submit(step, [&](const Step& s) {
        Matrix logits(static_cast<int64_t>(winner.size()), kVocab);
        for (size_t i = 0; i < winner.size(); ++i) logits.row(static_cast<int64_t>(i))[winner[i]] = 5.0f;
        backend.sample(s, 0, logits.view());
    });
    return backend.receive();
}

}  // namespace

TEST_CASE("memory comes as zeros and takes what is written") {
    auto backend = small_backend();
    for (size_t bytes : {size_t{1}, size_t{4096}, size_t{5} << 20}) {
        Buffer a = backend->allocate(bytes);
        REQUIRE(a.bytes() == bytes);
        CHECK(reinterpret_cast<uintptr_t>(a.data()) % 64 == 0);
        CHECK(std::all_of(a.data(), a.data() + bytes, [](char c) { return c == 0; }));
        std::string text(bytes, 'x'), back(bytes, ' ');
        backend->write(a.data(), text.data(), bytes);
        Buffer b = backend->allocate(bytes);
        backend->copy(b.data(), a.data(), bytes);
        backend->zero(a.data(), bytes);
        backend->read(back.data(), b.data(), bytes);
        CHECK(back == text);
        CHECK(a.data()[bytes - 1] == 0);
    }
    CHECK(backend->allocate(0).bytes() == 0);
}

TEST_CASE("a weight keeps its tensors as they lie in the file") {
    auto backend = small_backend();
    Matrix a = random_matrix(3, 8, 1), b = random_matrix(2, 8, 2), bias = random_matrix(1, 5, 3);
    Tensor tensors[] = {{DType::kF32, 3, 8, a.values.data()}, {DType::kF32, 2, 8, b.values.data()}};
    Tensor bias_tensor{DType::kF32, 1, 5, bias.values.data()};
    Weight w = backend->load(tensors, &bias_tensor);
    CHECK(w.rows == 5);
    CHECK(w.cols == 8);
    REQUIRE(w.parts.size() == 2);
    CHECK(w.parts[0].data == a.values.data());
    CHECK(w.parts[1].data == b.values.data());
    CHECK(w.bias == bias.values.data());
    CHECK(backend->load(tensors).bias == nullptr);
}

TEST_CASE("a step's wanted rows draw their slots' next tokens, in their order") {
    auto backend = small_backend();
    SamplingParams greedy;
    greedy.temp = 0;
    for (int slot : {0, 1, 2}) backend->set_sampling(slot, greedy);
    Step step;
    step.kind = StepKind::kDecode;
    step.runs = {{2, 10, 0, 1, false}, {0, 7, 1, 3, false}};
    step.tokens = {1, 2, 3, 4};
    step.wanted = {0, 3};
    std::vector<Sampled> drawn = draw(*backend, step, {20, 30});
    REQUIRE(drawn.size() == 2);
    CHECK(drawn[0].slot == 2);
    CHECK(drawn[0].position == 11);
    CHECK(drawn[0].token.id == 20);
    CHECK(drawn[1].slot == 0);
    CHECK(drawn[1].position == 10);
    CHECK(drawn[1].token.id == 30);
}

TEST_CASE("a run from_sample embeds the token that its slot drew") {
    auto backend = small_backend();
    SamplingParams greedy;
    greedy.temp = 0;
    backend->set_sampling(1, greedy);
    Matrix table = random_matrix(kVocab, 32, 4), x(1, 32);
    Tensor tensor{DType::kF32, kVocab, 32, table.values.data()};
    Weight weight = backend->load({&tensor, 1});
    Step step;
    step.kind = StepKind::kDecode;
    step.runs = {{1, 5, 0, 1, false}};
    step.tokens = {9};
    step.wanted = {0};
    step.sample = true;
    auto forward = [&](int winner) {
        return [&, winner](const Step& s) {
            backend->embed(s, weight, {}, x.view());
            Matrix logits(1, kVocab);
            logits.row(0)[winner] = 5.0f;
            backend->sample(s, 0, logits.view());
        };
    };
    backend->submit(step, forward(33));
    CHECK(std::equal(x.row(0), x.row(0) + 32, table.row(9)));
    step.runs[0] = {1, 6, 0, 1, true};
    backend->submit(step, forward(34));  // before the first is received
    CHECK(std::equal(x.row(0), x.row(0) + 32, table.row(33)));
    CHECK(backend->receive()[0].token.id == 33);
    CHECK(backend->receive()[0].token.id == 34);
}

TEST_CASE("logits are handed out where they are asked for, and draw nothing by themselves") {
    auto backend = small_backend();
    Step step;
    step.kind = StepKind::kPrefill;
    step.runs = {{0, 0, 0, 2, false}};
    step.tokens = {1, 2};
    step.wanted = {0, 1};
    Matrix logits = random_matrix(2, kVocab, 5), seen(2, kVocab);
    step.on_logits = [&](int first, View v) {
        for (int64_t i = 0; i < v.rows; ++i) std::copy(v.f32(i), v.f32(i) + v.cols, seen.row(first + i));
    };
    backend->submit(step, [&](const Step& s) { backend->sample(s, 0, logits.view()); });
    CHECK(seen == logits);
    CHECK(backend->receive().empty());
}

TEST_CASE("the log-probabilities of targets are handed out, whatever the thread count") {
    Matrix logits = random_matrix(5, kVocab, 6);
    std::vector<float> seen[2];
    for (int threads : {1, 3}) {
        CpuOptions options;
        options.threads = threads;
        auto backend = small_backend(options);
        Step step;
        step.kind = StepKind::kPrefill;
        step.runs = {{0, 0, 0, 5, false}};
        step.tokens = {1, 2, 3, 4, 5};
        step.wanted = {0, 1, 2, 3, 4};
        step.targets = {7, 0, kVocab - 1, 3, 3};
        std::vector<float>& found = seen[threads == 3];
        step.on_logprobs = [&](int first, std::span<const float> logprobs) {
            CHECK(first == static_cast<int>(found.size()));
            found.insert(found.end(), logprobs.begin(), logprobs.end());
        };
        backend->submit(step, [&](const Step& s) { backend->sample(s, 0, logits.view()); });
        REQUIRE(found.size() == 5);
        for (int i = 0; i < 5; ++i) {
            double sum = 0;
            for (int v = 0; v < kVocab; ++v) sum += std::exp(static_cast<double>(logits.row(i)[v]));
            CHECK(std::abs(found[static_cast<size_t>(i)] -
                           (logits.row(i)[step.targets[static_cast<size_t>(i)]] - std::log(sum))) < 2e-5);
        }
    }
    CHECK(seen[0] == seen[1]);
}

TEST_CASE("a backend says how far ahead it runs, and with what") {
    CHECK(small_backend()->run_ahead() == 1);
    CpuOptions options;
    options.delay = 3;
    options.threads = 3;
    options.isa = Isa::kPortable;
    auto backend = small_backend(options);
    CHECK(backend->run_ahead() == 4);
    CHECK(backend->name() == "cpu");
    CHECK_THAT(backend->description(), Catch::Contains("3 threads") && Catch::Contains("portable"));
    CHECK(backend->activation_type() == DType::kF32);
    CHECK(backend->prefill_chunk() == 512);
}
