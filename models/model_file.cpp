#include "models/model_file.h"

#include <xxhash.h>

#include <algorithm>
#include <map>

#include "models/file_type.h"
#include "models/model_metadata.h"
#include "models/quote.h"

namespace samba {

namespace {

std::string shape(int64_t rows, int64_t cols) { return "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")"; }

// Convolution and selective scan of a Mamba or a mega.
void add_scan(const Config& c, const std::string& blk, std::vector<TensorSpec>& out) {
    out.push_back({blk + "ssm_conv1d.weight", c.d_inner, c.d_conv, true, false});
    out.push_back({blk + "ssm_conv1d.bias", 1, c.d_inner, true, true});
    out.push_back({blk + "ssm_x.weight", c.dt_rank + 2 * int64_t{c.d_state}, c.d_inner, false, false});
    out.push_back({blk + "ssm_dt.weight", c.d_inner, c.dt_rank, false, false});
    out.push_back({blk + "ssm_dt.bias", 1, c.d_inner, true, false});
    out.push_back({blk + "ssm_a", c.d_inner, c.d_state, true, false});
    out.push_back({blk + "ssm_a_log", c.d_inner, c.d_state, true, true});
    out.push_back({blk + "ssm_d", 1, c.d_inner, true, false});
}

void add_mixer(const Config& c, const BlockConfig& b, const std::string& blk, std::vector<TensorSpec>& out) {
    if (b.mixer == Mixer::kNone) return;
    out.push_back({blk + "attn_norm.weight", 1, c.d_model, true, false});
    if (b.mixer == Mixer::kMega) {
        int64_t mix = 3 * c.d_model + b.head_dim;
        out.push_back({blk + "attn_v.weight", c.d_model, c.d_model, false, false});
        out.push_back({blk + "attn_v.bias", 1, c.d_model, true, false});
        add_scan(c, blk, out);
        out.push_back({blk + "attn_mix.weight", mix, c.d_model, false, false});
        out.push_back({blk + "attn_mix.bias", 1, mix, true, false});
        out.push_back({blk + "attn_z.weight", 2, b.head_dim, true, false});
        out.push_back({blk + "attn_z.bias", 2, b.head_dim, true, false});
        out.push_back({blk + "attn_rel_q.weight", 1, b.head_dim, true, false});
        out.push_back({blk + "attn_rel_k.weight", 1, b.head_dim, true, false});
        out.push_back({blk + "attn_output.weight", c.d_model, c.d_model, false, false});
        out.push_back({blk + "attn_output.bias", 1, c.d_model, true, false});
        return;
    }
    if (b.mixer == Mixer::kMamba) {
        out.push_back({blk + "ssm_in.weight", 2 * int64_t{c.d_inner}, c.d_model, false, false});
        out.push_back({blk + "ssm_in.bias", 1, 2 * int64_t{c.d_inner}, true, true});
        add_scan(c, blk, out);
        out.push_back({blk + "ssm_out.weight", c.d_model, c.d_inner, false, false});
        out.push_back({blk + "ssm_out.bias", 1, c.d_model, true, true});
        return;
    }
    if (is_decayed(b.mixer)) {
        int64_t keys = int64_t{b.n_heads} * b.head_dim, values = int64_t{b.n_heads} * b.value_dim;
        out.push_back({blk + "attn_q.weight", keys, c.d_model, false, false});
        out.push_back({blk + "attn_k.weight", keys, c.d_model, false, false});
        out.push_back({blk + "attn_v.weight", values, c.d_model, false, false});
        out.push_back({blk + "attn_gate.weight", values, c.d_model, false, false});
        if (b.mixer == Mixer::kGla) {
            out.push_back({blk + "attn_decay_a.weight", b.gate_rank, c.d_model, false, false});
            out.push_back({blk + "attn_decay_b.weight", keys, b.gate_rank, false, false});
            out.push_back({blk + "attn_decay_b.bias", 1, keys, true, false});
        }
        out.push_back({blk + "attn_sub_norm.weight", 1, b.value_dim, true, false});
        out.push_back({blk + "attn_output.weight", c.d_model, values, false, false});
        return;
    }
    int64_t q = int64_t{b.n_heads} * b.head_dim, kv = int64_t{b.n_kv_heads} * b.head_dim;
    out.push_back({blk + "attn_q.weight", q, c.d_model, false, false});
    out.push_back({blk + "attn_k.weight", kv, c.d_model, false, false});
    out.push_back({blk + "attn_v.weight", kv, c.d_model, false, false});
    out.push_back({blk + "attn_q.bias", 1, q, true, true});
    out.push_back({blk + "attn_k.bias", 1, kv, true, true});
    out.push_back({blk + "attn_v.bias", 1, kv, true, true});
    out.push_back({blk + "attn_q_norm.weight", 1, b.head_dim, true, true});
    out.push_back({blk + "attn_k_norm.weight", 1, b.head_dim, true, true});
    if (b.conv_width > 0) {
        out.push_back({blk + "attn_q_conv1d.weight", q, b.conv_width, true, false});
        out.push_back({blk + "attn_k_conv1d.weight", kv, b.conv_width, true, false});
        out.push_back({blk + "attn_v_conv1d.weight", kv, b.conv_width, true, false});
    }
    out.push_back({blk + "attn_output.weight", c.d_model, q, false, false});
}

void check(const GgufTensor& t, const Tensor& found, const TensorSpec& spec) {
    if (found.rows != spec.rows || found.cols != spec.cols) {
        throw FileError("tensor " + in_quotes(t.name) + ": expected shape (rows, columns) " +
                        shape(spec.rows, spec.cols) + " as the metadata says, found " + shape(found.rows, found.cols));
    }
    if (spec.f32_always && found.type != DType::kF32) {
        throw FileError("tensor " + in_quotes(t.name) + ": expected type F32, found " + info(found.type).name);
    }
}

// Biases and head norms come for all of q, k, v or for none.
void check_together(const std::map<std::string, Tensor>& tensors, const std::string& blk,
                    std::initializer_list<const char*> names) {
    const char *there = nullptr, *missing = nullptr;
    for (const char* name : names) (tensors.count(blk + name) ? there : missing) = name;
    if (there && missing) {
        throw FileError("tensor " + in_quotes(blk + missing) + " is missing, although " + in_quotes(blk + there) +
                        " is there");
    }
}

void take_tensors(const Gguf& gguf, ModelFile& file) {
    std::map<DType, uint64_t> weights;
    for (const TensorSpec& spec : expected_tensors(file.config)) {
        const GgufTensor* t = gguf.find(spec.name);
        if (!t) {
            if (spec.optional) continue;
            throw FileError("tensor " + in_quotes(spec.name) + " is missing: expected shape (rows, columns) " +
                            shape(spec.rows, spec.cols));
        }
        Tensor tensor{t->type, 1, static_cast<int64_t>(t->dims[0]), t->data};
        for (size_t d = 1; d < t->dims.size(); ++d) tensor.rows *= static_cast<int64_t>(t->dims[d]);
        check(*t, tensor, spec);
        file.tensors[spec.name] = tensor;
        file.bytes += tensor.bytes();
        if (!spec.f32_always) weights[tensor.type] += tensor.bytes();
    }
    for (const GgufTensor& t : gguf.tensors) {
        if (!file.tensors.count(t.name)) {
            throw FileError("tensor " + in_quotes(t.name) + " is not known: the file may need a newer program");
        }
    }
    for (size_t i = 0; i < file.config.blocks.size(); ++i) {
        if (file.config.blocks[i].mixer != Mixer::kAttention) continue;
        std::string blk = "blk." + std::to_string(i) + ".";
        check_together(file.tensors, blk, {"attn_q.bias", "attn_k.bias", "attn_v.bias"});
        check_together(file.tensors, blk, {"attn_q_norm.weight", "attn_k_norm.weight"});
    }
    auto most = [](const auto& a, const auto& b) { return a.second < b.second; };
    file.weight_type = std::max_element(weights.begin(), weights.end(), most)->first;
}

ModelFile read_model(const Gguf& gguf) {
    std::string architecture = gguf.metadata.text("general.architecture").value_or("");
    if (architecture != "samba") {
        throw FileError("key \"general.architecture\": expected \"samba\", found " + in_quotes(architecture) +
                        " (samba-lm runs files made by samba-lm convert)");
    }
    ModelFile file;
    file.config = read_config(gguf);
    take_tensors(gguf, file);
    file.tokenizer = read_tokenizer(gguf.metadata, file.config.vocab_size);
    file.sampling = read_sampling(gguf.metadata);
    file.chat_template = gguf.metadata.text("samba.chat_template").value_or("");
    file.summary_method = gguf.metadata.text("samba.summary_method").value_or("");
    file.recall_length = gguf.metadata.integer("samba.recall_length").value_or(0);
    auto type = gguf.metadata.integer("general.file_type");
    file.file_type = type && *type >= 0 && *type <= 65535 ? file_type_name(static_cast<uint32_t>(*type)) : "";
    if (file.file_type.empty()) file.file_type = info(file.weight_type).name;
    file.content_hash = gguf.metadata.text(kContentHashKey).value_or("");
    file.fingerprint = gguf.header_hash;
    file.memory = gguf.memory;
    return file;
}

}  // namespace

std::vector<TensorSpec> expected_tensors(const Config& c) {
    std::vector<TensorSpec> out;
    out.push_back({"token_embd.weight", c.vocab_size, c.d_model, false, false});
    for (size_t i = 0; i < c.blocks.size(); ++i) {
        const BlockConfig& b = c.blocks[i];
        std::string blk = "blk." + std::to_string(i) + ".";
        add_mixer(c, b, blk, out);
        if (b.d_ff == 0) continue;
        out.push_back({blk + "ffn_norm.weight", 1, c.d_model, true, false});
        out.push_back({blk + "ffn_gate.weight", b.d_ff, c.d_model, false, false});
        out.push_back({blk + "ffn_up.weight", b.d_ff, c.d_model, false, false});
        out.push_back({blk + "ffn_down.weight", c.d_model, b.d_ff, false, false});
    }
    out.push_back({"output_norm.weight", 1, c.d_model, true, false});
    if (!c.tied) out.push_back({"output.weight", c.vocab_size, c.d_model, false, false});
    return out;
}

int64_t n_parameters(const Config& c) {
    int64_t n = 0, padding = 0;
    for (const TensorSpec& spec : expected_tensors(c)) {
        if (!spec.optional || spec.name.ends_with("ssm_conv1d.bias")) n += spec.rows * spec.cols;
    }
    for (const BlockConfig& b : c.blocks) padding += 3 * (b.d_ff - b.d_ff_true) * c.d_model;
    return n - padding;
}

ModelFile model_of(const Gguf& gguf) {
    try {
        return read_model(gguf);
    } catch (const FileError& e) {
        throw FileError(in_quotes(gguf.where) + ": " + e.what());
    }
}

ModelFile load_model_file(const std::string& path) {
    ModelFile file = model_of(Gguf::open(path));
    file.path = path;
    return file;
}

std::string content_hash(const ModelFile& file) {
    std::vector<Tensor> order;
    for (const auto& [name, tensor] : file.tensors) order.push_back(tensor);
    std::sort(order.begin(), order.end(),
              [](const Tensor& a, const Tensor& b) { return std::less<>()(a.data, b.data); });
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(state.get());
    for (const Tensor& t : order) XXH3_64bits_update(state.get(), t.data, t.bytes());
    return hex64(XXH3_64bits_digest(state.get()));
}

}  // namespace samba
