// Hugging Face configs: their traps (docs/model.md), and that a config which disagrees with the tensors is refused.
#include "models/huggingface.h"

#include <functional>

#include "models/safetensors.h"
#include "tests/models/error_of.h"
#include "tests/models/tiny_checkpoint.h"

using namespace samba;
using nlohmann::json;

namespace {

CheckpointPlan plan(const TinyCheckpoint& checkpoint) {
    std::string bytes = safetensors_bytes(checkpoint.tensors);
    // The plan points to the reader's tensors: the reader lives as long as the test runs.
    static std::vector<std::unique_ptr<CheckpointReader>> readers;
    static std::vector<std::unique_ptr<std::string>> memory;
    memory.push_back(std::make_unique<std::string>(std::move(bytes)));
    const std::string& kept = *memory.back();
    readers.push_back(
        parse_safetensors(reinterpret_cast<const unsigned char*>(kept.data()), kept.size(), "checkpoint"));
    return plan_huggingface(*readers.back(), checkpoint.config.dump(), "config.json");
}

const TensorPlan* find(const CheckpointPlan& p, const std::string& name) {
    for (const TensorPlan& t : p.tensors) {
        if (t.name == name) return &t;
    }
    return nullptr;
}

std::string layer(int i) { return TinyCheckpoint::layer(i); }

struct Case {
    const char* what;
    std::function<void(TinyCheckpoint&)> spoil;
    const char* message;
};

const Case kRefused[] = {
    {"another architecture", [](auto& c) { c.config["model_type"] = "llama"; },
     "\"model_type\": expected \"samba\" or \"mamba\", found \"\\\"llama\\\"\""},
    {"no architecture", [](auto& c) { c.config.erase("model_type"); }, "found \"nothing\""},
    {"another activation", [](auto& c) { c.config["hidden_act"] = "gelu"; },
     "\"hidden_act\": expected \"swish\" or \"silu\""},
    {"attention residuals", [](auto& c) { c.config["attnres_block_size"] = 4; },
     "\"attnres_block_size\": expected null"},
    {"no width", [](auto& c) { c.config.erase("hidden_size"); }, "\"hidden_size\": expected a positive whole number"},
    {"width as text", [](auto& c) { c.config["hidden_size"] = "64"; }, "\"hidden_size\""},
    {"negative width", [](auto& c) { c.config["hidden_size"] = -64; }, "\"hidden_size\""},
    {"absurd width", [](auto& c) { c.config["hidden_size"] = 1e18; }, "\"hidden_size\""},
    {"another width",
     [](auto& c) {
         c.config["hidden_size"] = 32;
         c.config["hidden_ratio"] = 4;
     },
     "\"backbone.embeddings.weight\": expected shape (16, 32), found (16, 64)"},
    {"another vocabulary", [](auto& c) { c.config["vocab_size"] = 17; }, "expected shape (17, 64), found (16, 64)"},
    {"another depth", [](auto& c) { c.config["num_hidden_layers"] = 3; },
     "\"num_hidden_layers\" says 3, but the tensors say 2"},
    {"another state size", [](auto& c) { c.config["state_size"] = 16; },
     "\"state_size\" says 16, but the tensors say 8"},
    {"another convolution", [](auto& c) { c.config["conv_kernel"] = 3; },
     "\"conv_kernel\" says 3, but the tensors say 4"},
    {"another inner size", [](auto& c) { c.config["expand"] = 3; }, "says 192, but the tensors say 128"},
    {"another step rank", [](auto& c) { c.config["time_step_rank"] = 6; },
     "\"time_step_rank\" says 6, but the tensors say 5"},
    {"automatic step rank", [](auto& c) { c.config["time_step_rank"] = "auto"; },
     "\"time_step_rank\" says 4, but the tensors say 5"},
    {"a step rank that is neither", [](auto& c) { c.config["time_step_rank"] = "many"; },
     "expected a whole number or \"auto\""},
    {"another MLP", [](auto& c) { c.config["hidden_ratio"] = 8; },
     "\"hidden_ratio\" says an MLP of width 512, but the tensors say 256"},
    {"absurd MLP", [](auto& c) { c.config["hidden_ratio"] = 1e11; }, "\"hidden_ratio\""},
    {"layers that do not attend",
     [](auto& c) {
         c.config["attn"]["layers"] = {0, 1};
     },
     "\"attn\" says layer 0 attends, but the tensors say it is a Mamba"},
    {"layers missing from attn", [](auto& c) { c.config["attn"]["layers"] = json::array(); },
     "\"attn\" says layer 1 does not attend, but the tensors say it does"},
    {"a layer twice",
     [](auto& c) {
         c.config["attn"] = json::array({c.config["attn"], c.config["attn"]});
     },
     "layer 1 comes twice"},
    {"no layers", [](auto& c) { c.config["attn"].erase("layers"); }, "\"layers\": expected a list of layers"},
    {"no heads", [](auto& c) { c.config["attn"].erase("num_heads"); },
     "\"num_heads\": expected a positive whole number"},
    {"heads that do not divide",
     [](auto& c) {
         c.config["attn"]["num_heads"] = 3;
         c.config["attn"]["num_kv_heads"] = 1;
     },
     "no multiple of it"},
    {"kv heads that do not divide", [](auto& c) { c.config["attn"]["num_kv_heads"] = 3; },
     "\"num_kv_heads\": expected a divisor of num_heads (2)"},
    {"kv heads of another number", [](auto& c) { c.config["attn"].erase("num_kv_heads"); },
     "k_proj.weight\": expected shape (64, 64), found (32, 64)"},
    {"rope_theta null", [](auto& c) { c.config["attn"]["rope_theta"] = nullptr; }, "\"rope_theta\""},
    {"attn as text", [](auto& c) { c.config["attn"] = "all"; },
     "\"attn\": expected null, an object or a list of objects"},
    {"attn absent: 18 heads", [](auto& c) { c.config.erase("attn"); }, "\"num_heads\" says 18"},
    {"attn null, attention of other heads", [](auto& c) { c.config["attn"] = nullptr; }, "\"num_heads\" says 18"},
    {"qkv_bias without biases", [](auto& c) { c.config["attn"]["qkv_bias"] = true; },
     "\"qkv_bias\" says true, but the tensors say \"backbone.layers.1.mixer.q_proj.bias\" is missing"},
    {"biases without qkv_bias", [](auto& c) { c.vector(layer(1) + "mixer.q_proj.bias", 64); },
     "\"qkv_bias\" says false"},
    {"use_bias without biases", [](auto& c) { c.config["use_bias"] = true; }, "\"use_bias\" says true"},
    {"qk_norm without norms", [](auto& c) { c.config["attn"]["qk_norm"] = true; }, "\"qk_norm\" says true"},
    {"a bias of the output", [](auto& c) { c.vector(layer(1) + "mixer.o_proj.bias", 64); },
     "tensor \"backbone.layers.1.mixer.o_proj.bias\" (64) is not known"},
    {"a short convolution of q",
     [](auto& c) {
         c.matrix(layer(1) + "mixer.q_conv1d.weight", {64, 1, 4});
     },
     "is not known"},
    {"both mixers",
     [](auto& c) {
         c.matrix(layer(0) + "mixer.q_proj.weight", {64, 64});
     },
     "layer 0 has the tensors of both"},
    {"no mixer", [](auto& c) { c.tensors.erase(layer(0) + "mixer.A_log"); }, "layer 0 has the tensors of neither"},
    {"a missing tensor", [](auto& c) { c.tensors.erase(layer(0) + "mixer.x_proj.weight"); },
     "\"backbone.layers.0.mixer.x_proj.weight\" is missing: expected shape (21, 128)"},
    {"a misshapen tensor",
     [](auto& c) {
         c.matrix(layer(0) + "mixer.out_proj.weight", {128, 64});
     },
     "expected shape (64, 128), found (128, 64)"},
    {"a missing norm", [](auto& c) { c.tensors.erase(layer(1) + "mlp_norm.weight"); }, "mlp_norm.weight\" is missing"},
    {"integers as weights", [](auto& c) { c.tensors["backbone.norm_f.weight"].dtype = "I32"; },
     "expected type F32, F16 or BF16, found I32"},
    {"a head that differs although tied",
     [](auto& c) {
         c.matrix("lm_head.weight", {16, 64});
     },
     "\"tie_word_embeddings\" says true"},
    {"untied without a head", [](auto& c) { c.config["tie_word_embeddings"] = false; },
     "\"lm_head.weight\" is missing, and tie_word_embeddings is false"},
};

}  // namespace

