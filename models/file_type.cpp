#include "models/file_type.h"

#include "kernels/error.h"
#include "models/quantize.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr FileType kFileTypes[] = {
    {"f32", 0, DType::kF32, false},    {"f16", 1, DType::kF16, false},    {"bf16", 32, DType::kBF16, false},
    {"q8_0", 7, DType::kQ8_0, false},  {"q4_0", 2, DType::kQ4_0, false},  {"q4_k", 14, DType::kQ4_K, false},
    {"q5_k", 16, DType::kQ5_K, false}, {"q6_k", 18, DType::kQ6_K, false}, {"q4_k_m", 15, DType::kQ4_K, true},
};

// The mix q4_k_m: 4 bits, and 6 where a byte more buys most. Chosen on the shipped model by the Kullback-Leibler
// divergence from bf16 that each kind of matrix alone costs in 4 bits, for each MB that 6 bits would add
// (docs/benchmarks.md):
//   attn_v 0.022, token_embd 0.0076 (a tied head), attn_k 0.0053, attn_output 0.0047, ssm_out 0.0039, ssm_x 0.0033;
//   ssm_in 0.0033, ffn_down 0.0029, ffn_gate 0.0025, ffn_up 0.0022 and attn_q 0.0012 stay at 4.
struct MixRule {
    std::string_view name;  // without the block's prefix
    DType type;
};
constexpr MixRule kQ4KM[] = {
    {"token_embd.weight", DType::kQ6_K}, {"output.weight", DType::kQ6_K},      {"attn_v.weight", DType::kQ6_K},
    {"attn_k.weight", DType::kQ6_K},     {"attn_output.weight", DType::kQ6_K}, {"ssm_out.weight", DType::kQ6_K},
    {"ssm_x.weight", DType::kQ6_K},
};

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return out;
}

DType mixed_type(std::string_view name, DType base) {
    if (name.starts_with("blk.")) name.remove_prefix(name.find('.', 4) + 1);
    for (const MixRule& rule : kQ4KM) {
        if (name == rule.name) return rule.type;
    }
    return base;
}

}  // namespace

const FileType& file_type(std::string_view name) {
    std::string wanted = lower(name), known;
    for (const FileType& t : kFileTypes) {
        if (t.name == wanted) return t;
        known += (known.empty() ? "" : ", ") + std::string(t.name);
    }
    throw UsageError("unknown type " + in_quotes(name) + "; known: " + known);
}

std::vector<std::string> file_types() {
    std::vector<std::string> names;
    for (const FileType& t : kFileTypes) names.emplace_back(t.name);
    return names;
}

std::string file_type_name(uint32_t id) {
    for (const FileType& t : kFileTypes) {
        if (t.id == id) return t.mix ? t.name : info(t.base).name;
    }
    return "";
}

DType tensor_type(const FileType& file, std::string_view name, int64_t cols, DType source) {
    if (!info(file.base).quantized) return file.base;
    if (name.ends_with("ssm_dt.weight") || name.ends_with("attn_decay_b.weight")) return source;
    DType type = file.mix ? mixed_type(name, file.base) : file.base;
    if (cols % info(type).block_values == 0) return type;
    return cols % 32 == 0 ? DType::kQ8_0 : DType::kBF16;
}

}  // namespace samba
