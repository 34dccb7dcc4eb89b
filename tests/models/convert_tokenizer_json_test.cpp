// A directory with Hugging Face's tokenizer.json: what convert writes of it and of the files beside, and the way back.
#include <nlohmann/json.hpp>

#include "models/convert.h"
#include "models/export_huggingface.h"
#include "models/gguf.h"
#include "models/json_text.h"
#include "models/model_file.h"
#include "models/tokenizer_json.h"
#include "tests/models/error_of.h"
#include "tests/models/tiny_checkpoint.h"
#include "tests/models/tiny_tokenizer.h"

using namespace samba;
using nlohmann::json;

namespace {

std::string fixture(const std::string& kind) {
    return read_text_file(std::string(SAMBA_SOURCE_DIR) + "/tests/engine/fixtures/bpe_" + kind + ".json");
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Place {
    TemporaryDirectory dir;
    TinyCheckpoint checkpoint;
    ConvertOptions options;
    std::map<std::string, std::string> files;  // of the directory, beside config and tensors

    explicit Place(const std::string& kind, int64_t rows = 1024) {
        options.checkpoint = dir.path("checkpoint");
        options.output = dir.path("model.gguf");
        options.force = true;
        options.threads = 2;
        checkpoint.config["vocab_size"] = rows;
        checkpoint.config["bos_token_id"] = nullptr;
        checkpoint.config["eos_token_id"] = 0;
        checkpoint.matrix("backbone.embeddings.weight", {rows, 64});
        files["tokenizer.json"] = fixture(kind);
    }
    ConvertReport convert() {
        checkpoint.write(options.checkpoint);
        for (const auto& [name, text] : files) write_bytes(options.checkpoint + "/" + name, text);
        return convert_checkpoint(options);
    }
    ModelFile load() {
        convert();
        return load_model_file(options.output);
    }
    std::string error() {
        return error_of<FileError>([&] { convert(); });
    }
};

}  // namespace

TEST_CASE("convert writes the tokenizer of a tokenizer.json") {
    for (const auto& [kind, pre] : {std::pair{"gpt2", "gpt-2"}, {"neox", "gpt-neox"}, {"llama", "llama-bpe"}}) {
        INFO(kind);
        Place p(kind);
        TokenizerData t = p.load().tokenizer, expected = read_tokenizer_json(fixture(kind), kind);
        CHECK(t.kind == "gpt2");
        CHECK(t.pre == pre);
        CHECK(t.tokens == expected.tokens);
        CHECK(t.types == expected.types);
        CHECK(t.merges == expected.merges);
        CHECK(t.added_ids == expected.added_ids);
        CHECK(t.scores.empty());
        CHECK(t.sentencepiece_model.empty());
        CHECK(t.bos == (t.pre == "llama-bpe" ? 0 : -1));
        CHECK(t.eos == 0);
        CHECK(t.unk == -1);
        CHECK(t.end_ids == std::vector<uint32_t>{0});
        CHECK(t.add_bos == (t.pre == "llama-bpe"));
        CHECK_FALSE(t.add_space_prefix);
    }
}

TEST_CASE("convert takes tokenizer.model where both are there, and --tokenizer before either") {
    Place p("gpt2", 16);
    p.files["tokenizer.model"] = TinyTokenizer().bytes();
    CHECK(p.load().tokenizer.kind == "llama");
    p.checkpoint.config["vocab_size"] = 1024;
    p.checkpoint.matrix("backbone.embeddings.weight", {1024, 64});
    p.options.tokenizer = p.options.checkpoint + "/tokenizer.json";
    CHECK(p.load().tokenizer.kind == "gpt2");
    p.options.tokenizer = "";
    p.options.no_tokenizer = true;
    CHECK(p.load().tokenizer.kind.empty());
}

TEST_CASE("end tokens come from config.json, generation_config.json and tokenizer_config.json, each once") {
    Place p("neox");
    p.checkpoint.config["eos_token_id"] = {5, 7, 5000};  // 5000 is no row
    p.files["generation_config.json"] = R"({"eos_token_id": [7, 9], "bos_token_id": 1})";
    p.files["tokenizer_config.json"] = R"({"eos_token": {"content": "<|endoftext|>"}, "bos_token": "<|padding|>"})";
    TokenizerData t = p.load().tokenizer;
    CHECK(t.eos == 5);
    CHECK(t.end_ids == std::vector<uint32_t>{5, 7, 9, 0});
    CHECK(t.bos == 1);  // by its name
    CHECK_FALSE(t.add_bos);

    p.checkpoint.config["eos_token_id"] = nullptr;
    p.files["generation_config.json"] = R"({"eos_token_id": 11})";
    p.files["tokenizer_config.json"] = R"({"add_bos_token": true, "bos_token": "<|padding|>"})";
    t = p.load().tokenizer;
    CHECK(t.eos == 11);
    CHECK(t.end_ids == std::vector<uint32_t>{11});
    CHECK(t.add_bos);

    p.files["generation_config.json"] = "{}";
    ConvertReport report = p.convert();
    REQUIRE(report.notes.size() == 2);  // no template, no end
    CHECK(has(report.notes.back(), "names no end token"));
    p.files["generation_config.json"] = R"({"eos_token_id": ["</s>"]})";
    CHECK(has(p.error(), "generation_config.json\": \"eos_token_id\": expected token ids, found \"\\\"</s>\\\"\""));
}

TEST_CASE("a post-processor's begin token begins texts, whatever config.json says") {
    Place p("neox");
    json root = json::parse(fixture("neox"));
    root["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken":
        {"id": "<|padding|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}})");
    p.files["tokenizer.json"] = root.dump();
    p.checkpoint.config["bos_token_id"] = 7;
    TokenizerData t = p.load().tokenizer;
    CHECK(t.bos == 1);
    CHECK(t.add_bos);
}

TEST_CASE("more rows than pieces are padding, more pieces than rows another model's tokenizer") {
    Place p("gpt2", 1200);
    int64_t pieces = static_cast<int64_t>(read_tokenizer_json(fixture("gpt2"), "x").tokens.size());
    ConvertReport report = p.convert();
    CHECK(load_model_file(p.options.output).tokenizer.tokens.size() == static_cast<size_t>(pieces));
    CHECK(has(report.notes[0], "the embedding 1200 rows: the last are taken as padding"));
    p.checkpoint.config["vocab_size"] = pieces - 1;
    p.checkpoint.matrix("backbone.embeddings.weight", {pieces - 1, 64});
    CHECK(has(p.error(), "do not fit the embedding, which has " + std::to_string(pieces - 1) + " rows"));
}

TEST_CASE("a tokenizer.json of another kind is refused by name, and leaves nothing behind") {
    Place p("gpt2");
    json root = json::parse(fixture("gpt2"));
    auto refused = [&](const char* pointer, const json& value) {
        json changed = root;
        changed[json::json_pointer(pointer)] = value;
        p.files["tokenizer.json"] = changed.dump();
        std::string message = p.error();
        CHECK_FALSE(std::filesystem::exists(p.options.output));
        return message;
    };
    CHECK(has(refused("/model/type", "Unigram"), "expected a model of type \"BPE\""));
    CHECK(has(refused("/model/type", "WordPiece"), "found type \"WordPiece\""));
    CHECK(has(refused("/pre_tokenizer", {{"type", "Metaspace"}}), "pre_tokenizer: expected ByteLevel"));
    CHECK(has(refused("/normalizer", {{"type", "NFKC"}}), "normalizer: expected none or NFC"));
    CHECK(has(refused("/model/byte_fallback", true), "whose tokenizer.model is needed"));
}

TEST_CASE("the way back writes a tokenizer.json that converts to the same tokenizer") {
    for (const char* kind : {"gpt2", "neox", "llama"}) {
        for (bool begins : {false, true}) {
            CAPTURE(kind, begins);
            Place p(kind);
            p.checkpoint.config["eos_token_id"] = {0, 3};
            p.checkpoint.config["bos_token_id"] = 0;
            p.files["tokenizer_config.json"] = json{{"add_bos_token", begins}}.dump();
            TokenizerData before = p.load().tokenizer;
            CHECK(before.add_bos == begins);
            ExportOptions o;
            o.input = p.options.output;
            o.output = p.dir.path("back");
            export_huggingface(o);
            CHECK_FALSE(std::filesystem::exists(o.output + "/tokenizer.model"));
            CHECK(json::parse(read_bytes(o.output + "/generation_config.json"))["eos_token_id"] == json({0, 3}));
            CHECK(read_tokenizer_json(read_bytes(o.output + "/tokenizer.json"), "back").add_bos == begins);
            p.options.checkpoint = o.output;
            p.options.output = p.dir.path("again.gguf");
            convert_checkpoint(p.options);
            TokenizerData after = load_model_file(p.options.output).tokenizer;
            CHECK(after.tokens == before.tokens);
            CHECK(after.types == before.types);
            CHECK(after.merges == before.merges);
            CHECK(after.pre == before.pre);
            CHECK(after.bos == before.bos);
            CHECK(after.eos == before.eos);
            CHECK(after.add_bos == before.add_bos);
            CHECK(after.add_space_prefix == before.add_space_prefix);
            CHECK(after.end_ids == before.end_ids);
            CHECK(after.added_ids == before.added_ids);
        }
    }
}
