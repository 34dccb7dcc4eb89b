#include "models/export_config.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "kernels/error.h"
#include "models/huggingface.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::ordered_json;

[[noreturn]] void cannot(const std::string& what) {
    throw UsageError("flash-linear-attention's samba cannot hold this model: " + what);
}

// The shortest decimal number that is this f32, so that 1e-5 is written as 1e-05.
double shortest(float v) {
    char text[32];
    auto end = std::to_chars(text, text + sizeof text, v).ptr;
    double out = 0;
    std::from_chars(text, end, out);
    return out;
}

// A hidden_ratio that gives the width; the usual 4 if it does.
double hidden_ratio(int64_t d_model, int64_t width) {
    for (int r : {4, 1, 2, 3, 5, 6, 7, 8}) {
        if (mlp_width(d_model, r) == width) return r;
    }
    double ratio = 1.5 * static_cast<double>(width) / static_cast<double>(d_model);
    if (mlp_width(d_model, ratio) != width) cannot("an MLP of width " + std::to_string(width));
    return ratio;
}

bool has(const ModelFile& file, size_t block, const char* tensor) {
    return file.find("blk." + std::to_string(block) + "." + tensor) != nullptr;
}

// `attn`: null, one object, or one for each kind of attention.
ordered_json attention_json(const ModelFile& file) {
    const Config& c = file.config;
    std::map<std::tuple<int, int, int64_t, double, bool, bool>, std::vector<size_t>> kinds;
    for (size_t i = 0; i < c.blocks.size(); ++i) {
        const BlockConfig& b = c.blocks[i];
        if (is_decayed(b.mixer) || b.mixer == Mixer::kMega)
            cannot("block " + std::to_string(i) + " has the mixer " + mixer_name(b.mixer));
        if (b.mixer != Mixer::kAttention) continue;
        if (b.conv_width > 0) cannot("block " + std::to_string(i) + " has convolutions of q, k and v");
        if (b.rope_dim != b.head_dim) cannot("block " + std::to_string(i) + " does not rotate its whole heads");
        if (int64_t{b.n_heads} * b.head_dim != c.d_model) cannot("heads that are not d_model together");
        double theta = b.rope_theta ? b.rope_theta : c.rope_theta;
        kinds[{b.n_heads, b.n_kv_heads, b.window, theta, has(file, i, "attn_q.bias"),
               has(file, i, "attn_q_norm.weight")}]
            .push_back(i);
    }
    ordered_json list = ordered_json::array();
    for (const auto& [kind, layers] : kinds) {
        const auto& [heads, kv_heads, window, theta, bias, norm] = kind;
        list.push_back({{"layers", layers},
                        {"num_heads", heads},
                        {"num_kv_heads", kv_heads},
                        {"qkv_bias", bias},
                        {"qk_norm", norm},
                        {"window_size", window ? ordered_json(window) : ordered_json()},
                        {"rope_theta", shortest(static_cast<float>(theta))}});
    }
    return list.empty() ? ordered_json() : list.size() == 1 ? list[0] : list;
}

std::string torch_type(DType type) {
    return type == DType::kBF16 ? "bfloat16" : type == DType::kF16 ? "float16" : "float32";
}

void add_special_tokens(const TokenizerData& t, ordered_json& j) {
    if (t.bos >= 0) j["bos_token_id"] = t.bos;
    if (t.eos >= 0) j["eos_token_id"] = t.eos;
}

bool use_bias(const ModelFile& file) {
    for (size_t i = 0; i < file.config.blocks.size(); ++i) {
        if (has(file, i, "ssm_in.bias") || has(file, i, "ssm_out.bias")) return true;
    }
    return false;
}

bool pure_mamba(const Config& c) {
    for (const BlockConfig& b : c.blocks) {
        if (b.mixer != Mixer::kMamba || b.d_ff != 0) return false;
    }
    return true;
}

