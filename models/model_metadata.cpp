#include "models/model_metadata.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/backend.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 30;  // of any dimension
constexpr uint64_t kMaxConvWidth = 16;          // of q, k and v: what every backend can do

[[noreturn]] void bad_key(const std::string& key, const std::string& what) {
    throw FileError("key " + in_quotes(key) + ": " + what);
}

class ConfigReader {
  public:
    explicit ConfigReader(const Gguf& gguf) : gguf_(gguf), meta_(gguf.metadata) {}

    Config read() {
        Config c;
        c.name = meta_.text("general.name").value_or("");
        c.d_model = required("samba.embedding_length");
        const GgufTensor* embedding = gguf_.find("token_embd.weight");
        int64_t rows = embedding && embedding->dims.size() > 1 ? static_cast<int64_t>(embedding->dims[1]) : 0;
        c.vocab_size = size("samba.vocab_size", rows);
        if (c.vocab_size == 0) bad_key("samba.vocab_size", "is missing");
        c.context_length = size("samba.context_length", 0);
        c.norm_eps = static_cast<float>(number("samba.attention.layer_norm_rms_epsilon", 1e-5));
        if (!(c.norm_eps > 0)) bad_key("samba.attention.layer_norm_rms_epsilon", "expected a positive number");
        c.tied = gguf_.find("output.weight") == nullptr;
        n_blocks_ = required("samba.block_count");
        if (n_blocks_ > static_cast<int64_t>(gguf_.tensors.size())) {
            bad_key("samba.block_count", std::to_string(n_blocks_) + " blocks, but the file has only " +
                                             std::to_string(gguf_.tensors.size()) + " tensors");
        }
        read_blocks(c);
        return c;
    }

  private:
    const Gguf& gguf_;
    const GgufMetadata& meta_;
    int64_t n_blocks_ = 0;

    int64_t size(const std::string& key, int64_t fallback) const {
        int64_t v = meta_.integer(key).value_or(fallback);
        if (v < 0 || v > kMaxSize)
            bad_key(key, "expected 0 to " + std::to_string(kMaxSize) + ", found " + std::to_string(v));
        return v;
    }

    int64_t required(const std::string& key) const {
        if (!meta_.find(key)) bad_key(key, "is missing");
        int64_t v = size(key, 0);
        if (v == 0) bad_key(key, "expected a positive number, found 0");
        return v;
    }

    double number(const std::string& key, double fallback) const {
        double v = meta_.number(key).value_or(fallback);
        if (!std::isfinite(v)) bad_key(key, "is not finite");
        return v;
    }

    // One value a block: from an array of that length, or the scalar for all.
    std::vector<int64_t> per_block(const std::string& key, int64_t fallback) const {
        auto n = static_cast<size_t>(n_blocks_);
        bool scalar = true;
        auto list = meta_.integers(key, &scalar);
        if (!list) return std::vector<int64_t>(n, fallback);
        if (scalar) list = std::vector<int64_t>(n, list->front());
        if (list->size() != n) {
            bad_key(key,
                    "expected " + std::to_string(n) + " values, one a block, found " + std::to_string(list->size()));
        }
        for (int64_t v : *list) {
            if (v < 0 || v > kMaxSize) {
                bad_key(key, "expected 0 to " + std::to_string(kMaxSize) + ", found " + std::to_string(v));
            }
        }
        return *list;
    }

    bool has(size_t block, const char* tensor) const {
        return gguf_.find("blk." + std::to_string(block) + "." + tensor) != nullptr;
    }

    Mixer mixer_of(size_t i, const std::vector<std::string>* names, int64_t n_kv_heads) const {
        bool mamba = has(i, "ssm_in.weight"), attention = has(i, "attn_q.weight");
        std::string block = "block " + std::to_string(i);
        if (mamba && attention) throw FileError(block + " has the tensors of both a Mamba and an attention");
        bool mega = has(i, "attn_mix.weight");
        Mixer mixer = mamba                           ? Mixer::kMamba
                      : mega                          ? Mixer::kMega
                      : !attention                    ? Mixer::kNone
                      : has(i, "attn_decay_a.weight") ? Mixer::kGla
                      : has(i, "attn_gate.weight")    ? Mixer::kRetention
                                                      : Mixer::kAttention;
        if (names && (*names)[i] != mixer_name(mixer)) {
            bad_key("samba.block.mixer", block + ": expected " + in_quotes(mixer_name(mixer)) +
                                             " (its tensors say so), found " + in_quotes((*names)[i]));
        }
        if (!names && mixer == Mixer::kNone) {
            throw FileError(block + " has no mixer: neither blk." + std::to_string(i) + ".ssm_in.weight nor blk." +
                            std::to_string(i) + ".attn_q.weight is there, and there is no key \"samba.block.mixer\"");
        }
        if ((mixer == Mixer::kAttention) != (n_kv_heads > 0)) {
            bad_key("samba.attention.head_count_kv",
                    block + ": expected " + (n_kv_heads > 0 ? "0" : "a positive number") + ", found " +
                        std::to_string(n_kv_heads) + " (its tensors are those of " +
                        (mixer == Mixer::kAttention ? "an attention" : "another mixer") + ")");
        }
        return mixer;
    }

