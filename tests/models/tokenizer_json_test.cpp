// tokenizer.json: what is read, and that whatever would give other ids is refused.
#include "models/tokenizer_json.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

using namespace samba;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

json example() {
    return json::parse(R"({
      "version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [
        {"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 6, "content": "  ", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}],
      "normalizer": {"type": "NFC"},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
      "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false,
        "vocab": {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3, "aba": 4}, "merges": ["a b", "ab a"]}})");
}

TokenizerData read(const json& root) { return read_tokenizer_json(root.dump(), "tokenizer.json"); }

struct Change {
    const char* pointer;
    json value;
    const char* message;
};

}  // namespace

TEST_CASE("tokenizer.json gives pieces, types, merges and rules") {
    TokenizerData t = read(example());
    CHECK(t.kind == "gpt2");
    CHECK(t.pre == "gpt-neox");
    CHECK_FALSE(t.add_space_prefix);
    CHECK(t.tokens == std::vector<std::string>{"<|endoftext|>", "a", "b", "ab", "aba", "[PAD5]", "  "});
    CHECK(t.types == std::vector<int32_t>{3, 1, 1, 1, 1, 5, 4});
    CHECK(t.merges == std::vector<std::string>{"a b", "ab a"});
    CHECK(t.added_ids == std::vector<uint32_t>{0});
    CHECK(t.bos == -1);
    CHECK_FALSE(t.add_bos);
}

TEST_CASE("tokenizer.json: older and newer spellings are the same") {
    json root = example();
    root["model"].erase("type");
    root["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "a"]])");
    root["normalizer"] = nullptr;
    TokenizerData t = read(root);
    CHECK(t.merges == std::vector<std::string>{"a b", "ab a"});
    CHECK(t.pre == "gpt-2");
}

TEST_CASE("tokenizer.json: a post-processor that begins texts gives the begin token") {
    json root = example();
    root["post_processor"] =
        json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>",
        "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}})");
    TokenizerData t = read(root);
    CHECK(t.bos == 0);
    CHECK(t.add_bos);
}

TEST_CASE("tokenizer.json: Llama 3's pattern, with all that goes with it") {
    json root = example();
    root["normalizer"] = nullptr;
    root["model"]["ignore_merges"] = true;
    root["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", kLlama3Pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
    root["post_processor"] = json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}]})");
    TokenizerData t = read(root);
    CHECK(t.pre == "llama-bpe");
    CHECK_FALSE(t.add_space_prefix);
    CHECK(t.bos == 0);
    CHECK(t.add_bos);
    const Change changes[] = {
        {"/model/ignore_merges", false, "model.ignore_merges: expected true beside Llama 3's pattern"},
        {"/normalizer", {{"type", "NFC"}}, "normalizer: expected none beside Llama 3's pattern"},
        {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\s+", "pre_tokenizer: expected ByteLevel with its own"},
        {"/pre_tokenizer/pretokenizers/0/behavior", "Removed", "pre_tokenizer: expected ByteLevel with its own"},
        {"/pre_tokenizer/pretokenizers/0/invert", true, "pre_tokenizer: expected ByteLevel with its own"},
        {"/pre_tokenizer/pretokenizers/1/use_regex", true, "pre_tokenizer: expected ByteLevel with its own"},
        {"/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "pre_tokenizer: expected ByteLevel with its own"},
    };
    for (const Change& change : changes) {
        json other = root;
        other[json::json_pointer(change.pointer)] = change.value;
        CAPTURE(change.pointer);
        CHECK_THROWS_WITH(read(other), Contains(change.message) && !Contains("\n"));
    }
}

TEST_CASE("tokenizer.json: what is not known is refused in one line") {
    const Change changes[] = {
        {"/model/type", "WordPiece", "expected a model of type \"BPE\""},
        {"/model/type", "Unigram", "expected a model of type \"BPE\""},
        {"/model/vocab", json::array(), "expected a model of type \"BPE\""},
        {"/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix: expected none"},
        {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix: expected none"},
        {"/model/dropout", 0.1, "model.dropout: expected none"},
        {"/model/ignore_merges", true, "model.ignore_merges: expected false, found \"true\""},
        {"/model/byte_fallback", true, "model.byte_fallback: expected false"},
        {"/model/byte_fallback", 1, "model.byte_fallback: expected true or false"},
        {"/model/vocab/a", -1, "the id of \"a\": expected a number from 0"},
        {"/model/vocab/a", 1 << 30, "the id of \"a\": expected a number from 0"},
        {"/model/vocab/a", "1", "the id of \"a\": expected a number from 0"},
        {"/model/vocab/a", 2, "belongs to both"},
        {"/model/merges/0", "a c", "model.merges[0]: expected two pieces"},
        {"/model/merges/1", "b a", "model.merges[1]: expected two pieces"},
        {"/model/merges/0", 7, "model.merges[0]: expected two pieces"},
        {"/normalizer", {{"type", "Lowercase"}}, "normalizer: expected none or NFC"},
        {"/pre_tokenizer", {{"type", "Metaspace"}}, "pre_tokenizer: expected ByteLevel"},
        {"/pre_tokenizer/use_regex", false, "pre_tokenizer: expected ByteLevel with its own pattern"},
        {"/pre_tokenizer", nullptr, "pre_tokenizer: expected ByteLevel"},
        {"/decoder", {{"type", "WordPiece"}}, "decoder: expected ByteLevel"},
        {"/post_processor", {{"type", "BertProcessing"}}, "post_processor: expected ByteLevel"},
        {"/added_tokens/0/id", 1, "belongs to both"},
        {"/added_tokens/0/content", "", "added_tokens: expected tokens with a content"},
        {"/added_tokens/1/lstrip", true, "expected lstrip false"},
        {"/added_tokens/1/single_word", true, "expected single_word false"},
        {"/added_tokens/1/normalized", false, "normalized true beside a normalizer"},
        {"/added_tokens", 1, "added_tokens: expected a list"},
    };
    for (const Change& change : changes) {
        json root = example();
        root[json::json_pointer(change.pointer)] = change.value;
        CAPTURE(change.pointer, change.value.dump());
        CHECK_THROWS_AS(read(root), FileError);
        CHECK_THROWS_WITH(read(root), Contains("\"tokenizer.json\"") && Contains(change.message) && !Contains("\n"));
    }
    CHECK_THROWS_AS(read_tokenizer_json("[]", "x"), FileError);
    CHECK_THROWS_AS(read_tokenizer_json("{\"model\"", "x"), FileError);
    CHECK_THROWS_AS(read_tokenizer_json("null", "x"), FileError);
}
