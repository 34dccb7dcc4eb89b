// From a Hugging Face directory to a model file and back, on a tiny checkpoint made here.
#include "models/convert.h"

#include <sys/resource.h>

#include <csignal>

#include "models/export_huggingface.h"
#include "models/file_type.h"
#include "models/gguf.h"
#include "models/model_file.h"
#include "models/quantize.h"
#include "models/quote.h"
#include "tests/models/error_of.h"
#include "tests/models/tiny_checkpoint.h"
#include "tests/models/tiny_tokenizer.h"

using namespace samba;

namespace {

struct Place {
    TemporaryDirectory dir;
    TinyCheckpoint checkpoint;
    ConvertOptions options;

    explicit Place(DType type = DType::kBF16) : checkpoint(type) {
        options.checkpoint = dir.path("checkpoint");
        options.output = dir.path("model.gguf");
        options.force = true;
        options.threads = 2;
        options.chat_template = "samba";
    }
    ConvertReport convert() {
        checkpoint.write(options.checkpoint);
        if (!std::filesystem::exists(options.checkpoint + "/tokenizer.model")) {
            write_bytes(options.checkpoint + "/tokenizer.model", TinyTokenizer().bytes());
        }
        return convert_checkpoint(options);
    }
    ModelFile load() {
        convert();
        return load_model_file(options.output);
    }
    template <class E>
    std::string error() {
        return error_of<E>([&] { convert(); });
    }
};

std::vector<float> values_of(const Tensor& t) {
    std::vector<float> x(static_cast<size_t>(t.rows * t.cols));
    for (int64_t r = 0; r < t.rows; ++r) dequantize_row(t.type, t.row(r), x.data() + r * t.cols, t.cols);
    return x;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("convert keeps every value, its shape and what the config says") {
    Place p;
    ConvertReport report = p.convert();
    ModelFile file = load_model_file(p.options.output);
    CHECK(report.kind == "flash-linear-attention samba");
    CHECK(report.type == "bf16");  // the checkpoint's own
    CHECK(report.name == "checkpoint");
    CHECK(report.content_hash == content_hash(file));
    CHECK(report.bytes == std::filesystem::file_size(p.options.output));
    CHECK(file.config.name == "checkpoint");
    CHECK(file.weight_type == DType::kBF16);
    const std::pair<const char*, const char*> same[] = {
        {"token_embd.weight", "backbone.embeddings.weight"},
        {"blk.0.ssm_conv1d.weight", "backbone.layers.0.mixer.conv1d.weight"},
        {"blk.0.ssm_dt.bias", "backbone.layers.0.mixer.dt_proj.bias"},
        {"blk.0.ssm_a_log", "backbone.layers.0.mixer.A_log"},
        {"blk.1.attn_output.weight", "backbone.layers.1.mixer.o_proj.weight"},
        {"blk.1.ffn_down.weight", "backbone.layers.1.mlp.down_proj.weight"}};
    for (const auto& [gguf, hf] : same) {
        INFO(gguf);
        REQUIRE(file.find(gguf));
        CHECK(values_of(*file.find(gguf)) == values_of(p.checkpoint.tensors[hf]));
    }
    auto a = values_of(*file.find("blk.0.ssm_a")),
         a_log = values_of(p.checkpoint.tensors["backbone.layers.0.mixer.A_log"]);
    for (size_t i = 0; i < a.size(); ++i) REQUIRE(a[i] == -static_cast<float>(std::exp(static_cast<double>(a_log[i]))));
}

TEST_CASE("convert reads the tokenizer and the template") {
    Place p;
    ModelFile file = p.load();
    const TokenizerData& t = file.tokenizer;
    CHECK(t.kind == "llama");
    CHECK(t.sentencepiece_model == TinyTokenizer().bytes());
    CHECK(t.tokens[12] == "ab");
    CHECK(t.scores[12] == -0.5f);
    CHECK(t.types[6] == 3);
    CHECK(t.bos == 1);
    CHECK(t.eos == 2);
    CHECK(t.unk == 0);
    CHECK(t.eot == 6);
    CHECK(t.add_bos);
    CHECK(t.end_ids == std::vector<uint32_t>{6, 2});
    CHECK(nlohmann::json::parse(file.chat_template)["name"] == "samba");
}

TEST_CASE("every --type gives a file that loads, with rows that do not fit in blocks falling back") {
    Place p;
    for (const std::string& type : file_types()) {
        INFO(type);
        p.options.type = type;
        ModelFile file = p.load();
        bool quantized = type[0] == 'q', k = quantized && type != "q8_0" && type != "q4_0";
        CHECK(file.find("blk.0.ssm_a")->type == DType::kF32);
        CHECK(file.find("blk.0.attn_norm.weight")->type == DType::kF32);
        if (quantized) {
            CHECK_FALSE(file.find("blk.0.ssm_a_log"));
            CHECK(file.find("blk.0.ssm_dt.weight")->type == DType::kBF16);  // the source's
        } else {
            CHECK(file.find("blk.0.ssm_dt.weight")->type == parse_dtype(type));
        }
        if (k) CHECK(file.find("blk.0.ssm_in.weight")->type == DType::kQ8_0);                 // rows of 64
        if (type == "q5_k") CHECK(file.find("blk.1.ffn_down.weight")->type == DType::kQ5_K);  // rows of 256
        CHECK(file.tokenizer.tokens.size() == 16);
    }
}

TEST_CASE("q4_k_m is 4 bits, and 6 where they buy most") {
    const FileType& mix = file_type("Q4_K_M");
    auto type = [&](const char* name, int64_t cols) { return tensor_type(mix, name, cols, DType::kBF16); };
    CHECK(type("blk.3.ffn_down.weight", 1536) == DType::kQ4_K);
    CHECK(type("blk.3.attn_q.weight", 512) == DType::kQ4_K);
    CHECK(type("blk.13.attn_v.weight", 512) == DType::kQ6_K);
    CHECK(type("blk.3.attn_output.weight", 512) == DType::kQ6_K);
    CHECK(type("token_embd.weight", 512) == DType::kQ6_K);
    CHECK(type("output.weight", 512) == DType::kQ6_K);
    CHECK(type("output.weight", 96) == DType::kQ8_0);
    CHECK(type("output.weight", 100) == DType::kBF16);
    CHECK(type("blk.0.ssm_dt.weight", 256) == DType::kBF16);
}

TEST_CASE("--set writes known keys in their types, and nothing else") {
    Place p;
    p.options.set = {
        {"general.license", "MIT"},       {"samba.recall_length", "2048"},           {"general.sampling.temp", "0.7"},
        {"samba.end_token_ids", "6,2,1"}, {"tokenizer.ggml.add_bos_token", "false"}, {"samba.summary_method", "quote"},
        {"general.name", "Tiny"}};
    ModelFile file = p.load();
    CHECK(file.recall_length == 2048);
    CHECK(file.sampling.temp == 0.7f);
    CHECK(file.tokenizer.end_ids == std::vector<uint32_t>{6, 2, 1});
    CHECK_FALSE(file.tokenizer.add_bos);
    CHECK(file.summary_method == "quote");
    CHECK(file.config.name == "Tiny");
    auto refused = [&](const char* key, const char* value) {
        p.options.set = {{key, value}};
        return p.error<UsageError>();
    };
    CHECK(has(refused("samba.vocab_size", "3"), "unknown key \"samba.vocab_size\"; known: general.name"));
    for (const auto& [key, value] : {std::pair{"samba.recall_length", "-1"},
                                     {"samba.recall_length", "1e3"},
                                     {"general.sampling.temp", "nan"},
                                     {"samba.end_token_ids", "6,"},
                                     {"tokenizer.ggml.add_bos_token", "yes"},
                                     {"samba.summary_method", "guess"}}) {
        INFO(key << "=" << value);
        CHECK(has(refused(key, value), "expected"));
    }
}

TEST_CASE("convert refuses what it cannot do, and leaves nothing behind") {
    Place p;
    auto nothing_left = [&] {
        size_t files = 0;
        for (const auto& entry : std::filesystem::directory_iterator(p.dir.path())) files += entry.is_regular_file();
        return files == 0;
    };
    SECTION("a type that is none") {
        p.options.type = "q3_k";
        CHECK(has(p.error<UsageError>(), "unknown type \"q3_k\"; known: f32, f16"));
    }
    SECTION("a template that is none") {
        p.options.chat_template = "vicuna";
        CHECK(has(p.error<UsageError>(), "unknown chat template \"vicuna\"; known:"));
    }
    SECTION("a template whose tokens the tokenizer lacks") {
        TinyTokenizer tokenizer;
        tokenizer.pieces[6].text = "<|fin|>";
        p.checkpoint.write(p.options.checkpoint);
        write_bytes(p.options.checkpoint + "/tokenizer.model", tokenizer.bytes());
        CHECK(has(p.error<FileError>(), "uses the token \"<|end|>\", which the tokenizer lacks"));
    }
    SECTION("a tokenizer of another size") {
        TinyTokenizer tokenizer;
        tokenizer.pieces.resize(15);
        tokenizer.pieces.resize(7);
        p.checkpoint.write(p.options.checkpoint);
        write_bytes(p.options.checkpoint + "/tokenizer.model", tokenizer.bytes());
        CHECK(has(p.error<FileError>(), "its 7 pieces do not fit the embedding, which has 16 rows"));
        tokenizer.pieces.resize(17, {"x", 0, 1});
        write_bytes(p.options.checkpoint + "/tokenizer.model", tokenizer.bytes());
        CHECK(has(p.error<FileError>(), "its 17 pieces do not fit"));
    }
    SECTION("no tokenizer") {
        p.checkpoint.write(p.options.checkpoint);
        CHECK(has(error_of<FileError>([&] { convert_checkpoint(p.options); }),
                  "has no tokenizer.model or tokenizer.json: name one with --tokenizer"));
    }
    SECTION("no such directory") {
        p.options.checkpoint = p.dir.path("missing");
        CHECK(has(error_of<FileError>([&] { convert_checkpoint(p.options); }), in_quotes(p.options.checkpoint)));
    }
    SECTION("a value that is not finite") {
        auto& t = p.checkpoint.tensors["backbone.layers.1.mixer.k_proj.weight"];
        uint16_t nan = 0x7fc0;
        std::memcpy(t.bytes.data() + 2 * (64 * 3 + 5), &nan, 2);
        CHECK(has(p.error<FileError>(),
                  "tensor \"backbone.layers.1.mixer.k_proj.weight\", row 3: the value nan is not finite"));
    }
    SECTION("a value beyond F16") {
        p.options.type = "f16";
        auto& t = p.checkpoint.tensors["backbone.embeddings.weight"];
        uint16_t big = f32_to_bf16(70000.0f);
        std::memcpy(t.bytes.data(), &big, 2);
        CHECK(has(p.error<FileError>(), "is beyond F16 (use bf16 or f32)"));
    }
    SECTION("interrupted") {
        std::atomic<bool> cancel{false};
        p.options.cancel = &cancel;
        size_t seen = 0;
        p.options.progress = [&](const std::string&, uint64_t, uint64_t) { cancel = ++seen == 5; };
        p.error<Cancelled>();
        CHECK(seen == 5);
    }
    SECTION("a full disk") {  // a limit on the size of files stands for it
        rlimit before, small;
        ::getrlimit(RLIMIT_FSIZE, &before);
        auto handler = ::signal(SIGXFSZ, SIG_IGN);
        p.checkpoint.write(p.options.checkpoint);
        write_bytes(p.options.checkpoint + "/tokenizer.model", TinyTokenizer().bytes());
        small = {20000, before.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &small);
        std::string message = error_of<FileError>([&] { convert_checkpoint(p.options); });
        ::setrlimit(RLIMIT_FSIZE, &before);
        ::signal(SIGXFSZ, handler);
        CHECK(has(message, "cannot write"));
    }
    CHECK(nothing_left());
}

TEST_CASE("convert without a tokenizer makes a file without one") {
    Place p;
    p.options.no_tokenizer = true;
    p.options.chat_template = "";
    ModelFile file = p.load();
    CHECK(file.tokenizer.kind.empty());
    CHECK(file.chat_template.empty());
}

TEST_CASE("added tokens get the rows after the pieces, a padded embedding is no mistake") {
    Place p;
    p.checkpoint.write(p.options.checkpoint);
    p.checkpoint.config["vocab_size"] = 24;
    p.checkpoint.matrix("backbone.embeddings.weight", {24, 64});
    write_bytes(p.dir.path("checkpoint/added_tokens.json"), R"({"<|tool|>": 18, "ab": 12})");
    write_bytes(
        p.dir.path("checkpoint/tokenizer_config.json"),
        R"({"add_bos_token": false, "added_tokens_decoder": {"16": {"content": "<|x|>", "special": true}, "0": {"content": "<unk>"}},
                    "chat_template": "{% for m in messages %}<|user|>{{ m }}<|end|><|assistant|>"})");
    p.options.chat_template = "";
    ConvertReport report = p.convert();
    ModelFile file = load_model_file(p.options.output);
    CHECK(report.chat_template == "samba");  // recognised
    CHECK(file.tokenizer.tokens.size() == 19);
    CHECK(file.tokenizer.tokens[16] == "<|x|>");
    CHECK(file.tokenizer.types[17] == 5);  // a gap
    CHECK(file.tokenizer.tokens[18] == "<|tool|>");
    CHECK(file.tokenizer.added_ids == std::vector<uint32_t>{16, 18});
    CHECK_FALSE(file.tokenizer.add_bos);
}

TEST_CASE("quantize goes down and up: values within the type's error, metadata kept") {
    Place p;
    p.options.set = {{"samba.recall_length", "77"}};
    p.convert();
    auto quantize = [&](const std::string& from, const std::string& to, const std::string& type) {
        QuantizeOptions o;
        o.input = from;
        o.output = to;
        o.type = type;
        o.force = true;
        o.threads = 2;
        return quantize_model(o);
    };
    std::string small = p.dir.path("small.gguf"), wide = p.dir.path("wide.gguf");
    QuantizeReport down = quantize(p.options.output, small, "q4_k");
    CHECK(down.bytes_after == std::filesystem::file_size(small));
    CHECK(down.bytes_before == std::filesystem::file_size(p.options.output));
    CHECK(down.relative_error > 0.001);
    CHECK(down.relative_error < 0.08);
    for (const TensorReport& t : down.tensors) CHECK((t.relative_error > 0) == (t.from != t.to));
    quantize(small, wide, "f32");
    ModelFile a = load_model_file(small), b = load_model_file(wide);
    CHECK(a.recall_length == 77);
    CHECK(b.recall_length == 77);
    CHECK(b.file_type == "F32");
    CHECK(a.config.blocks == b.config.blocks);
    CHECK(a.tokenizer.sentencepiece_model == b.tokenizer.sentencepiece_model);
    for (const auto& [name, t] : a.tensors) {
        INFO(name);
        CHECK(b.find(name)->type == DType::kF32);
        CHECK(values_of(t) == values_of(*b.find(name)));  // going up to F32 keeps every value
    }
    QuantizeReport again = quantize(wide, p.dir.path("again.gguf"), "q8_0");
    CHECK(again.content_hash != down.content_hash);
    CHECK_THROWS_AS(quantize(p.dir.path("checkpoint/config.json"), small, "q8_0"), FileError);
}

TEST_CASE("the way back to Hugging Face is exact to the bit") {
    for (DType type : {DType::kBF16, DType::kF16, DType::kF32}) {
        INFO(info(type).name);
        Place p(type);
        p.options.type = GENERATE("", "f32");  // a wider file remembers what the checkpoint had
        p.checkpoint.config["tie_word_embeddings"] = false;
        p.checkpoint.matrix("lm_head.weight", {16, 64});
        p.checkpoint.config["attn"]["qkv_bias"] = true;
        p.checkpoint.vector("backbone.layers.1.mixer.q_proj.bias", 64);
        for (const char* name : {"k", "v"})
            p.checkpoint.vector("backbone.layers.1.mixer." + std::string(name) + "_proj.bias", 32);
        p.convert();
        ExportOptions o;
        o.input = p.options.output;
        o.output = p.dir.path("back");
        ExportReport report = export_huggingface(o);
        CHECK(report.kind == "samba");
        auto back = read_safetensors(p.dir.path("back/model.safetensors"));
        REQUIRE(back.size() == p.checkpoint.tensors.size());
        for (const auto& [name, t] : p.checkpoint.tensors) {
            INFO(name);
            REQUIRE(back.count(name));
            CHECK(back[name].dtype == t.dtype);
            CHECK(back[name].shape == t.shape);
            CHECK(back[name].bytes == t.bytes);
        }
        auto config = nlohmann::json::parse(read_bytes(p.dir.path("back/config.json")));
        for (const auto& [key, value] : p.checkpoint.config.items()) {
            INFO(key);
            if (key != "attn") CHECK(config[key] == value);
        }
        for (const auto& [key, value] : p.checkpoint.config["attn"].items()) CHECK(config["attn"][key] == value);
        CHECK(read_bytes(p.dir.path("back/tokenizer.model")) == TinyTokenizer().bytes());
        CHECK_THROWS_AS(export_huggingface(o), UsageError);  // the files are there already

        ConvertOptions again = p.options;  // and the directory converts to the same tensors
        again.checkpoint = p.dir.path("back");
        again.output = p.dir.path("again.gguf");
        CHECK(convert_checkpoint(again).content_hash == load_model_file(p.options.output).content_hash);
    }
}

TEST_CASE("layers that differ in rope_theta keep theirs, there and back") {
    Place p;
    p.checkpoint.config["num_hidden_layers"] = 3;
    p.checkpoint.attention(2, 64, 64);
    p.checkpoint.mlp(2);
    auto second = p.checkpoint.config["attn"];
    second["layers"] = nlohmann::json::array({2});
    second["num_kv_heads"] = 2;
    second["rope_theta"] = 500000.0;
    p.checkpoint.config["attn"] = nlohmann::json::array({p.checkpoint.config["attn"], second});
    Config config = p.load().config;
    CHECK(config.rope_theta == 10000.0);
    CHECK(config.blocks[1].rope_theta == 0);
    CHECK(config.blocks[2].rope_theta == 500000.0);
    GgufMetadata metadata = Gguf::open(p.options.output).metadata;
    REQUIRE(metadata.floats("samba.rope.freq_base"));
    CHECK(*metadata.floats("samba.rope.freq_base") == std::vector<float>{0, 10000, 500000});

    ExportOptions o;
    o.input = p.options.output;
    o.output = p.dir.path("back");
    export_huggingface(o);
    auto attn = nlohmann::json::parse(read_bytes(o.output + "/config.json"))["attn"];
    REQUIRE(attn.size() == 2);
    CHECK(attn[0]["rope_theta"] == 10000.0);
    CHECK(attn[1]["rope_theta"] == 500000.0);
    CHECK(attn[1]["layers"] == nlohmann::json::array({2}));
}

TEST_CASE("a quantised file goes back with its values exact in f32, and says what is lost") {
    Place p;
    p.options.type = "q8_0";
    ModelFile file = p.load();
    ExportOptions o;
    o.input = p.options.output;
    o.output = p.dir.path("back");
    ExportReport report = export_huggingface(o);
    REQUIRE(report.notes.size() == 1);
    CHECK(has(report.notes[0], "A_log"));
    auto back = read_safetensors(p.dir.path("back/model.safetensors"));
    CHECK(values_of(back["backbone.layers.0.mixer.in_proj.weight"]) == values_of(*file.find("blk.0.ssm_in.weight")));
    auto got = values_of(back["backbone.layers.0.mixer.A_log"]),
         want = values_of(p.checkpoint.tensors["backbone.layers.0.mixer.A_log"]);
    for (size_t i = 0; i < want.size(); ++i) REQUIRE(std::fabs(got[i] - want[i]) <= 1e-7);
}
