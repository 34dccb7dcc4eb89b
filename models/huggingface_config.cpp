#include "models/huggingface_config.h"

#include <algorithm>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 30;

// Typed reads of one object: null counts as absent.
class Object {
  public:
    Object(const json& j, std::string where) : json_(j), where_(std::move(where)) {}

    [[noreturn]] void fail(const char* key, const std::string& expected) const {
        std::string found = json_.contains(key) ? json_[key].dump() : "nothing";
        throw FileError(in_quotes(where_) + ": " + in_quotes(key) + ": expected " + expected + ", found " +
                        in_quotes(found));
    }
    const json* find(const char* key) const {
        auto it = json_.find(key);
        return it == json_.end() || it->is_null() ? nullptr : &*it;
    }
    std::optional<int64_t> integer(const char* key, int64_t least = 1) const {
        const json* v = find(key);
        if (!v) return std::nullopt;
        if (!v->is_number_integer() || *v < least || *v > kMaxSize) {
            fail(key, "a whole number from " + std::to_string(least) + " to " + std::to_string(kMaxSize));
        }
        return v->get<int64_t>();
    }
    int64_t required(const char* key) const {
        auto v = integer(key);
        if (!v) fail(key, "a positive whole number");
        return *v;
    }
    std::optional<double> number(const char* key) const {
        const json* v = find(key);
        if (!v) return std::nullopt;
        if (!v->is_number() || !(v->get<double>() > 0) || v->get<double>() > 1e12) fail(key, "a positive number");
        return v->get<double>();
    }
    std::optional<bool> boolean(const char* key) const {
        const json* v = find(key);
        if (!v) return std::nullopt;
        if (!v->is_boolean()) fail(key, "true or false");
        return v->get<bool>();
    }
    std::optional<std::string> text(const char* key) const {
        const json* v = find(key);
        if (!v) return std::nullopt;
        if (!v->is_string()) fail(key, "a string");
        return v->get<std::string>();
    }
    const json& value() const { return json_; }
    const std::string& where() const { return where_; }

  private:
    const json& json_;
    std::string where_;
};

HfAttention read_attention(const Object& o, int64_t n_layers) {
    HfAttention a;
    const json* layers = o.find("layers");
    if (!layers || !layers->is_array()) o.fail("layers", "a list of layers");
    for (const json& l : *layers) {
        if (!l.is_number_integer() || l < 0 || l > kMaxSize) o.fail("layers", "a list of layers from 0 on");
        if (l < n_layers) a.layers.insert(l.get<int64_t>());
    }
    a.n_heads = o.required("num_heads");
    a.n_kv_heads = o.integer("num_kv_heads").value_or(a.n_heads);
    a.window = o.integer("window_size").value_or(0);
    if (o.value().contains("rope_theta") && !o.find("rope_theta")) o.fail("rope_theta", "a positive number");
    a.rope_theta = o.number("rope_theta").value_or(10000.0);
    a.qkv_bias = o.boolean("qkv_bias").value_or(false);
    a.qk_norm = o.boolean("qk_norm").value_or(false);
    if (a.n_heads % a.n_kv_heads != 0)
        o.fail("num_kv_heads", "a divisor of num_heads (" + std::to_string(a.n_heads) + ")");
    return a;
}

void read_attentions(const Object& o, HfConfig& c) {
    if (!o.value().contains("attn")) {
        c.attention.push_back(default_attention(c.n_layers));
        return;
    }
    const json* attn = o.find("attn");
    c.attention_is_null = attn == nullptr;
    if (!attn) return;
    if (!attn->is_object() && !attn->is_array()) o.fail("attn", "null, an object or a list of objects");
    std::set<int64_t> seen;
    for (const json& j : attn->is_array() ? *attn : json::array({*attn})) {
        if (!j.is_object()) o.fail("attn", "null, an object or a list of objects");
        c.attention.push_back(read_attention(Object(j, o.where()), c.n_layers));
        for (int64_t l : c.attention.back().layers) {
            if (!seen.insert(l).second) o.fail("attn", "each layer once (layer " + std::to_string(l) + " comes twice)");
        }
    }
}

void read_mamba(const Object& o, HfConfig& c) {
    c.d_state = o.integer("state_size");
    c.d_conv = o.integer("conv_kernel");
    c.d_inner = o.integer("intermediate_size");
    if (auto expand = o.number("expand"); expand && !c.d_inner) {
        c.d_inner = static_cast<int64_t>(std::min(*expand * static_cast<double>(c.d_model), 1e15));
    }
    for (const char* key : {"time_step_rank", "dt_rank"}) {
        const json* rank = o.find(key);
        if (!rank) continue;
        if (rank->is_string()) {
            if (*rank != "auto") o.fail(key, "a whole number or \"auto\"");
            c.dt_rank = (c.d_model + 15) / 16;
        } else {
            c.dt_rank = o.required(key);
        }
    }
}

}  // namespace

HfAttention default_attention(int64_t n_layers) {
    HfAttention a;
    for (int64_t l = 1; l <= 17 && l < n_layers; l += 2) a.layers.insert(l);
    a.n_heads = a.n_kv_heads = 18;
    a.window = 2048;
    return a;
}

HfConfig read_huggingface_config(const json& j, const std::string& where) {
    if (!j.is_object()) throw FileError(in_quotes(where) + ": expected a JSON object");
    Object o(j, where);
    HfConfig c;
    std::string kind = o.text("model_type").value_or("");
    if (kind != "samba" && kind != "mamba") o.fail("model_type", "\"samba\" or \"mamba\"");
    c.is_samba = kind == "samba";
    c.d_model = o.required("hidden_size");
    c.n_layers = o.required("num_hidden_layers");
    c.vocab_size = o.required("vocab_size");
    c.context_length = o.integer("max_position_embeddings").value_or(0);
    std::string act = o.text("hidden_act").value_or("silu");
    if (act != "silu" && act != "swish") o.fail("hidden_act", "\"swish\" or \"silu\"");
    if (o.find("attnres_block_size")) o.fail("attnres_block_size", "null: this kind of residual is not known");
    c.norm_eps = o.number("norm_eps").value_or(o.number("layer_norm_epsilon").value_or(1e-5));
    c.use_bias = o.boolean("use_bias").value_or(false);
    c.tied = o.boolean("tie_word_embeddings");
    read_mamba(o, c);
    if (c.is_samba) {
        c.hidden_ratio = o.number("hidden_ratio").value_or(4.0);
        read_attentions(o, c);
    } else if (o.find("attn")) {
        o.fail("attn", "nothing: a mamba has no attention");
    }
    c.bos = o.integer("bos_token_id", 0);
    if (const json* eos = o.find("eos_token_id"); eos && eos->is_array()) {
        for (const json& id : *eos) {
            if (!id.is_number_integer() || id < 0 || id > kMaxSize) o.fail("eos_token_id", "token ids");
            c.eos.push_back(id.get<int64_t>());
        }
    } else if (auto id = o.integer("eos_token_id", 0)) {
        c.eos.push_back(*id);
    }
    return c;
}

}  // namespace samba
