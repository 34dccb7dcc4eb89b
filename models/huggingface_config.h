// config.json of a Hugging Face directory, read with its defaults and traps; no tensor is looked at here.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace samba {

// One object of `attn`: which layers attend, and how.
struct HfAttention {
    std::set<int64_t> layers;
    int64_t n_heads = 0, n_kv_heads = 0;
    int64_t window = 0;  // 0: full
    double rope_theta = 10000.0;
    bool qkv_bias = false, qk_norm = false;
};

struct HfConfig {
    bool is_samba = false;  // else mamba
    int64_t d_model = 0, n_layers = 0, vocab_size = 0, context_length = 0;
    std::optional<int64_t> d_state, d_conv, d_inner, dt_rank;
    double norm_eps = 1e-5;
    std::optional<double> hidden_ratio;  // of samba's MLP
    bool use_bias = false;
    std::optional<bool> tied;  // what the file says, if it does
    std::vector<HfAttention> attention;
    bool attention_is_null = false;  // `"attn": null`: none, or some versions' default
    std::optional<int64_t> bos;
    std::vector<int64_t> eos;
};

// Throws FileError naming the key.
HfConfig read_huggingface_config(const nlohmann::json& json, const std::string& where);

// What `attn` is when it is absent: layers 1, 3, … 17 below n_layers, 18 heads, window 2048.
HfAttention default_attention(int64_t n_layers);

}  // namespace samba
