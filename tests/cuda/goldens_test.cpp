// The shipped model against the goldens of an independent float64 pass (tests/goldens.h): strict as F32, and in other
// types with bf16 activations. Tagged [goldens]: the f32 pass over 3000 tokens is the longest test.
#include "tests/goldens.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "kernels/cuda/backend.h"
#include "models/quantize.h"

using namespace samba;
namespace fs = std::filesystem;

namespace {

const std::string kModel = "samba-47m-q4_k_m";
const std::string kModelFile = std::string(SAMBA_SOURCE_DIR) + "/models/" + kModel + ".gguf";
constexpr StepKind kPrefill = StepKind::kPrefill, kDecode = StepKind::kDecode;
// Odd sizes, then few at a time over the window's end and the ring's (2048, 2112), then odd sizes again.
const std::vector<Portion> kMixed = {{kPrefill, 1, 3},   {kPrefill, 77, 500},  {kPrefill, 833, 2030},
                                     {kDecode, 1, 2060}, {kPrefill, 15, 2100}, {kDecode, 1, 2120},
                                     {kDecode, 3, 2150}, {kPrefill, 701}};
const std::vector<Portion> kAtOnce = {{kPrefill, 4096}};

// The committed file in another type; gone with the test.
class Converted {
  public:
    explicit Converted(const std::string& type)
        : path_(fs::temp_directory_path() / ("samba-cuda-" + std::to_string(getpid()) + "-" + type + ".gguf")) {
        QuantizeOptions options;
        options.input = kModelFile;
        options.output = path_.string();
        options.type = type;
        quantize_model(options);
    }
    ~Converted() { fs::remove(path_); }
    std::string path() const { return path_.string(); }

  private:
    fs::path path_;
};

GoldenModel open_model(const std::string& path) {
    ModelFile file = load_model_file(path);
    const bool f32 = file.weight_type == DType::kF32;
    return GoldenModel(std::move(file), make_cuda_backend({.device = 0, .f32_activations = f32, .graphs = true}));
}

void check_all(GoldenModel& model, const std::string& sequence, const std::vector<Portion>& portions, double bound) {
    const Golden golden = read_golden(kModel, sequence);
    const std::vector<double> errors = model.errors(golden, portions);
    REQUIRE(errors.size() == golden.positions.size());
    for (size_t i = 0; i < errors.size(); ++i) {
        INFO(sequence << ", position " << golden.positions[i]);
        CHECK(errors[i] <= bound);
    }
}

}  // namespace

TEST_CASE("with f32 weights every golden is met to 3e-5", "[goldens]") {
    const Converted file("f32");
    GoldenModel model = open_model(file.path());
    check_all(model, "short", {{kPrefill, 512}}, 3e-5);
    check_all(model, "short", {{kDecode, 1}}, 3e-5);
    check_all(model, "short", {{kDecode, 7}}, 3e-5);
    check_all(model, "long", kAtOnce, 3e-5);
    check_all(model, "long", kMixed, 3e-5);
}

// Steps of few rows multiply quantised weights with 8-bit activations: the bound of those (docs/architecture.md).
TEST_CASE("as BF16, as F16 and as it is it meets them to 1e-2, with 8-bit activations to 5e-2", "[goldens]") {
    const std::string type = GENERATE("", "bf16", "f16");
    INFO(type);
    const std::unique_ptr<Converted> file = type.empty() ? nullptr : std::make_unique<Converted>(type);
    GoldenModel model = open_model(file ? file->path() : kModelFile);
    const double few = type.empty() ? 5e-2 : 1e-2;
    check_all(model, "short", {{kDecode, 1}}, few);
    check_all(model, "short", {{kPrefill, 512}}, few);  // 20 tokens
    check_all(model, "long", kAtOnce, 1e-2);
    check_all(model, "long", kMixed, few);
}
