#include "models/export_tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/tokenizer_json.h"

namespace samba {

namespace {

using nlohmann::ordered_json;

constexpr int kControl = 3, kUserDefined = 4, kUnused = 5;

bool is_added(const TokenizerData& t, size_t id) {
    bool listed = std::find(t.added_ids.begin(), t.added_ids.end(), id) != t.added_ids.end();
    return listed || t.types[id] == kControl || t.types[id] == kUserDefined;
}

// Special ones are found in text before it is normalised, others after: as models/tokenizer_json.cpp reads them.
ordered_json added_tokens(const TokenizerData& t) {
    ordered_json list = ordered_json::array();
    for (size_t id = 0; id < t.tokens.size(); ++id) {
        if (!is_added(t, id)) continue;
        bool special = t.types[id] != kUserDefined;
        list.push_back({{"id", id},
                        {"content", t.tokens[id]},
                        {"single_word", false},
                        {"lstrip", false},
                        {"rstrip", false},
                        {"normalized", !special},
                        {"special", special}});
    }
    return list;
}

// Added tokens are in the vocabulary too: readers number those that are not, by their order.
ordered_json model(const TokenizerData& t) {
    ordered_json vocab = ordered_json::object(), merges = ordered_json::array();
    auto& pieces = vocab.get_ref<ordered_json::object_t&>();
    for (size_t id = 0; id < t.tokens.size(); ++id) {
        if (t.types[id] != kUnused) pieces.emplace_back(t.tokens[id], id);  // pieces differ: no search for each
    }
    for (const std::string& merge : t.merges) {
        size_t space = merge.find(' ');
        merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
    }
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", t.pre == "llama-bpe"},
            {"vocab", std::move(vocab)},
            {"merges", std::move(merges)}};
}

ordered_json byte_level(bool adds_space, bool own_pattern = true) {
    return {
        {"type", "ByteLevel"}, {"add_prefix_space", adds_space}, {"trim_offsets", true}, {"use_regex", own_pattern}};
}

ordered_json pre_tokenizer(const TokenizerData& t) {
    if (t.pre != "llama-bpe") return byte_level(t.add_space_prefix);
    ordered_json pattern = {{"Regex", kLlama3Pattern}};
    ordered_json split = {
        {"type", "Split"}, {"pattern", std::move(pattern)}, {"behavior", "Isolated"}, {"invert", false}};
    return {{"type", "Sequence"}, {"pretokenizers", {std::move(split), byte_level(false, false)}}};
}

// What begins texts with the begin token, where there is one to begin them with.
ordered_json post_processor(const TokenizerData& t) {
    if (!t.add_bos || t.bos < 0) return byte_level(false);
    const std::string& bos = t.tokens[static_cast<size_t>(t.bos)];
    auto sequence = [](const char* id, int type) {
        return ordered_json{{"Sequence", {{"id", id}, {"type_id", type}}}};
    };
    ordered_json begin = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    ordered_json special = {{bos, {{"id", bos}, {"ids", {t.bos}}, {"tokens", {bos}}}}};
    return {{"type", "TemplateProcessing"},
            {"single", {begin, sequence("A", 0)}},
            {"pair", {begin, sequence("A", 0), sequence("B", 1)}},
            {"special_tokens", std::move(special)}};
}

}  // namespace

std::string export_tokenizer_json(const TokenizerData& given) {
    TokenizerData t = given;
    t.types.resize(t.tokens.size(), 1);
    bool normalised = t.pre == "gpt-neox";
    ordered_json j = {{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", added_tokens(t)},
                      {"normalizer", normalised ? ordered_json{{"type", "NFC"}} : ordered_json()},
                      {"pre_tokenizer", pre_tokenizer(t)},
                      {"post_processor", post_processor(t)},
                      {"decoder", byte_level(true)},
                      {"model", model(t)}};
    return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace samba