TEST_CASE("a plain samba directory: config, names, order") {
    CheckpointPlan p = plan(TinyCheckpoint());
    const Config& c = p.config;
    CHECK(p.kind == "flash-linear-attention samba");
    CHECK(c.d_model == 64);
    CHECK(c.d_inner == 128);
    CHECK(c.d_state == 8);
    CHECK(c.d_conv == 4);
    CHECK(c.dt_rank == 5);
    CHECK(c.context_length == 99);
    CHECK(c.tied);
    CHECK(p.bos == 1);
    CHECK(p.eos == std::vector<int64_t>{2});
    BlockConfig mamba{Mixer::kMamba, 0, 0, 0, 0, 0, 256, 256}, attention{Mixer::kAttention, 2, 1, 32, 32, 32, 256, 256};
    CHECK(c.blocks == std::vector<BlockConfig>{mamba, attention});
    CHECK(p.tensors.front().name == "token_embd.weight");
    CHECK(p.tensors.back().name == "output_norm.weight");
    CHECK(find(p, "blk.0.ssm_a")->negative_exp);
    CHECK(find(p, "blk.0.ssm_conv1d.weight")->cols == 4);
    CHECK(find(p, "blk.0.ssm_conv1d.weight")->f32_always);
    int64_t values = 0;
    for (const auto& [name, t] : TinyCheckpoint().tensors) values += t.size();
    CHECK(p.n_parameters == values);
}

