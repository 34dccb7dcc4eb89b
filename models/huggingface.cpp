#include "models/huggingface.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "models/huggingface_config.h"
#include "models/json_text.h"
#include "models/plan_builder.h"
#include "models/quote.h"

namespace samba {

namespace {

class Planner : private PlanBuilder {
  public:
    Planner(const CheckpointReader& reader, HfConfig config, std::string where)
        : PlanBuilder(reader), hf_(std::move(config)), where_(std::move(where)) {}

    CheckpointPlan make() {
        Config& c = plan.config;
        plan.kind = hf_.is_samba ? "flash-linear-attention samba" : "Hugging Face mamba";
        plan.bos = hf_.bos;
        plan.eos = hf_.eos;
        c.d_model = hf_.d_model;
        c.vocab_size = hf_.vocab_size;
        c.context_length = hf_.context_length;
        c.norm_eps = static_cast<float>(hf_.norm_eps);
        check_layer_count();
        matrix("token_embd.weight", "backbone.embeddings.weight", c.vocab_size, c.d_model);
        for (int64_t i = 0; i < hf_.n_layers; ++i) block(i);
        check_mamba_config();
        vector("output_norm.weight", "backbone.norm_f.weight", c.d_model);
        output_head();
        finish();
        return std::move(plan);
    }

  private:
    HfConfig hf_;
    std::string where_;

    [[noreturn]] void disagrees(const std::string& key, const std::string& config, const std::string& tensors) const {
        throw FileError(in_quotes(where_) + ": " + in_quotes(key) + " says " + config + ", but the tensors say " +
                        tensors);
    }

    void check_layer_count() const {
        int64_t layers = 0;
        const std::string prefix = "backbone.layers.";
        for (const CheckpointTensor& t : reader().tensors()) {
            if (!t.name.starts_with(prefix)) continue;
            layers =
                std::max(layers, 1 + static_cast<int64_t>(std::strtoul(t.name.c_str() + prefix.size(), nullptr, 10)));
        }
        if (layers != hf_.n_layers)
            disagrees("num_hidden_layers", std::to_string(hf_.n_layers), std::to_string(layers));
    }

    void block(int64_t i) {
        std::string hf = "backbone.layers." + std::to_string(i) + ".", blk = "blk." + std::to_string(i) + ".";
        BlockConfig b;
        bool attention = find(hf + "mixer.q_proj.weight"), mamba = find(hf + "mixer.A_log");
        if (attention == mamba) {
            fail("layer " + std::to_string(i) + " has the tensors of " +
                 (mamba ? "both a Mamba and an attention" : "neither a Mamba nor an attention"));
        }
        const HfAttention* spec = attention_of(i, attention);
        vector(blk + "attn_norm.weight", hf + (hf_.is_samba ? "mixer_norm.weight" : "norm.weight"), hf_.d_model);
        if (spec) {
            b = attention_block(hf + "mixer.", blk, *spec);
        } else {
            b.mixer = Mixer::kMamba;
            mamba_block(hf + "mixer.", blk);
        }
        if (hf_.is_samba) mlp(hf, blk, b);
        plan.config.blocks.push_back(b);
    }

    // The object of `attn` that names the layer; it must be there exactly when the tensors are an attention's.
    const HfAttention* attention_of(int64_t i, bool tensors_attend) {
        if (hf_.attention_is_null && tensors_attend && hf_.attention.empty()) {
            hf_.attention.push_back(default_attention(hf_.n_layers));  // what some versions mean by null
            plan.notes.push_back("\"attn\" is null, but there are attention layers: taken as 18 heads, window 2048");
        }
        const HfAttention* spec = nullptr;
        for (const HfAttention& a : hf_.attention) {
            if (a.layers.count(i)) spec = &a;
        }
        if ((spec != nullptr) != tensors_attend) {
            disagrees("attn", "layer " + std::to_string(i) + (spec ? " attends" : " does not attend"),
                      tensors_attend ? "it does" : "it is a Mamba");
        }
        return spec;
    }

    BlockConfig attention_block(const std::string& hf, const std::string& blk, const HfAttention& a) {
        Config& c = plan.config;
        if (c.d_model % a.n_heads != 0) {
            disagrees("num_heads", std::to_string(a.n_heads),
                      "a width of " + std::to_string(c.d_model) + ", which is no multiple of it");
        }
        BlockConfig b;
        b.mixer = Mixer::kAttention;
        b.n_heads = static_cast<int>(a.n_heads);
        b.n_kv_heads = static_cast<int>(a.n_kv_heads);
        b.head_dim = static_cast<int>(c.d_model / a.n_heads);
        b.rope_dim = b.head_dim;
        b.window = a.window;
        if (b.head_dim % 2 != 0) fail("heads of " + std::to_string(b.head_dim) + " values cannot be rotated in pairs");
        bool first = std::none_of(c.blocks.begin(), c.blocks.end(),
                                  [](const BlockConfig& other) { return other.mixer == Mixer::kAttention; });
        if (first) c.rope_theta = a.rope_theta;
        if (c.rope_theta != a.rope_theta) b.rope_theta = a.rope_theta;
        int64_t kv = int64_t{b.n_kv_heads} * b.head_dim;
        const std::pair<const char*, int64_t> projections[] = {{"q", c.d_model}, {"k", kv}, {"v", kv}};
        for (const auto& [name, rows] : projections) {
            std::string source = hf + name + "_proj", target = blk + "attn_" + name;
            matrix(target + ".weight", source + ".weight", rows, c.d_model);
            optional_vector(target + ".bias", source + ".bias", rows, a.qkv_bias, "qkv_bias");
        }
        for (const char* name : {"q", "k"}) {
            optional_vector(blk + "attn_" + name + "_norm.weight", hf + name + "_norm.weight", b.head_dim, a.qk_norm,
                            "qk_norm");
        }
        matrix(blk + "attn_output.weight", hf + "o_proj.weight", c.d_model, c.d_model);
        return b;
    }

