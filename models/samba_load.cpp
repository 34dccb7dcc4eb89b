// Loading: weights onto the backend, states and work memory laid out. The forward pass is in samba.cpp.
#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "models/samba.h"

namespace samba {
namespace {

int64_t decayed_cols(const BlockConfig& b) {  // of [q k v g low]
    return 2 * int64_t{b.n_heads} * (b.head_dim + b.value_dim) + b.gate_rank;
}

}  // namespace

Samba::Samba(const ModelFile& file, Backend& backend, const Options& options) : backend_(backend) {
    const Config& config = file.config;
    int max_rows = options.max_rows > 0 ? options.max_rows : backend.prefill_chunk();
    load_weights(file);
    place_state(config, options);
    plan_workspace(config, max_rows, options.ring_type);
    Limits limits{
        .max_rows = max_rows, .n_slots = options.n_slots, .d_model = config.d_model, .vocab_size = config.vocab_size};
    limits.max_cols = std::max<int64_t>(config.d_model, 2LL * config.d_inner);
    for (const BlockConfig& b : config.blocks) {
        limits.max_cols =
            std::max({limits.max_cols, 2 * b.d_ff, static_cast<int64_t>(b.n_heads + 2 * b.n_kv_heads) * b.head_dim});
        if (b.mixer == Mixer::kMega) {
            limits.max_cols = std::max(limits.max_cols, 3 * config.d_model + 4 * int64_t{b.head_dim});
            continue;
        }
        if (is_decayed(b.mixer)) limits.max_cols = std::max(limits.max_cols, decayed_cols(b));
        limits.max_kv_cols = std::max(limits.max_kv_cols, b.n_kv_heads * b.head_dim);
    }
    for (const auto& ring : layout_.rings) limits.max_ring_rows = std::max(limits.max_ring_rows, ring.n_rows);
    backend.prepare(limits);
}

void Samba::load_weights(const ModelFile& file) {
    const Config& config = file.config;
    auto tensor = [&](const std::string& name) -> const Tensor& {
        const Tensor* t = file.find(name);
        if (!t) throw FileError(file.path + ": tensor " + name + " is missing");
        return *t;
    };
    auto load = [&](const std::string& name) {  // NAME.weight with NAME.bias where there is one
        return backend_.load(std::span(&tensor(name + ".weight"), 1), file.find(name + ".bias"));
    };
    auto vector = [&](const std::string& name) { return backend_.load(std::span(&tensor(name), 1)); };
    auto norm = [&](const std::string& name) { return Norm{vector(name + ".weight"), config.norm_eps}; };
    auto head_norm = [&](const std::string& name) { return file.find(name + ".weight") ? norm(name) : Norm{}; };
    auto rope_table = [&](int dim, double theta) -> RopeTable* {
        if (dim == 0) return nullptr;
        for (RopeTable& r : ropes_) {
            if (r.dim == dim && r.theta == theta) return &r;
        }
        ropes_.push_back({.dim = dim, .theta = theta, .cos = {}, .sin = {}});
        rope_list_.push_back(&ropes_.back());
        return &ropes_.back();
    };
    auto load_qkv = [&](const std::string& block) {
        const Tensor parts[] = {tensor(block + "attn_q.weight"), tensor(block + "attn_k.weight"),
                                tensor(block + "attn_v.weight")};
        const Tensor* biases[] = {file.find(block + "attn_q.bias"), file.find(block + "attn_k.bias"),
                                  file.find(block + "attn_v.bias")};
        if (!biases[0] && !biases[1] && !biases[2]) return backend_.load(parts);
        std::vector<float>& joined = made_.emplace_back();
        for (int i = 0; i < 3; ++i) {
            const float* b = biases[i] ? static_cast<const float*>(biases[i]->data) : nullptr;
            for (int64_t row = 0; row < parts[i].rows; ++row) joined.push_back(b ? b[row] : 0.0f);
        }
        Tensor bias{DType::kF32, 1, static_cast<int64_t>(joined.size()), joined.data()};
        return backend_.load(parts, &bias);
    };
    auto load_taps = [&](const std::string& block) {  // one convolution over the columns of [q k v]
        std::vector<float>& joined = made_.emplace_back();
        Tensor taps;
        for (const char* name : {"attn_q_conv1d", "attn_k_conv1d", "attn_v_conv1d"}) {
            const Tensor& t = tensor(block + name + ".weight");
            auto* values = static_cast<const float*>(t.data);
            joined.insert(joined.end(), values, values + t.rows * t.cols);
            taps.cols = t.cols;
            taps.rows += t.rows;
        }
        taps.data = joined.data();
        return backend_.load(std::span(&taps, 1));
    };
    auto load_retention_decay = [&](int n_heads) {  // 1 - 2^(-5-h)
        std::vector<float>& decay = made_.emplace_back();
        for (int h = 0; h < n_heads; ++h) decay.push_back(static_cast<float>(1 - std::ldexp(1.0, -5 - h)));
        Tensor t{DType::kF32, 1, n_heads, decay.data()};
        return backend_.load(std::span(&t, 1));
    };

    embedding_ = vector("token_embd.weight");
    head_ = file.find("output.weight") ? vector("output.weight") : embedding_;
    final_norm_ = norm("output_norm");
    for (size_t i = 0; i < config.blocks.size(); ++i) {
        const BlockConfig& b = config.blocks[i];
        std::string block = "blk." + std::to_string(i) + ".";
        if (b.mixer == Mixer::kMamba) {
            MambaWeights w;
            w.norm = norm(block + "attn_norm");
            w.in_proj = load(block + "ssm_in");
            w.conv.taps = load(block + "ssm_conv1d");
            w.x_proj = load(block + "ssm_x");
            w.ssm = {load(block + "ssm_dt"), vector(block + "ssm_a"), vector(block + "ssm_d")};
            w.out_proj = load(block + "ssm_out");
            layers_.emplace_back(std::move(w));
        }
        if (b.mixer == Mixer::kAttention) {
            AttentionWeights w;
            w.norm = norm(block + "attn_norm");
            w.qkv = {load_qkv(block),
                     head_norm(block + "attn_q_norm"),
                     head_norm(block + "attn_k_norm"),
                     b.n_heads,
                     b.n_kv_heads,
                     b.head_dim};
            if (b.conv_width > 0) w.conv.taps = load_taps(block);
            w.out_proj = load(block + "attn_output");
            w.rope = rope_table(b.rope_dim, b.rope_theta ? b.rope_theta : config.rope_theta);
            layers_.emplace_back(std::move(w));
        }
        if (is_decayed(b.mixer)) {
            DecayedWeights w;
            w.norm = norm(block + "attn_norm");
            std::vector<Tensor> parts;
            for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_gate"}) {
                parts.push_back(tensor(block + name + ".weight"));
            }
            if (b.mixer == Mixer::kGla) {
                parts.push_back(tensor(block + "attn_decay_a.weight"));
                w.gate_proj = load(block + "attn_decay_b");
            } else {
                w.head_decay = load_retention_decay(b.n_heads);
                w.heads.n_heads = w.heads.n_kv_heads = b.n_heads;
                w.heads.head_dim = b.head_dim;
                w.rope = rope_table(b.rope_dim, config.rope_theta);
            }
            w.qkvg = backend_.load(parts);
            w.head_norm = norm(block + "attn_sub_norm");
            w.out_proj = load(block + "attn_output");
            w.n_heads = b.n_heads, w.key_dim = b.head_dim, w.value_dim = b.value_dim;
            layers_.emplace_back(std::move(w));
        }
        if (b.mixer == Mixer::kMega) {
            MegaWeights w;
            w.norm = norm(block + "attn_norm");
            w.v_proj = load(block + "attn_v");
            w.conv.taps = load(block + "ssm_conv1d");
            w.x_proj = load(block + "ssm_x");
            w.ssm = {load(block + "ssm_dt"), vector(block + "ssm_a"), vector(block + "ssm_d")};
            w.mix = load(block + "attn_mix");
            w.keys = {vector(block + "attn_z.weight"), vector(block + "attn_z.bias"),
                      vector(block + "attn_rel_q.weight"), vector(block + "attn_rel_k.weight")};
            w.rope = rope_table(b.head_dim, config.rope_theta);
            w.out_proj = load(block + "attn_output");
            layers_.emplace_back(std::move(w));
        }
        if (b.d_ff > 0) {
            const Tensor gate_up[] = {tensor(block + "ffn_gate.weight"), tensor(block + "ffn_up.weight")};
            layers_.emplace_back(
                MlpWeights{norm(block + "ffn_norm"), backend_.load(gate_up), load(block + "ffn_down")});
        }
    }
}

