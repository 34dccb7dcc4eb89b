#include "models/microsoft.h"

#include "kernels/error.h"
#include "models/model_file.h"
#include "models/plan_builder.h"
#include "models/quote.h"

namespace samba {
namespace {

const std::string kLayers = "transformer.h.";
constexpr int kShortConvWidth = 4;

class Planner {
  public:
    Planner(const CheckpointReader& reader, const Config& config) : build_(reader) {
        build_.plan.kind = "microsoft/Samba " + config.name;
        build_.plan.config = config;
    }

    CheckpointPlan plan() {
        Config& c = build_.plan.config;
        build_.matrix("token_embd.weight", "transformer.wte.weight", c.vocab_size, c.d_model);
        for (int layer = 0; build_.plan.tensors.size() && has_layer(layer); ++layer) this->layer(layer);
        if (next_ != c.blocks.size())
            build_.fail("expected the " + std::to_string(c.blocks.size()) + " blocks of " + c.name + ", found " +
                        std::to_string(next_));
        build_.vector("output_norm.weight", "transformer.ln_f.weight", c.d_model);
        build_.head("lm_head.weight", "transformer.wte.weight");
        build_.finish();
        return std::move(build_.plan);
    }

  private:
    PlanBuilder build_;
    size_t next_ = 0;  // the block that the next part of a layer becomes

    static std::string prefix(int layer) { return kLayers + std::to_string(layer) + "."; }
    bool has(int layer, const std::string& name) const { return build_.find(prefix(layer) + name) != nullptr; }
    bool has_layer(int layer) const {
        return has(layer, "norm_1.weight") || has(layer, "norm_m.weight") || has(layer, "norm.weight") ||
               has(layer, "attn.norm.weight");
    }

    // The next block of the config, which must have that mixer.
    BlockConfig& block(Mixer mixer, const std::string& found) {
        std::vector<BlockConfig>& blocks = build_.plan.config.blocks;
        if (next_ >= blocks.size() || blocks[next_].mixer != mixer) {
            build_.fail("block " + std::to_string(next_) + " of " + build_.plan.config.name + " expects " +
                        (next_ >= blocks.size() ? "nothing more" : in_quotes(mixer_name(blocks[next_].mixer))) +
                        ", found " + found);
        }
        return blocks[next_++];
    }
    std::string name() const { return "blk." + std::to_string(next_ - 1) + "."; }

    void layer(int i) {
        std::string p = prefix(i);
        int64_t d = build_.plan.config.d_model;
        if (has(i, "mb.A_log")) {  // Mamba, attention, MLP: a block of three
            block(Mixer::kMamba, "a Mamba");
            build_.vector(name() + "attn_norm.weight", p + "norm_m.weight", d);
            build_.mamba(p + "mb.", name());
            attention(p, "norm_attn.weight");
        } else if (has(i, "mixer.A_log")) {  // Mamba alone
            block(Mixer::kMamba, "a Mamba");
            build_.vector(name() + "attn_norm.weight", p + "norm.weight", d);
            build_.mamba(p + "mixer.", name());
            return;
        } else if (has(i, "attn.A_log")) {
            block(Mixer::kMamba, "a Mamba");
            build_.vector(name() + "attn_norm.weight", p + "norm_1.weight", d);
            build_.mamba(p + "attn.", name());
        } else if (has(i, "attn.attn.weight")) {
            attention(p, "norm_1.weight");
        } else if (has(i, "attn.gk_proj.0.weight")) {
            decayed(p, block(Mixer::kGla, "a gated linear attention"));
        } else if (has(i, "attn.g_proj.weight")) {
            decayed(p, block(Mixer::kRetention, "a retention"));
        } else if (has(i, "attn.move.A_log")) {
            mega(p, block(Mixer::kMega, "a Mega-S6"));
        } else if (has(i, "attn.swiglu.w1.weight")) {  // an MLP in the mixer's place
            mlp(p + "norm_1.weight", p + "attn.swiglu.", block(Mixer::kNone, "an MLP"));
            block(Mixer::kNone, "an MLP");
        } else {
            build_.fail("layer " + std::to_string(i) +
                        " has a mixer that this program does not run: none of Mamba, attention, gated linear "
                        "attention, retention, Mega-S6 and MLP");
        }
        mlp(p + "norm_2.weight", p + "mlp.swiglu.", build_.plan.config.blocks[next_ - 1]);
    }

    // q, k and v lie in one matrix, interleaved by kv group: (n_kv_heads, q_per_kv + 2, head_dim, d_model).
    void attention(const std::string& p, const char* norm) {
        BlockConfig& b = block(Mixer::kAttention, "an attention");
        int64_t d = build_.plan.config.d_model, hd = b.head_dim, group = b.n_heads / b.n_kv_heads;
        build_.vector(name() + "attn_norm.weight", p + norm, d);
        const CheckpointTensor& qkv = build_.need(p + "attn.attn.weight", b.n_kv_heads * (group + 2) * hd, d);
        struct Part {
            const char* name;
            int64_t first_head, heads;
        };
        for (const Part& part :
             {Part{"attn_q.weight", 0, group}, Part{"attn_k.weight", group, 1}, Part{"attn_v.weight", group + 1, 1}}) {
            TensorPlan& t = build_.add(name() + part.name, qkv, false);
            t.rows = b.n_kv_heads * part.heads * hd;
            t.ranges.clear();
            for (int64_t g = 0; g < b.n_kv_heads; ++g)
                t.ranges.push_back({(g * (group + 2) + part.first_head) * hd, part.heads * hd});
        }
        short_convolutions(p, b);
        build_.matrix(name() + "attn_output.weight", p + "attn.proj.weight", d, b.n_heads * hd);
    }

