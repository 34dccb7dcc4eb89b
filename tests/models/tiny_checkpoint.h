// A Hugging Face directory of a tiny Samba, made by a test: config.json and model.safetensors, any part of which a test
// may change before it is written.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/quant.h"
#include "tests/models/files.h"

namespace samba {

struct TinyTensor {
    std::string dtype = "F32";
    std::vector<int64_t> shape;
    std::string bytes;

    int64_t size() const {
        int64_t n = 1;
        for (int64_t d : shape) n *= d;
        return n;
    }
};

// Values that f32, f16 and bf16 all hold exactly: multiples of 1/64 in ±2.
inline TinyTensor tiny_tensor(DType type, std::vector<int64_t> shape, uint32_t seed) {
    TinyTensor t{info(type).name, std::move(shape), {}};
    std::vector<float> x(static_cast<size_t>(t.size()));
    for (float& v : x) {
        seed = seed * 1664525u + 1013904223u;
        v = static_cast<float>(static_cast<int>(seed >> 24) - 128) / 64.0f;
    }
    t.bytes.resize(row_bytes(type, t.size()));
    quantize_row(type, x.data(), t.bytes.data(), t.size());
    return t;
}

inline std::vector<float> values_of(const TinyTensor& t) {
    std::vector<float> x(static_cast<size_t>(t.size()));
    dequantize_row(*parse_dtype(t.dtype), t.bytes.data(), x.data(), t.size());
    return x;
}

inline std::string safetensors_bytes(const std::map<std::string, TinyTensor>& tensors) {
    nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
    std::string data;
    for (const auto& [name, t] : tensors) {
        size_t end = data.size() + t.bytes.size();
        header[name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), end}}};
        data += t.bytes;
    }
    std::string text = header.dump();
    return Bytes().put(static_cast<uint64_t>(text.size())).text + text + data;
}

inline std::map<std::string, TinyTensor> read_safetensors(const std::string& path) {
    std::string bytes = read_bytes(path);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    auto header = nlohmann::json::parse(bytes.substr(8, length));
    std::map<std::string, TinyTensor> tensors;
    for (const auto& [name, t] : header.items()) {
        if (name == "__metadata__") continue;
        uint64_t begin = t["data_offsets"][0], end = t["data_offsets"][1];
        tensors[name] = {t["dtype"], t["shape"].get<std::vector<int64_t>>(),
                         bytes.substr(8 + length + begin, end - begin)};
    }
    return tensors;
}

// Layer 0 Mamba, layer 1 attention; d_model 64, MLP 256, d_inner 128, 2 heads over 1, vocabulary 16; everything tied.
struct TinyCheckpoint {
    DType type = DType::kBF16;  // of matrices; vectors and A_log are f32, as trainers keep them
    nlohmann::json config = {{"model_type", "samba"},
                             {"vocab_size", 16},
                             {"hidden_size", 64},
                             {"num_hidden_layers", 2},
                             {"state_size", 8},
                             {"conv_kernel", 4},
                             {"expand", 2},
                             {"time_step_rank", 5},
                             {"hidden_ratio", 4},
                             {"norm_eps", 1e-5},
                             {"hidden_act", "swish"},
                             {"tie_word_embeddings", true},
                             {"bos_token_id", 1},
                             {"eos_token_id", 2},
                             {"max_position_embeddings", 99}};
    std::map<std::string, TinyTensor> tensors;

    explicit TinyCheckpoint(DType t = DType::kBF16) : type(t) {
        config["attn"] = {
            {"layers", {1}}, {"num_heads", 2}, {"num_kv_heads", 1}, {"window_size", 32}, {"rope_theta", 10000.0}};
        matrix("backbone.embeddings.weight", {16, 64});
        vector("backbone.norm_f.weight", 64);
        mamba(0);
        attention(1, 64, 32);
        for (int i : {0, 1}) mlp(i);
    }
    static std::string layer(int i) { return "backbone.layers." + std::to_string(i) + "."; }
    void matrix(const std::string& name, std::vector<int64_t> shape) {
        tensors[name] = tiny_tensor(type, std::move(shape), seed_++);
    }
    void vector(const std::string& name, int64_t n) { tensors[name] = tiny_tensor(DType::kF32, {n}, seed_++); }
    void mamba(int i) {
        std::string l = layer(i);
        vector(l + "mixer_norm.weight", 64);
        matrix(l + "mixer.in_proj.weight", {256, 64});
        matrix(l + "mixer.conv1d.weight", {128, 1, 4});
        vector(l + "mixer.conv1d.bias", 128);
        matrix(l + "mixer.x_proj.weight", {5 + 16, 128});
        matrix(l + "mixer.dt_proj.weight", {128, 5});
        vector(l + "mixer.dt_proj.bias", 128);
        tensors[l + "mixer.A_log"] = tiny_tensor(DType::kF32, {128, 8}, seed_++);
        vector(l + "mixer.D", 128);
        matrix(l + "mixer.out_proj.weight", {64, 128});
    }
    void attention(int i, int64_t q, int64_t kv) {
        std::string l = layer(i);
        vector(l + "mixer_norm.weight", 64);
        matrix(l + "mixer.q_proj.weight", {q, 64});
        matrix(l + "mixer.k_proj.weight", {kv, 64});
        matrix(l + "mixer.v_proj.weight", {kv, 64});
        matrix(l + "mixer.o_proj.weight", {64, q});
    }
    void mlp(int i) {
        std::string l = layer(i);
        vector(l + "mlp_norm.weight", 64);
        matrix(l + "mlp.gate_proj.weight", {256, 64});
        matrix(l + "mlp.up_proj.weight", {256, 64});
        matrix(l + "mlp.down_proj.weight", {64, 256});
    }
    std::string write(const std::string& directory) const {
        std::filesystem::create_directories(directory);
        write_bytes(directory + "/config.json", config.dump());
        write_bytes(directory + "/model.safetensors", safetensors_bytes(tensors));
        return directory;
    }

  private:
    uint32_t seed_ = 1;
};

}  // namespace samba