void Samba::place_state(const Config& config, const Options& options) {
    layout_ = state_layout(config, options.ring_type, options.n_planes, options.max_context);
    state_ = backend_.allocate(layout_.slot_bytes * static_cast<size_t>(options.n_slots));
    auto planes = layout_.planes.begin();
    auto rings = layout_.rings.begin();
    auto next_planes = [&] {
        const StateLayout::Planes& p = *planes++;
        return PlaneState{reinterpret_cast<float*>(state_.data() + p.offset),
                          static_cast<int64_t>(layout_.slot_bytes / sizeof(float)),
                          static_cast<int64_t>(p.plane_bytes / sizeof(float)), layout_.n_planes};
    };
    for (Layer& layer : layers_) {
        if (auto* w = std::get_if<MambaWeights>(&layer)) {
            w->conv_state = next_planes();
            w->ssm_state = next_planes();
        }
        if (auto* w = std::get_if<DecayedWeights>(&layer)) w->state = next_planes();
        if (auto* w = std::get_if<MegaWeights>(&layer)) {
            w->conv_state = next_planes();
            w->ssm_state = next_planes();
            const StateLayout::RingPart& r = *rings++;
            w->ring = {state_.data() + r.offset,
                       state_.data() + r.values_offset(),
                       static_cast<int64_t>(layout_.slot_bytes),
                       r.n_rows,
                       r.chunk,
                       2 * static_cast<int>(w->keys.scale.cols),
                       config.d_model,
                       chunk_ring_type(options.ring_type)};
        }
        if (auto* w = std::get_if<AttentionWeights>(&layer)) {
            const StateLayout::RingPart& r = *rings++;
            w->ring = {state_.data() + r.offset,
                       state_.data() + r.values_offset(),
                       static_cast<int64_t>(layout_.slot_bytes),
                       r.n_rows,
                       r.window,
                       r.n_kv_heads,
                       w->qkv.head_dim,
                       options.ring_type};
            if (r.window == 0) max_positions_ = options.max_context;
            if (!w->conv.taps.empty()) w->conv_state = next_planes();
        }
    }
}