TEST_CASE("configs that disagree with the tensors, or say what is not known, are refused") {
    for (const Case& c : kRefused) {
        INFO(c.what);
        TinyCheckpoint checkpoint;
        c.spoil(checkpoint);
        std::string message = error_of<FileError>([&] { plan(checkpoint); });
        INFO(message);
        CHECK(message.find(c.message) != std::string::npos);
    }
}

TEST_CASE("attn: a list of objects, each with its own heads and window") {
    TinyCheckpoint c;
    c.config["num_hidden_layers"] = 3;
    c.attention(2, 64, 64);
    c.mlp(2);
    c.config["attn"] =
        json::array({c.config["attn"], {{"layers", {2, 17}}, {"num_heads", 1}, {"window_size", nullptr}}});
    auto blocks = plan(c).config.blocks;
    CHECK(blocks[1].window == 32);
    CHECK(blocks[2].n_heads == 1);
    CHECK(blocks[2].n_kv_heads == 1);  // num_kv_heads defaults to num_heads
    CHECK(blocks[2].window == 0);      // null: full attention
    c.config["attn"][1]["rope_theta"] = 5e5;
    Config config = plan(c).config;
    CHECK(config.rope_theta == 10000.0);
    CHECK(config.blocks[1].rope_theta == 0);  // the config's
    CHECK(config.blocks[2].rope_theta == 5e5);
}

TEST_CASE("attn null is a pure Mamba") {
    TinyCheckpoint c;
    for (const char* name : {"q", "k", "v", "o"}) c.tensors.erase(layer(1) + "mixer." + name + "_proj.weight");
    c.mamba(1);
    c.config["attn"] = nullptr;
    CheckpointPlan p = plan(c);
    CHECK(p.config.blocks[1].mixer == Mixer::kMamba);
    CHECK(p.notes.empty());
}

TEST_CASE("attn absent or null beside attention layers means 18 heads, window 2048") {
    TinyCheckpoint c;
    c.config["hidden_size"] = 72;  // 18 heads of 4
    c.config["hidden_ratio"] = 5;  // 240 -> 256
    c.config["expand"] = 128.0 / 72;
    for (auto& [name, t] : c.tensors) {
        for (int64_t& d : t.shape) d = d == 64 || d == 32 ? 72 : d;
        t = tiny_tensor(*parse_dtype(t.dtype), t.shape, 1);
    }
    for (bool absent : {true, false}) {
        c.config["attn"] = nullptr;
        if (absent) c.config.erase("attn");
        CheckpointPlan p = plan(c);
        CHECK(p.config.blocks[1].n_heads == 18);
        CHECK(p.config.blocks[1].n_kv_heads == 18);
        CHECK(p.config.blocks[1].window == 2048);
        CHECK(p.notes.size() == (absent ? 0 : 1));
    }
}