    void optional_vector(const std::string& name, const std::string& source, int64_t n, bool expected,
                         const char* key) {
        agrees(key, expected, source);
        if (expected) vector(name, source, n);
    }

    void agrees(const char* key, bool expected, const std::string& source) const {
        bool there = find(source) != nullptr;
        if (there == expected) return;
        disagrees(key, expected ? "true" : "false", in_quotes(source) + (there ? " is there" : " is missing"));
    }

    void mamba_block(const std::string& hf, const std::string& blk) {
        Config& c = plan.config;
        const CheckpointTensor &a_log = *find(hf + "A_log"), *conv = find(hf + "conv1d.weight"),
                               *dt = find(hf + "dt_proj.weight");
        if (!conv || !dt) fail("tensor " + in_quotes(hf + (conv ? "dt_proj.weight" : "conv1d.weight")) + " is missing");
        if (c.d_inner == 0) {
            c.d_inner = static_cast<int>(a_log.rows());
            c.d_state = static_cast<int>(a_log.cols());
            c.d_conv = static_cast<int>(conv->cols());
            c.dt_rank = static_cast<int>(dt->cols());
        }
        for (const char* name : {"in_proj.bias", "out_proj.bias"}) agrees("use_bias", hf_.use_bias, hf + name);
        mamba(hf, blk);
    }

    void check_mamba_config() const {
        const Config& c = plan.config;
        if (c.d_inner == 0) return;
        const std::tuple<const char*, std::optional<int64_t>, int64_t> checks[] = {
            {"state_size", hf_.d_state, c.d_state},
            {"conv_kernel", hf_.d_conv, c.d_conv},
            {"intermediate_size (the Mamba's inner size)", hf_.d_inner, c.d_inner},
            {"time_step_rank", hf_.dt_rank, c.dt_rank}};
        for (const auto& [key, config, tensors] : checks) {
            if (config && *config != tensors) disagrees(key, std::to_string(*config), std::to_string(tensors));
        }
    }

    void mlp(const std::string& hf, const std::string& blk, BlockConfig& b) {
        int64_t d = plan.config.d_model;
        const CheckpointTensor* gate = find(hf + "mlp.gate_proj.weight");
        if (!gate) fail("tensor " + in_quotes(hf + "mlp.gate_proj.weight") + " is missing");
        bool joined = !find(hf + "mlp.up_proj.weight");  // before fla 0.1: gate, then up, in one matrix
        b.d_ff_true = joined ? gate->rows() / 2 : gate->rows();
        b.d_ff = padded_width(b.d_ff_true);
        int64_t width = mlp_width(d, *hf_.hidden_ratio);
        if (b.d_ff_true != width)
            disagrees("hidden_ratio", "an MLP of width " + std::to_string(width), std::to_string(b.d_ff_true));
        vector(blk + "ffn_norm.weight", hf + "mlp_norm.weight", d);
        const CheckpointTensor& first = need(hf + "mlp.gate_proj.weight", joined ? 2 * width : width, d);
        const CheckpointTensor& second = joined ? first : need(hf + "mlp.up_proj.weight", width, d);
        plan.tensors.push_back({blk + "ffn_gate.weight", b.d_ff, d, false, &first, {{0, width}}, false});
        plan.tensors.push_back(
            {blk + "ffn_up.weight", b.d_ff, d, false, &second, {{joined ? width : 0, width}}, false});
        matrix(blk + "ffn_down.weight", hf + "mlp.down_proj.weight", d, width).cols = b.d_ff;
    }

    // Tied: no lm_head.weight, or one that equals the embedding. A pure Mamba's config need not say.
    void output_head() {
        const std::string name = "lm_head.weight";
        if (!find(name) && hf_.is_samba && hf_.tied == false)
            fail("tensor " + in_quotes(name) + " is missing, and tie_word_embeddings is false");
        head(name, "backbone.embeddings.weight");
        if (!plan.config.tied && hf_.tied == true && hf_.is_samba)
            disagrees("tie_word_embeddings", "true", "that the head differs from the embedding");
    }
};

}  // namespace

int64_t mlp_width(int64_t d_model, double hidden_ratio) {
    double two_thirds = std::min(static_cast<double>(d_model) * hidden_ratio * 2 / 3, 1e15);
    return padded_width(static_cast<int64_t>(two_thirds));
}

CheckpointPlan plan_huggingface(const CheckpointReader& reader, std::string_view config_json,
                                const std::string& where) {
    HfConfig config = read_huggingface_config(parse_json(config_json, where), where);
    return Planner(reader, std::move(config), where).make();
}

}  // namespace samba