    // "+SC", which any configuration may have been trained with: the tensors alone say so.
    void short_convolutions(const std::string& p, BlockConfig& b) {
        b.conv_width = build_.find(p + "attn.q_conv1d.weight") ? kShortConvWidth : 0;
        if (b.conv_width == 0) return;
        for (const char* part : {"q", "k", "v"}) {
            int64_t channels = int64_t{*part == 'q' ? b.n_heads : b.n_kv_heads} * b.head_dim;
            std::string from = p + "attn." + part + "_conv1d.weight";
            build_.add(name() + "attn_" + part + "_conv1d.weight", build_.need(from, channels, b.conv_width), true);
        }
    }

    // Gated linear attention, or retention.
    void decayed(const std::string& p, const BlockConfig& b) {
        int64_t d = build_.plan.config.d_model;
        int64_t keys = int64_t{b.n_heads} * b.head_dim, values = int64_t{b.n_heads} * b.value_dim;
        build_.vector(name() + "attn_norm.weight", p + "norm_1.weight", d);
        build_.matrix(name() + "attn_q.weight", p + "attn.q_proj.weight", keys, d);
        build_.matrix(name() + "attn_k.weight", p + "attn.k_proj.weight", keys, d);
        build_.matrix(name() + "attn_v.weight", p + "attn.v_proj.weight", values, d);
        build_.matrix(name() + "attn_gate.weight", p + "attn.g_proj.weight", values, d);
        if (b.mixer == Mixer::kGla) {
            build_.matrix(name() + "attn_decay_a.weight", p + "attn.gk_proj.0.weight", b.gate_rank, d);
            build_.matrix(name() + "attn_decay_b.weight", p + "attn.gk_proj.1.weight", keys, b.gate_rank);
            build_.vector(name() + "attn_decay_b.bias", p + "attn.gk_proj.1.bias", keys);
        }
        build_.vector(name() + "attn_sub_norm.weight", p + "attn.g_norm_swish_gate.weight", b.value_dim);
        build_.matrix(name() + "attn_output.weight", p + "attn.o_proj.weight", d, values);
    }

    // Mega with a selective scan; it has its own norm.
    void mega(const std::string& p, const BlockConfig& b) {
        int64_t d = build_.plan.config.d_model, mix = 3 * d + b.head_dim;
        build_.vector(name() + "attn_norm.weight", p + "attn.norm.weight", d);
        build_.matrix(name() + "attn_v.weight", p + "attn.v_proj.weight", d, d);
        build_.vector(name() + "attn_v.bias", p + "attn.v_proj.bias", d);
        build_.scan(p + "attn.move.", name());
        build_.matrix(name() + "attn_mix.weight", p + "attn.mx_proj.weight", mix, d);
        build_.vector(name() + "attn_mix.bias", p + "attn.mx_proj.bias", mix);
        build_.add(name() + "attn_z.weight", build_.need(p + "attn.gamma", 2, b.head_dim), true);
        build_.add(name() + "attn_z.bias", build_.need(p + "attn.beta", 2, b.head_dim), true);
        build_.vector(name() + "attn_rel_q.weight", p + "attn.rel_pos_bias.alpha", b.head_dim);
        build_.vector(name() + "attn_rel_k.weight", p + "attn.rel_pos_bias.beta", b.head_dim);
        build_.matrix(name() + "attn_output.weight", p + "attn.h_proj.weight", d, d);
        build_.vector(name() + "attn_output.bias", p + "attn.h_proj.bias", d);
    }

    // w1 is the gate, w2 the up projection, w3 the down projection.
    void mlp(const std::string& norm, const std::string& p, const BlockConfig& b) {
        int64_t d = build_.plan.config.d_model, width = b.d_ff_true;
        build_.vector(name() + "ffn_norm.weight", norm, d);
        build_.matrix(name() + "ffn_gate.weight", p + "w1.weight", width, d).rows = b.d_ff;
        build_.matrix(name() + "ffn_up.weight", p + "w2.weight", width, d).rows = b.d_ff;
        build_.matrix(name() + "ffn_down.weight", p + "w3.weight", d, width).cols = b.d_ff;
    }
};

}  // namespace

bool is_microsoft(const CheckpointReader& reader) { return reader.find("transformer.wte.weight") != nullptr; }

CheckpointPlan plan_microsoft(const CheckpointReader& reader, const Config& config) {
    return Planner(reader, config).plan();
}

std::string recognise_microsoft(const CheckpointReader& reader) {
    std::string fitting;
    int n = 0;
    for (const std::string& name : preset_names()) {
        try {
            plan_microsoft(reader, preset(name));
        } catch (const FileError&) {
            continue;
        }
        fitting += (n++ ? ", " : "") + name;
    }
    if (n == 1) return fitting;
    throw FileError(in_quotes(reader.where()) + ": the checkpoint names no configuration, and " +
                    (n == 0 ? "no preset has its shapes" : "several have its shapes (" + fitting + ")") +
                    ": name one with --preset NAME|FILE.json");
}

}  // namespace samba
