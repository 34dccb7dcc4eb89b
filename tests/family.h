// The family fixtures of tests/goldens/family (made by make_family.py there): every kind of checkpoint that convert
// takes, and the logits of an independent float64 pass.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "models/convert.h"
#include "tests/goldens.h"

namespace samba {

namespace fs = std::filesystem;

inline const fs::path kFamily = fs::path(SAMBA_SOURCE_DIR) / "tests/goldens/family";

// A fixture as a model file, without a tokenizer; gone with the object.
struct ConvertedFixture {
    fs::path path;
    ConvertReport report;

    explicit ConvertedFixture(const std::string& name, const std::string& type = "f32")
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
    ~ConvertedFixture() { fs::remove(path); }
};

inline std::vector<std::string> family_names() {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(kFamily)) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
}

// Feeds a fixture in each of the ways; calls seen(position, way, relative error of the logits) for every position.
template <class Seen>
void run_fixture(const std::string& name, GoldenModel& model, std::span<const std::vector<Portion>> ways, Seen&& seen) {
    auto ids = read_npy<int32_t>((kFamily / name / "ids.npy").string());
    auto logits = read_npy<float>((kFamily / name / "logits.npy").string());
    size_t vocab = logits.size() / ids.size();
    for (const auto& way : ways) {
        model.feed(
            ids, way, [](int64_t) { return true; },
            [&](int64_t position, std::span<const float> row) {
                auto want = std::span(logits).subspan(static_cast<size_t>(position) * vocab, vocab);
                seen(position, way[0], relative_error(row, want));
            });
    }
}

// Whole, in odd chunks, token by token, and as many as a decode step takes.
inline const std::vector<std::vector<Portion>> kFamilyWays = {
    {{StepKind::kPrefill, 512}}, {{StepKind::kPrefill, 7}}, {{StepKind::kDecode, 1}}, {{StepKind::kDecode, 8}}};

}  // namespace samba