void Samba::plan_workspace(const Config& config, int max_rows, DType ring_type) {
    DType act = backend_.activation_type();
    DType qkv_type = act == DType::kF32 ? act : ring_type == DType::kQ8_0 ? DType::kF16 : ring_type;
    int64_t mega_cols = 0, mix_cols = 0;
    int64_t q_cols = 0, qkv_cols = 0, qkvg_cols = 0, key_cols = 0, value_cols = 0, d_ff = 0;
    for (const BlockConfig& b : config.blocks) {
        d_ff = std::max(d_ff, b.d_ff);
        if (is_decayed(b.mixer)) {
            qkvg_cols = std::max(qkvg_cols, decayed_cols(b));
            if (b.gate_rank > 0) key_cols = std::max(key_cols, int64_t{b.n_heads} * b.head_dim);
            value_cols = std::max(value_cols, int64_t{b.n_heads} * b.value_dim);
        }
        if (b.mixer == Mixer::kMega) {
            mega_cols = config.d_model;
            mix_cols = std::max(mix_cols, 3 * config.d_model + b.head_dim);
            q_cols = std::max(q_cols, config.d_model);
            qkv_cols = std::max(qkv_cols, config.d_model + 4 * int64_t{b.head_dim});
        }
        if (b.mixer != Mixer::kAttention) continue;
        q_cols = std::max(q_cols, static_cast<int64_t>(b.n_heads) * b.head_dim);
        qkv_cols = std::max(qkv_cols, static_cast<int64_t>(b.n_heads + 2 * b.n_kv_heads) * b.head_dim);
    }
    struct Wish {
        View* view;
        int64_t rows, cols;
        DType type;
    };
    std::vector<Wish> wishes = {
        {&ws_.x, max_rows, config.d_model, DType::kF32},
        {&ws_.uz, max_rows, 2LL * config.d_inner, act},
        {&ws_.dbc, max_rows, config.dt_rank + 2LL * config.d_state, act},
        {&ws_.y, max_rows, config.d_inner, act},
        {&ws_.qkv, max_rows, qkv_cols, qkv_type},
        {&ws_.attended, max_rows, q_cols, qkv_type},
        {&ws_.qkvg, max_rows, qkvg_cols, act},
        {&ws_.gates, max_rows, key_cols, DType::kF32},
        {&ws_.recalled, max_rows, value_cols, act},
        {&ws_.normed, max_rows, mega_cols, act},
        {&ws_.mix, max_rows, mix_cols, act},
        {&ws_.h, max_rows, d_ff, act},
        {&ws_.logits, kLogitRows, config.vocab_size, DType::kF32},
    };
    for (RopeTable& r : ropes_) {
        wishes.push_back({&r.cos, max_rows, r.dim / 2, DType::kF32});
        wishes.push_back({&r.sin, max_rows, r.dim / 2, DType::kF32});
    }
    auto bytes = [](const Wish& w) {
        return (static_cast<size_t>(w.rows) * row_bytes(w.type, w.cols) + 255) / 256 * 256;
    };
    size_t sum = 0;
    for (const Wish& w : wishes) sum += bytes(w);
    work_ = backend_.allocate(sum);
    size_t at = 0;
    for (const Wish& w : wishes) {
        *w.view = View(work_.data() + at, w.rows, w.cols, w.type);
        at += bytes(w);
    }
}

}  // namespace samba