    void read_blocks(Config& c) const {
        auto heads = per_block("samba.attention.head_count", 0),
             kv_heads = per_block("samba.attention.head_count_kv", 0);
        auto key_length = per_block("samba.attention.key_length", 0);
        auto value_length = per_block("samba.attention.value_length", 0);
        auto windows = per_block("samba.attention.sliding_window", 0);
        auto rope = per_block("samba.rope.dimension_count", -1);
        auto d_ff = per_block("samba.feed_forward_length", 0);
        auto d_ff_true = per_block("samba.feed_forward_length_true", 0);
        const auto* names = meta_.texts("samba.block.mixer");
        auto n = static_cast<size_t>(n_blocks_);
        if (names && names->size() != n) {
            bad_key("samba.block.mixer",
                    "expected " + std::to_string(n) + " names, one a block, found " + std::to_string(names->size()));
        }
        std::vector<double> thetas = rope_thetas(c);
        bool mamba = false, mega = false;
        for (size_t i = 0; i < n; ++i) {
            BlockConfig b;
            b.mixer = mixer_of(i, names, kv_heads[i]);
            mamba |= b.mixer == Mixer::kMamba;
            mega |= b.mixer == Mixer::kMega;
            if (b.mixer == Mixer::kAttention) {
                b.n_heads = static_cast<int>(heads[i]);
                b.n_kv_heads = static_cast<int>(kv_heads[i]);
                if (b.n_heads == 0)
                    bad_key("samba.attention.head_count", "block " + std::to_string(i) + " has no heads");
                b.head_dim = static_cast<int>(key_length[i] ? key_length[i] : c.d_model / b.n_heads);
                b.window = windows[i];
                b.rope_dim = static_cast<int>(rope[i] < 0 ? b.head_dim : rope[i]);
                if (thetas[i] != c.rope_theta) b.rope_theta = thetas[i];
                b.conv_width = conv_width(i);
                check_attention(i, b, value_length[i]);
            }
            if (is_decayed(b.mixer)) {
                b.n_heads = static_cast<int>(heads[i]);
                b.head_dim = static_cast<int>(key_length[i]);
                b.value_dim = static_cast<int>(value_length[i]);
                if (b.mixer == Mixer::kRetention) b.rope_dim = static_cast<int>(rope[i] < 0 ? b.head_dim : rope[i]);
                if (b.mixer == Mixer::kGla) b.gate_rank = static_cast<int>(required("samba.attention.decay_lora_rank"));
                check_decayed(i, b);
            }
            if (b.mixer == Mixer::kMega) {
                b.n_heads = 1;
                b.head_dim = b.rope_dim = static_cast<int>(key_length[i]);
                b.value_dim = static_cast<int>(c.d_model);
                b.chunk = required("samba.attention.chunk_length");
                check_mega(i, b);
            }
            b.d_ff = has(i, "ffn_gate.weight") ? d_ff[i] : 0;
            if (b.d_ff == 0 && (d_ff[i] != 0 || has(i, "ffn_gate.weight"))) {
                bad_key("samba.feed_forward_length", "block " + std::to_string(i) + " has the width " +
                                                         std::to_string(d_ff[i]) + ", but blk." + std::to_string(i) +
                                                         ".ffn_gate.weight is " + (d_ff[i] ? "missing" : "there"));
            }
            b.d_ff_true = d_ff_true[i] && b.d_ff ? d_ff_true[i] : b.d_ff;
            if (b.d_ff_true > b.d_ff) {
                bad_key("samba.feed_forward_length_true",
                        std::to_string(b.d_ff_true) + " is above the padded width " + std::to_string(b.d_ff));
            }
            c.blocks.push_back(b);
        }
        if (mamba || mega) {
            c.d_inner = static_cast<int>(required("samba.ssm.inner_size"));
            c.d_state = static_cast<int>(required("samba.ssm.state_size"));
            c.d_conv = static_cast<int>(required("samba.ssm.conv_kernel"));
            c.dt_rank = static_cast<int>(required("samba.ssm.time_step_rank"));
            if (mega && c.d_inner != c.d_model) {
                bad_key("samba.ssm.inner_size",
                        "expected the " + std::to_string(c.d_model) + " of a mega, found " + std::to_string(c.d_inner));
            }
        }
    }

