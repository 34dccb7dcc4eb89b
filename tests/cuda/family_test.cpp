// Every kind of checkpoint that convert takes, on the device, against the logits of an independent float64 pass
// (tests/family.h): as strict as on the CPU in f32, within the goldens' tolerance in bf16.
#include "tests/family.h"

#include <catch2/catch.hpp>

#include "kernels/cuda/backend.h"

using namespace samba;

TEST_CASE("every kind of checkpoint gives the logits of the independent pass", "[family]") {
    REQUIRE(family_names().size() >= 14);
    const bool f32 = GENERATE(true, false);
    for (const std::string& name : family_names()) {
        ConvertedFixture converted(name, f32 ? "f32" : "bf16");
        GoldenModel model(load_model_file(converted.path.string()),
                          make_cuda_backend({.device = 0, .f32_activations = f32, .graphs = true}));
        size_t seen = 0;
        run_fixture(name, model, kFamilyWays, [&](int64_t position, const Portion& way, double error) {
            INFO(name << (f32 ? ", f32" : ", bf16") << ", position " << position << ", steps of " << way.rows);
            // Toy models: a hidden row has 32 values, so bf16's errors average out less than in a real one.
            CHECK(error < (f32 ? 3e-5 : 5e-2));
            ++seen;
        });
        CHECK(seen > 0);
    }
}
