// Every kind of checkpoint that convert takes, against the logits of an independent float64 pass (made by
// tests/goldens/make_family.py): whole, in odd chunks and token by token, across windows of 5 to 16 tokens.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>

#include "kernels/cpu/backend.h"
#include "models/convert.h"
#include "tests/goldens.h"

using namespace samba;
namespace fs = std::filesystem;

namespace {

const fs::path kFamily = fs::path(SAMBA_SOURCE_DIR) / "tests/goldens/family";

struct Converted {
    fs::path path;
    ConvertReport report;

    explicit Converted(const std::string& name, const std::string& type = "f32")
        : path(fs::temp_directory_path() / ("samba-family-" + std::to_string(getpid()) + "-" + name + ".gguf")) {
        ConvertOptions options;
        bool torch = fs::exists(kFamily / name / "model.pth");
        options.checkpoint = (torch ? kFamily / name / "model.pth" : kFamily / name).string();
        if (torch) options.preset = (kFamily / name / "preset.json").string();
        options.output = path.string();
        options.type = type;
        options.no_tokenizer = true;
        options.force = true;
        report = convert_checkpoint(options);
    }
    ~Converted() { fs::remove(path); }
};

std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(kFamily)) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
}

}  // namespace

TEST_CASE("every kind of checkpoint gives the logits of the independent pass", "[family]") {
    REQUIRE(names().size() >= 13);
    for (const std::string& name : names()) {
        Converted converted(name);
        auto ids = read_npy<int32_t>((kFamily / name / "ids.npy").string());
        auto logits = read_npy<float>((kFamily / name / "logits.npy").string());
        size_t vocab = logits.size() / ids.size();
        GoldenModel model(load_model_file(converted.path.string()), make_cpu_backend({.threads = 2}));
        const std::vector<std::vector<Portion>> ways = {
            {{StepKind::kPrefill, 512}}, {{StepKind::kPrefill, 7}}, {{StepKind::kDecode, 1}}, {{StepKind::kDecode, 8}}};
        for (const auto& way : ways) {
            size_t seen = 0;
            model.feed(
                ids, way, [](int64_t) { return true; },
                [&](int64_t position, std::span<const float> row) {
                    INFO(name << ", position " << position << ", steps of " << way[0].rows);
                    CHECK(relative_error(row, std::span(logits).subspan(static_cast<size_t>(position) * vocab, vocab)) <
                          3e-5);
                    ++seen;
                });
            CHECK(seen == ids.size());
        }
    }
}

TEST_CASE("a wrapped, deflated, strided, half-precision .pth is the plain one", "[family]") {
    Converted plain("samba"), wrapped("wrapped");
    ModelFile a = load_model_file(plain.path.string()), b = load_model_file(wrapped.path.string());
    REQUIRE(a.tensors.size() == b.tensors.size());
    for (const auto& [name, tensor] : a.tensors) {
        INFO(name);
        REQUIRE(b.find(name));
        CHECK(std::memcmp(tensor.data, b.find(name)->data, tensor.bytes()) == 0);
    }
    CHECK(plain.report.n_parameters == wrapped.report.n_parameters);
    CHECK(a.config.tied);
    CHECK_FALSE(load_model_file(Converted("full_attention").path.string()).config.tied);
}