    // One number, or one a block where blocks differ (blocks without a say have 0). Sets the config's: the first.
    std::vector<double> rope_thetas(Config& c) const {
        const char* key = "samba.rope.freq_base";
        const GgufValue* value = meta_.find(key);
        std::vector<double> thetas;
        if (value && std::holds_alternative<GgufArray>(*value)) {
            for (float theta : *meta_.floats(key)) thetas.push_back(theta);
            if (thetas.size() != static_cast<size_t>(n_blocks_))
                bad_key(key, "expected " + std::to_string(n_blocks_) + " numbers, one a block");
        } else {
            thetas.assign(static_cast<size_t>(n_blocks_), number(key, 10000.0));
        }
        auto said = std::find_if(thetas.begin(), thetas.end(), [](double theta) { return theta != 0; });
        if (said != thetas.end()) c.rope_theta = *said;
        for (double& theta : thetas) {
            if (theta == 0 && std::holds_alternative<GgufArray>(*value)) theta = c.rope_theta;
            if (!(theta > 0) || !std::isfinite(theta)) bad_key(key, "expected a positive number");
        }
        return thetas;
    }

    // The width of the convolution over q, k and v, which its tensors alone say; 0: none.
    int conv_width(size_t i) const {
        for (const char* name : {"attn_q_conv1d.weight", "attn_k_conv1d.weight", "attn_v_conv1d.weight"}) {
            const GgufTensor* t = gguf_.find("blk." + std::to_string(i) + "." + name);
            if (!t) continue;
            if (t->dims[0] < 1 || t->dims[0] > kMaxConvWidth) {
                throw FileError("tensor " + in_quotes(t->name) + ": expected a convolution over 1 to " +
                                std::to_string(kMaxConvWidth) + " tokens, found " + std::to_string(t->dims[0]));
            }
            return static_cast<int>(t->dims[0]);
        }
        return 0;
    }

    void check_decayed(size_t i, const BlockConfig& b) const {
        std::string block = "block " + std::to_string(i) + ": ";
        if (b.n_heads == 0) bad_key("samba.attention.head_count", "block " + std::to_string(i) + " has no heads");
        if (b.head_dim == 0 || b.head_dim > kMaxKeyDim) {
            bad_key("samba.attention.key_length",
                    block + "expected 1 to " + std::to_string(kMaxKeyDim) + ", found " + std::to_string(b.head_dim));
        }
        if (b.value_dim == 0) bad_key("samba.attention.value_length", block + "the heads have no values");
        if (int64_t{b.n_heads} * std::max(b.head_dim, b.value_dim) > kMaxSize) {
            bad_key("samba.attention.head_count", block + "its heads together are too wide");
        }
        check_rotation(block, b);
    }

    void check_mega(size_t i, const BlockConfig& b) const {
        if (b.head_dim == 0 || b.head_dim % 2 != 0 || 2 * b.head_dim > kMaxKeyDim) {
            bad_key("samba.attention.key_length", "block " + std::to_string(i) + ": expected an even number up to " +
                                                      std::to_string(kMaxKeyDim / 2) + ", found " +
                                                      std::to_string(b.head_dim));
        }
    }

    void check_rotation(const std::string& block, const BlockConfig& b) const {
        if (b.rope_dim > b.head_dim || b.rope_dim % 2 != 0) {
            bad_key("samba.rope.dimension_count", block + "expected an even number up to " +
                                                      std::to_string(b.head_dim) + ", found " +
                                                      std::to_string(b.rope_dim));
        }
    }

    void check_attention(size_t i, const BlockConfig& b, int64_t value_length) const {
        std::string block = "block " + std::to_string(i) + ": ";
        if (b.n_heads % b.n_kv_heads != 0) {
            bad_key("samba.attention.head_count", block + std::to_string(b.n_heads) + " heads are not a multiple of " +
                                                      std::to_string(b.n_kv_heads) + " kv heads");
        }
        if (b.head_dim == 0) bad_key("samba.attention.key_length", block + "the head dimension is 0");
        if (int64_t{b.n_heads} * b.head_dim > kMaxSize) {
            bad_key("samba.attention.head_count", block + "its heads together are too wide");
        }
        if (value_length != 0 && value_length != b.head_dim) {
            bad_key("samba.attention.value_length", block + "expected the key length " + std::to_string(b.head_dim) +
                                                        ", found " + std::to_string(value_length));
        }
        check_rotation(block, b);
    }
};

