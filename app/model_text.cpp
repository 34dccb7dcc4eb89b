#include "app/model_text.h"

#include <map>

#include "app/output.h"
#include "kernels/error.h"
#include "models/quantize.h"

namespace samba {

std::string model_name(const Engine& engine) {
    return engine.config().name.empty() ? engine.file().path : engine.config().name;
}

std::string blocks_text(const Config& config) {
    size_t mamba = 0, gla = 0, retention = 0, mega = 0, mlps = 0;
    std::map<int64_t, size_t> attention;  // by window
    for (const BlockConfig& block : config.blocks) {
        mamba += block.mixer == Mixer::kMamba;
        gla += block.mixer == Mixer::kGla;
        mega += block.mixer == Mixer::kMega;
        retention += block.mixer == Mixer::kRetention;
        if (block.mixer == Mixer::kAttention) ++attention[block.window];
        mlps += block.d_ff > 0;
    }
    std::string text = std::to_string(config.blocks.size()) + ":";
    auto add = [&](const std::string& part) { text += (text.back() == ':' ? " " : ", ") + part; };
    if (mamba > 0) add(std::to_string(mamba) + " mamba");
    if (gla > 0) add(std::to_string(gla) + " gated linear attention");
    if (retention > 0) add(std::to_string(retention) + " retention");
    if (mega > 0) add(std::to_string(mega) + " mega");
    for (auto [window, n] : attention) {
        add(std::to_string(n) + " attention (" + (window == 0 ? "full" : "window " + with_commas(window)) + ")");
    }
    if (mlps == config.blocks.size())
        add("each with an MLP");
    else if (mlps > 0)
        add(std::to_string(mlps) + " with an MLP");
    return text;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

std::string settable_text() {
    std::string text;
    for (const auto& [key, form] : settable_keys()) text += (text.empty() ? "" : ", ") + key + " (" + form + ")";
    return text;
}

std::vector<std::pair<std::string, std::string>> key_values(const std::string& option,
                                                            const std::vector<std::string>& given) {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const std::string& text : given) {
        size_t equals = text.find('=');
        if (equals == std::string::npos) {
            throw UsageError(option + ": expected KEY=VALUE, found '" + visible_line(text) + "'");
        }
        pairs.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
    return pairs;
}

void require(const std::string& option, bool given) {
    if (!given) throw UsageError(option + " is missing");
}

}  // namespace samba