TEST_CASE("biases and head norms are taken where config and tensors have them") {
    TinyCheckpoint c;
    c.config["use_bias"] = true;
    c.config["attn"]["qkv_bias"] = true;
    c.config["attn"]["qk_norm"] = true;
    c.vector(layer(0) + "mixer.in_proj.bias", 256);
    c.vector(layer(0) + "mixer.out_proj.bias", 64);
    c.vector(layer(1) + "mixer.q_proj.bias", 64);
    for (const char* name : {"k", "v"}) c.vector(layer(1) + "mixer." + name + "_proj.bias", 32);
    for (const char* name : {"q", "k"}) c.vector(layer(1) + "mixer." + name + "_norm.weight", 32);
    CheckpointPlan p = plan(c);
    for (const char* name : {"blk.0.ssm_in.bias", "blk.0.ssm_out.bias", "blk.1.attn_q.bias", "blk.1.attn_v.bias",
                             "blk.1.attn_k_norm.weight"}) {
        INFO(name);
        REQUIRE(find(p, name));
        CHECK(find(p, name)->f32_always);
    }
    TinyCheckpoint without;  // the convolution's bias is there or not, whatever use_conv_bias says
    without.tensors.erase(layer(0) + "mixer.conv1d.bias");
    CHECK_FALSE(find(plan(without), "blk.0.ssm_conv1d.bias"));
}

TEST_CASE("an old MLP holds gate and up in gate_proj, gate first") {
    TinyCheckpoint c;
    c.tensors.erase(layer(0) + "mlp.up_proj.weight");
    c.matrix(layer(0) + "mlp.gate_proj.weight", {512, 64});
    CheckpointPlan p = plan(c);
    CHECK(find(p, "blk.0.ffn_gate.weight")->ranges[0].first == 0);
    CHECK(find(p, "blk.0.ffn_up.weight")->ranges[0].first == 256);
    CHECK(find(p, "blk.0.ffn_up.weight")->ranges[0].count == 256);
    CHECK(find(p, "blk.0.ffn_up.weight")->source == find(p, "blk.0.ffn_gate.weight")->source);
}

TEST_CASE("tied: lm_head absent or equal; untied: one that differs") {
    TinyCheckpoint c;
    c.tensors["lm_head.weight"] = c.tensors["backbone.embeddings.weight"];
    for (bool said : {true, false}) {
        c.config["tie_word_embeddings"] = said;
        CheckpointPlan p = plan(c);
        CHECK(p.config.tied);
        CHECK_FALSE(find(p, "output.weight"));
        CHECK(p.n_parameters == plan(TinyCheckpoint()).n_parameters);
    }
    c.matrix("lm_head.weight", {16, 64});
    CheckpointPlan p = plan(c);
    CHECK_FALSE(p.config.tied);
    CHECK(find(p, "output.weight"));
    c.tensors.erase("lm_head.weight");
    c.config.erase("tie_word_embeddings");
    CHECK(plan(c).config.tied);
}

TEST_CASE("a mamba directory: norm.weight, no MLP, both names of rank and epsilon") {
    TinyCheckpoint c;
    c.tensors.clear();
    c.matrix("backbone.embeddings.weight", {16, 64});
    c.vector("backbone.norm_f.weight", 64);
    for (int i : {0, 1}) {
        c.mamba(i);
        c.tensors[layer(i) + "norm.weight"] = c.tensors[layer(i) + "mixer_norm.weight"];
        c.tensors.erase(layer(i) + "mixer_norm.weight");
    }
    c.config = {{"model_type", "mamba"},
                {"vocab_size", 16},
                {"hidden_size", 64},
                {"num_hidden_layers", 2},
                {"state_size", 8},
                {"conv_kernel", 4},
                {"expand", 2},
                {"intermediate_size", 128},
                {"layer_norm_epsilon", 1e-6},
                {"time_step_rank", 5}};
    CheckpointPlan p = plan(c);
    CHECK(p.kind == "Hugging Face mamba");
    CHECK(p.config.blocks == std::vector<BlockConfig>(2, BlockConfig{Mixer::kMamba, 0, 0, 0, 0, 0, 0, 0}));
    CHECK(p.config.norm_eps == 1e-6f);
    c.config.erase("time_step_rank");
    c.config["dt_rank"] = 6;
    CHECK_THROWS_AS(plan(c), FileError);
}

TEST_CASE("the MLP's width is rounded up to a multiple of 256") {
    CHECK(mlp_width(2304, 4) == 6144);
    CHECK(mlp_width(512, 4) == 1536);
    CHECK(mlp_width(1536, 4) == 4096);
    CHECK(mlp_width(384, 1) == 256);
}