// A scalar where all blocks that have a say agree, else an array; blocks without a say have 0.
template <class Get, class Has>
void set_per_block(GgufMetadata& meta, const char* key, const Config& c, Get get, Has has) {
    std::set<int64_t> values;
    std::vector<uint32_t> list;
    for (const BlockConfig& b : c.blocks) {
        if (has(b)) values.insert(get(b));
        list.push_back(has(b) ? static_cast<uint32_t>(get(b)) : 0);
    }
    if (values.empty()) return;
    if (values.size() == 1) {
        meta.set(key, static_cast<uint32_t>(*values.begin()));
    } else {
        meta.set(key, std::move(list));
    }
}

// One number where all blocks have it, else one a block.
void write_rope_theta(const Config& c, GgufMetadata& meta) {
    std::vector<float> thetas;
    bool differ = false;
    for (const BlockConfig& b : c.blocks) {
        differ |= b.rope_theta != 0;
        thetas.push_back(static_cast<float>(b.mixer != Mixer::kAttention ? 0
                                            : b.rope_theta               ? b.rope_theta
                                                                         : c.rope_theta));
    }
    if (differ) {
        meta.set("samba.rope.freq_base", std::move(thetas));
    } else {
        meta.set("samba.rope.freq_base", static_cast<float>(c.rope_theta));
    }
}

}  // namespace

Config read_config(const Gguf& gguf) { return ConfigReader(gguf).read(); }

void write_config(const Config& c, GgufMetadata& meta) {
    auto attention = [](const BlockConfig& b) { return b.mixer == Mixer::kAttention; };
    auto heads = [](const BlockConfig& b) { return b.n_heads > 0; };
    auto rotated = [](const BlockConfig& b) { return b.n_heads > 0 && b.mixer != Mixer::kGla; };
    auto every = [](const BlockConfig&) { return true; };
    bool plain = true, any_rotated = false, any_scan = false;
    int64_t chunk = 0;
    int gate_rank = 0;
    std::vector<int32_t> kv_heads;
    std::vector<std::string> mixers;
    for (const BlockConfig& b : c.blocks) {
        plain &= (b.mixer == Mixer::kMamba || attention(b)) && b.d_ff != 0;
        any_rotated |= rotated(b);
        gate_rank = std::max(gate_rank, b.gate_rank);
        any_scan |= b.mixer == Mixer::kMamba || b.mixer == Mixer::kMega;
        chunk = std::max(chunk, b.chunk);
        kv_heads.push_back(b.n_kv_heads);
        mixers.emplace_back(mixer_name(b.mixer));
    }
    meta.set("samba.context_length", static_cast<uint32_t>(c.context_length));
    meta.set("samba.embedding_length", static_cast<uint32_t>(c.d_model));
    meta.set("samba.block_count", static_cast<uint32_t>(c.blocks.size()));
    // Every block has a say here: 0 is "no MLP".
    set_per_block(
        meta, "samba.feed_forward_length", c, [](const auto& b) { return b.d_ff; }, every);
    set_per_block(
        meta, "samba.feed_forward_length_true", c, [](const auto& b) { return b.d_ff_true; }, every);
    meta.set("samba.vocab_size", static_cast<uint32_t>(c.vocab_size));
    set_per_block(
        meta, "samba.attention.head_count", c, [](const auto& b) { return b.n_heads; }, heads);
    meta.set("samba.attention.head_count_kv", kv_heads);
    set_per_block(
        meta, "samba.attention.key_length", c, [](const auto& b) { return b.head_dim; }, heads);
    set_per_block(
        meta, "samba.attention.value_length", c, [](const auto& b) { return b.value_dim ? b.value_dim : b.head_dim; },
        heads);
    if (gate_rank > 0) meta.set("samba.attention.decay_lora_rank", static_cast<uint32_t>(gate_rank));
    meta.set("samba.attention.layer_norm_rms_epsilon", c.norm_eps);
    set_per_block(
        meta, "samba.attention.sliding_window", c, [](const auto& b) { return b.window; }, attention);
    set_per_block(
        meta, "samba.rope.dimension_count", c, [](const auto& b) { return b.rope_dim; }, rotated);
    if (any_rotated) write_rope_theta(c, meta);
    if (chunk > 0) meta.set("samba.attention.chunk_length", static_cast<uint32_t>(chunk));
    if (any_scan) {
        meta.set("samba.ssm.conv_kernel", static_cast<uint32_t>(c.d_conv));
        meta.set("samba.ssm.inner_size", static_cast<uint32_t>(c.d_inner));
        meta.set("samba.ssm.state_size", static_cast<uint32_t>(c.d_state));
        meta.set("samba.ssm.time_step_rank", static_cast<uint32_t>(c.dt_rank));
    }
    if (!plain) meta.set("samba.block.mixer", mixers);
}

}  // namespace samba
