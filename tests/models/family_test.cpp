// Every kind of checkpoint that convert takes, against the logits of an independent float64 pass (tests/family.h):
// whole, in odd chunks and token by token, across windows of 5 to 16 tokens.
#include "tests/family.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/cpu/backend.h"

using namespace samba;

TEST_CASE("every kind of checkpoint gives the logits of the independent pass", "[family]") {
    REQUIRE(family_names().size() >= 14);
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