void add_mlp(const Config& c, ordered_json& j, std::vector<std::string>& notes) {
    int64_t width = export_width(c.blocks[0]);
    for (size_t i = 0; i < c.blocks.size(); ++i) {
        const BlockConfig& b = c.blocks[i];
        if (b.mixer == Mixer::kNone) cannot("block " + std::to_string(i) + " has no mixer");
        if (b.d_ff == 0) cannot("block " + std::to_string(i) + " has no MLP");
        if (export_width(b) != width) cannot("MLPs of different widths");
    }
    if (width != c.blocks[0].d_ff_true) {
        notes.push_back("MLPs keep their padding to " + std::to_string(width) + ": no hidden_ratio gives " +
                        std::to_string(c.blocks[0].d_ff_true));
    }
    j["hidden_ratio"] = hidden_ratio(c.d_model, width);
}

}  // namespace

int64_t export_width(const BlockConfig& block) { return block.d_ff_true % 256 == 0 ? block.d_ff_true : block.d_ff; }

ExportConfig export_config(const ModelFile& file, DType type, std::vector<std::string>& notes) {
    const Config& c = file.config;
    bool mamba = pure_mamba(c), conv_bias = false;
    for (size_t i = 0; i < c.blocks.size(); ++i) conv_bias |= has(file, i, "ssm_conv1d.bias");
    ordered_json j;
    j["architectures"] = {mamba ? "MambaForCausalLM" : "SambaForCausalLM"};
    j["model_type"] = mamba ? "mamba" : "samba";
    j["torch_dtype"] = torch_type(type);
    j["vocab_size"] = c.vocab_size;
    j["hidden_size"] = c.d_model;
    j["num_hidden_layers"] = c.blocks.size();
    if (c.d_inner) {
        j["state_size"] = c.d_state;
        j["expand"] = c.d_inner % c.d_model == 0
                          ? ordered_json(c.d_inner / c.d_model)
                          : ordered_json(static_cast<double>(c.d_inner) / static_cast<double>(c.d_model));
        j["intermediate_size"] = c.d_inner;
        j["conv_kernel"] = c.d_conv;
        j["time_step_rank"] = c.dt_rank;
        j["use_bias"] = use_bias(file);
        j["use_conv_bias"] = conv_bias;
    }
    j["hidden_act"] = mamba ? "silu" : "swish";
    j[mamba ? "layer_norm_epsilon" : "norm_eps"] = shortest(c.norm_eps);
    j["tie_word_embeddings"] = c.tied;
    if (c.context_length) j["max_position_embeddings"] = c.context_length;
    add_special_tokens(file.tokenizer, j);
    if (!mamba) {
        add_mlp(c, j, notes);
        j["attn"] = attention_json(file);
    }
    return {mamba ? "mamba" : "samba", j.dump(2) + "\n"};
}

std::string export_tokenizer_config(const ModelFile& file, const std::string& jinja) {
    const TokenizerData& t = file.tokenizer;
    ordered_json j;
    if (t.kind == "gpt2") {
        j["tokenizer_class"] = "PreTrainedTokenizerFast";  // the one that takes tokenizer.json as it is
    } else {
        j["tokenizer_class"] = "LlamaTokenizer";
        j["legacy"] = true;
    }
    j["add_bos_token"] = t.add_bos;
    j["add_eos_token"] = false;
    auto piece = [&](const char* key, int32_t id) {
        if (id >= 0 && static_cast<size_t>(id) < t.tokens.size()) j[key] = t.tokens[static_cast<size_t>(id)];
    };
    piece("bos_token", t.bos);
    piece("eos_token", t.eos);
    piece("unk_token", t.unk);
    ordered_json added = ordered_json::object();
    for (uint32_t id : t.added_ids) {
        if (id >= t.tokens.size()) continue;
        bool special = id < t.types.size() && t.types[id] == 3;
        added[std::to_string(id)] = {{"content", t.tokens[id]}, {"special", special}};
    }
    if (!added.empty()) j["added_tokens_decoder"] = added;
    if (!jinja.empty()) j["chat_template"] = jinja;
    return j.dump(2) + "\n";
}

std::string export_generation_config(const TokenizerData& t) {
    std::vector<int64_t> ends;
    if (t.eos >= 0) ends.push_back(t.eos);
    for (uint32_t id : t.end_ids) {
        if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
    }
    if (ends.size() < 2) return "";
    return ordered_json{{"eos_token_id", ends}}.dump(2) + "\n";
}

}  // namespace samba
