// The tokenizer and the defaults that a model file carries.
#include <cmath>

#include "models/model_metadata.h"
#include "models/quote.h"

namespace samba {

namespace {

[[noreturn]] void bad_key(const std::string& key, const std::string& what) {
    throw FileError("key " + in_quotes(key) + ": " + what);
}

int32_t token_id(const GgufMetadata& meta, const std::string& key, int64_t vocab_size) {
    auto id = meta.integer(key);
    if (!id) return -1;
    if (*id < 0 || *id >= vocab_size) {
        bad_key(key, "expected a token below " + std::to_string(vocab_size) + ", found " + std::to_string(*id));
    }
    return static_cast<int32_t>(*id);
}

std::vector<uint32_t> token_ids(const GgufMetadata& meta, const std::string& key, int64_t vocab_size) {
    std::vector<uint32_t> ids;
    for (int64_t id : meta.integers(key).value_or(std::vector<int64_t>{})) {
        if (id < 0 || id >= vocab_size) {
            bad_key(key, "expected tokens below " + std::to_string(vocab_size) + ", found " + std::to_string(id));
        }
        ids.push_back(static_cast<uint32_t>(id));
    }
    return ids;
}

void check_count(const std::string& key, size_t found, size_t tokens) {
    if (found != 0 && found != tokens) {
        bad_key(key, "expected " + std::to_string(tokens) + " entries, one a token, found " + std::to_string(found));
    }
}

}  // namespace

TokenizerData read_tokenizer(const GgufMetadata& meta, int64_t vocab_size) {
    TokenizerData t;
    auto kind = meta.text("tokenizer.ggml.model");
    if (!kind) return t;
    t.kind = *kind;
    if (t.kind != "llama" && t.kind != "gpt2") {
        bad_key("tokenizer.ggml.model", "expected \"llama\" or \"gpt2\", found " + in_quotes(t.kind));
    }
    if (const auto* tokens = meta.texts("tokenizer.ggml.tokens")) t.tokens = *tokens;
    if (t.tokens.empty()) bad_key("tokenizer.ggml.tokens", "is missing or empty");
    if (static_cast<int64_t>(t.tokens.size()) > vocab_size) {
        bad_key("tokenizer.ggml.tokens", std::to_string(t.tokens.size()) + " tokens, but the embedding has only " +
                                             std::to_string(vocab_size) + " rows");
    }
    if (const auto* scores = meta.floats("tokenizer.ggml.scores")) t.scores = *scores;
    check_count("tokenizer.ggml.scores", t.scores.size(), t.tokens.size());
    for (int64_t type : meta.integers("tokenizer.ggml.token_type").value_or(std::vector<int64_t>{})) {
        if (type < 0 || type > 6)
            bad_key("tokenizer.ggml.token_type", "expected 0 to 6, found " + std::to_string(type));
        t.types.push_back(static_cast<int32_t>(type));
    }
    check_count("tokenizer.ggml.token_type", t.types.size(), t.tokens.size());
    if (const auto* merges = meta.texts("tokenizer.ggml.merges")) t.merges = *merges;
    if (const auto* model = meta.bytes("tokenizer.sentencepiece.model"))
        t.sentencepiece_model.assign(model->begin(), model->end());
    t.pre = meta.text("tokenizer.ggml.pre").value_or("");
    t.bos = token_id(meta, "tokenizer.ggml.bos_token_id", vocab_size);
    t.eos = token_id(meta, "tokenizer.ggml.eos_token_id", vocab_size);
    t.unk = token_id(meta, "tokenizer.ggml.unknown_token_id", vocab_size);
    t.eot = token_id(meta, "tokenizer.ggml.eot_token_id", vocab_size);
    t.add_bos = meta.boolean("tokenizer.ggml.add_bos_token").value_or(false);
    t.add_space_prefix = meta.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
    t.end_ids = token_ids(meta, "samba.end_token_ids", vocab_size);
    t.added_ids = token_ids(meta, "samba.added_token_ids", vocab_size);
    return t;
}

SamplingDefaults read_sampling(const GgufMetadata& meta) {
    auto number = [&](const char* key, double least, double most) -> std::optional<float> {
        auto v = meta.number(key);
        if (!v) return std::nullopt;
        if (!(*v >= least && *v <= most)) {
            bad_key(key, "expected " + std::to_string(least) + " to " + std::to_string(most) + ", found " +
                             std::to_string(*v));
        }
        return static_cast<float>(*v);
    };
    auto count = [&](const char* key) -> std::optional<int> {
        auto v = meta.integer(key);
        if (!v) return std::nullopt;
        if (*v < 0 || *v > 1 << 30) bad_key(key, "expected 0 to 1073741824, found " + std::to_string(*v));
        return static_cast<int>(*v);
    };
    SamplingDefaults s;
    s.temp = number("general.sampling.temp", 0, 100);
    s.top_p = number("general.sampling.top_p", 0, 1);
    s.min_p = number("general.sampling.min_p", 0, 1);
    s.repeat_penalty = number("general.sampling.penalty_repeat", 0, 100);
    s.top_k = count("general.sampling.top_k");
    s.repeat_last_n = count("general.sampling.penalty_last_n");
    return s;
}

}  // namespace samba
