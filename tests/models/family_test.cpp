// Every kind of checkpoint that convert takes, against the logits of an independent float64 pass (tests/family.h):
// whole, in odd chunks and token by token, across windows of 5 to 16 tokens.
#include "tests/family.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/cpu/backend.h"

using namespace samba;

TEST_CASE("every kind of checkpoint gives the logits of the independent pass", "[family]") {
    REQUIRE(family_names().size() >= 18);
    for (const std::string& name : family_names()) {
        ConvertedFixture converted(name);
        GoldenModel model(load_model_file(converted.path.string()), make_cpu_backend({.threads = 2}));
        size_t seen = 0;
        run_fixture(name, model, kFamilyWays, [&](int64_t position, const Portion& way, double error) {
            INFO(name << ", position " << position << ", steps of " << way.rows);
            CHECK(error < 3e-5);
            ++seen;
        });
        CHECK(seen == kFamilyWays.size() * read_npy<int32_t>((kFamily / name / "ids.npy").string()).size());
    }
}

TEST_CASE("a wrapped, deflated, strided, half-precision .pth is the plain one", "[family]") {
    ConvertedFixture plain("samba"), wrapped("wrapped");
    ModelFile a = load_model_file(plain.path.string()), b = load_model_file(wrapped.path.string());
    REQUIRE(a.tensors.size() == b.tensors.size());
    for (const auto& [name, tensor] : a.tensors) {
        INFO(name);
        REQUIRE(b.find(name));
        CHECK(std::memcmp(tensor.data, b.find(name)->data, tensor.bytes()) == 0);
    }
    CHECK(plain.report.n_parameters == wrapped.report.n_parameters);
    CHECK(a.config.tied);
    CHECK_FALSE(load_model_file(ConvertedFixture("full_attention").path.string()).config.tied);
}

namespace {

// A model with two slots; logits of every row that is fed.
struct TwoSlots {
    ModelFile file;
    std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2});
    std::unique_ptr<Samba> model;
    std::vector<int32_t> ids;

    TwoSlots(const std::string& name, const std::string& path)
        : file(load_model_file(path)), ids(read_npy<int32_t>((kFamily / name / "ids.npy").string())) {
        Samba::Options options;
        options.n_slots = 2;
        options.max_context = 100;
        model = std::make_unique<Samba>(file, *backend, options);
    }
    std::vector<float> feed(int slot, size_t first, size_t n, StepKind kind = StepKind::kPrefill) {
        std::vector<float> logits;
        Step step;
        step.kind = kind;
        step.runs = {{slot, static_cast<int64_t>(first), 0, static_cast<int>(n), false}};
        step.tokens.assign(ids.begin() + static_cast<long>(first), ids.begin() + static_cast<long>(first + n));
        for (size_t i = 0; i < n; ++i) step.wanted.push_back(static_cast<int>(i));
        step.on_logits = [&](int, View v) { logits.insert(logits.end(), v.f32(), v.f32() + v.rows * v.cols); };
        backend->submit(step, [&](const Step& s) { model->forward(s); });
        backend->receive();
        return logits;
    }
};

}  // namespace

TEST_CASE("a snapshot goes on as its sequence does, and seven tokens may be fed again, with every mixer", "[family]") {
    for (const std::string& name : family_names()) {
        ConvertedFixture converted(name);
        for (size_t at : {1, 11, 12, 13, 24, 31}) {
            INFO(name << ", position " << at);
            TwoSlots t(name, converted.path.string());
            t.feed(0, 0, at);
            t.model->layout().for_each_part(static_cast<int64_t>(at), [&](size_t offset, size_t bytes) {
                t.backend->copy(t.model->slot(1) + offset, t.model->slot(0) + offset, bytes);
            });
            std::vector<float> logits = t.feed(0, at, t.ids.size() - at);
            CHECK(t.feed(1, at, t.ids.size() - at) == logits);
            if (at < 8) continue;
            TwoSlots back(name, converted.path.string());
            back.feed(0, 0, at - 7);
            std::vector<float> once = back.feed(0, at - 7, 7, StepKind::kDecode);
            CHECK(back.feed(0, at - 7, 7, StepKind::kDecode) == once);
        }
    }
}
