// Model files: what a config says and what the tensors are must agree; each disagreement is one error that names it.
#include "models/model_file.h"

#include <functional>
#include <limits>

#include "models/gguf.h"
#include "models/model_metadata.h"
#include "tests/models/error_of.h"
#include "tests/models/files.h"

using namespace samba;

namespace {

// Mamba + MLP, attention + MLP, an MLP alone, a Mamba without MLP, full attention without rotation.
constexpr char kMixed[] =
    R"({"name": "mixed", "d_model": 64, "vocab_size": 40, "n_heads": 4, "n_kv_heads": 2, "window": 8, "d_ff": 100,
    "d_state": 8, "d_conv": 3, "dt_rank": 5, "tied": false, "n_blocks": 5,
    "pattern": ["mamba", "attention", {"mixer": "none", "d_ff": 512}, {"mixer": "mamba", "d_ff": 0},
                {"mixer": "attention", "n_heads": 2, "n_kv_heads": 1, "window": 0, "rope": false}]})";

// The mixers that are no plain Samba's.
constexpr char kOthers[] =
    R"({"name": "others", "d_model": 64, "vocab_size": 40, "n_heads": 4, "window": 8, "d_ff": 256, "d_inner": 64,
    "dt_rank": 2, "n_blocks": 4, "pattern": [{"mixer": "gla", "n_heads": 2, "gate_rank": 8},
    {"mixer": "retention", "n_heads": 2}, {"mixer": "mega", "z_dim": 16, "chunk": 12},
    {"mixer": "attention", "conv_width": 4}]})";

// A model as a file would hold it, before it is written: a test may spoil either half.
struct Draft {
    ModelFile model;
    GgufMetadata meta;
    std::vector<GgufTensor> table;

    explicit Draft(const char* preset = kMixed)
        : model(random_model(parse_preset(preset, "mixed"), DType::kF32, 1, nullptr)) {
        meta.set("general.architecture", std::string("samba"));
        write_config(model.config, meta);
        for (const auto& [name, t] : model.tensors) {
            GgufTensor g;
            g.name = name;
            g.type = t.type;
            g.dims = {static_cast<uint64_t>(t.cols)};
            if (t.rows > 1) g.dims.push_back(static_cast<uint64_t>(t.rows));
            g.bytes = t.bytes();
            table.push_back(g);
        }
    }
    GgufTensor& tensor(const std::string& name) {
        for (GgufTensor& t : table) {
            if (t.name == name) return t;
        }
        throw std::logic_error("no tensor " + name);
    }
    void remove(const std::string& name) {
        std::erase_if(table, [&](const GgufTensor& t) { return t.name == name; });
    }
    void add(const std::string& name, std::vector<uint64_t> dims) {
        GgufTensor t;
        t.name = name;
        t.dims = std::move(dims);
        table.push_back(t);
    }
    // The tensors' own bytes, or zeros where the table was changed.
    void write(const std::string& path) {
        GgufWriter writer(path, true, meta, table);
        for (const GgufTensor& t : table) {
            uint64_t values = 1;
            for (uint64_t d : t.dims) values *= d;
            std::string bytes(row_bytes(t.type, static_cast<int64_t>(values)), '\0');
            const Tensor* source = model.find(t.name);
            if (source && source->bytes() == bytes.size()) std::memcpy(bytes.data(), source->data, bytes.size());
            writer.write(bytes.data(), bytes.size());
        }
        writer.finish();
    }
};

struct Case {
    const char* what;
    std::function<void(Draft&)> spoil;
    const char* message;
};

using U32s = std::vector<uint32_t>;
using I32s = std::vector<int32_t>;
using Texts = std::vector<std::string>;

const Case kBroken[] = {
    {"another architecture", [](Draft& d) { d.meta.set("general.architecture", std::string("llama")); },
     "expected \"samba\", found \"llama\""},
    {"no architecture", [](Draft& d) { d.meta.remove("general.architecture"); }, "expected \"samba\", found \"\""},
    {"no width", [](Draft& d) { d.meta.remove("samba.embedding_length"); },
     "key \"samba.embedding_length\": is missing"},
    {"width 0", [](Draft& d) { d.meta.set("samba.embedding_length", 0u); }, "expected a positive number, found 0"},
    {"width as text", [](Draft& d) { d.meta.set("samba.embedding_length", std::string("64")); },
     "expected an integer, found string"},
    {"another width", [](Draft& d) { d.meta.set("samba.embedding_length", 128u); },
     "tensor \"token_embd.weight\": expected shape (rows, columns) (40, 128) as the metadata says, found (40, 64)"},
    {"absurd width", [](Draft& d) { d.meta.set("samba.embedding_length", 4000000000u); }, "found 4000000000"},
    {"negative width", [](Draft& d) { d.meta.set("samba.embedding_length", int32_t{-64}); }, "found -64"},
    {"no blocks", [](Draft& d) { d.meta.remove("samba.block_count"); }, "key \"samba.block_count\": is missing"},
    {"absurd blocks", [](Draft& d) { d.meta.set("samba.block_count", 1000000000u); },
     "1000000000 blocks, but the file has only"},
    {"another vocabulary", [](Draft& d) { d.meta.set("samba.vocab_size", 41u); },
     "expected shape (rows, columns) (41, 64)"},
    {"epsilon 0", [](Draft& d) { d.meta.set("samba.attention.layer_norm_rms_epsilon", 0.0f); },
     "expected a positive number"},
    {"epsilon NaN",
     [](Draft& d) { d.meta.set("samba.attention.layer_norm_rms_epsilon", std::numeric_limits<float>::quiet_NaN()); },
     "is not finite"},
    {"too few heads entries",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count", U32s{0, 4});
     },
     "expected 5 values, one a block, found 2"},
    {"no heads", [](Draft& d) { d.meta.remove("samba.attention.head_count"); }, "block 1 has no heads"},
    {"heads and kv heads",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count_kv", I32s{0, 3, 0, 0, 1});
     },
     "4 heads are not a multiple of 3 kv heads"},
    {"kv heads on a Mamba",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count_kv", I32s{2, 2, 0, 0, 1});
     },
     "block 0: expected 0, found 2"},
    {"no kv heads on an attention",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count_kv", I32s{0, 0, 0, 0, 1});
     },
     "block 1: expected a positive number, found 0"},
    {"other heads",
     [](Draft& d) {
         d.meta.set("samba.attention.key_length", 8u);
         d.meta.remove("samba.attention.value_length");
         d.meta.remove("samba.rope.dimension_count");
     },
     "tensor \"blk.1.attn_q.weight\": expected shape (rows, columns) (32, 64)"},
    {"values of another length", [](Draft& d) { d.meta.set("samba.attention.value_length", 12u); },
     "expected the key length 16, found 12"},
    {"odd rotation", [](Draft& d) { d.meta.set("samba.rope.dimension_count", 7u); },
     "expected an even number up to 16, found 7"},
    {"rotation wider than a head", [](Draft& d) { d.meta.set("samba.rope.dimension_count", 34u); }, "found 34"},
    {"mixer names that disagree",
     [](Draft& d) {
         d.meta.set("samba.block.mixer", Texts{"mamba", "mamba", "", "mamba", "attention"});
     },
     "block 1: expected \"attention\" (its tensors say so), found \"mamba\""},
    {"an unknown mixer",
     [](Draft& d) {
         d.meta.set("samba.block.mixer", Texts{"gla", "attention", "", "mamba", "attention"});
     },
     "found \"gla\""},
    {"mixer names missing", [](Draft& d) { d.meta.remove("samba.block.mixer"); }, "block 2 has no mixer"},
    {"too few mixer names", [](Draft& d) { d.meta.set("samba.block.mixer", Texts{"mamba"}); },
     "expected 5 names, one a block, found 1"},
    {"two mixers in a block",
     [](Draft& d) {
         d.add("blk.0.attn_q.weight", {64, 64});
     },
     "block 0 has the tensors of both"},
    {"MLP width without tensors",
     [](Draft& d) {
         d.meta.set("samba.feed_forward_length", U32s{256, 256, 512, 256, 256});
     },
     "block 3 has the width 256, but blk.3.ffn_gate.weight is missing"},
    {"MLP tensors without width",
     [](Draft& d) {
         d.meta.set("samba.feed_forward_length", U32s{0, 256, 512, 0, 256});
     },
     "blk.0.ffn_gate.weight is there"},
    {"true width above the padded",
     [](Draft& d) {
         d.meta.set("samba.feed_forward_length_true", U32s{300, 100, 512, 0, 100});
     },
     "300 is above the padded width 256"},
    {"no state size", [](Draft& d) { d.meta.remove("samba.ssm.state_size"); },
     "key \"samba.ssm.state_size\": is missing"},
    {"another state size", [](Draft& d) { d.meta.set("samba.ssm.state_size", 9u); },
     "tensor \"blk.0.ssm_x.weight\": expected shape (rows, columns) (23, 128)"},
    {"a missing tensor", [](Draft& d) { d.remove("blk.1.attn_k.weight"); },
     "tensor \"blk.1.attn_k.weight\" is missing: expected shape (rows, columns) (32, 64)"},
    {"a missing norm", [](Draft& d) { d.remove("output_norm.weight"); }, "tensor \"output_norm.weight\" is missing"},
    {"a misshapen tensor",
     [](Draft& d) {
         d.tensor("blk.1.attn_k.weight").dims = {64, 33};
     },
     "expected shape (rows, columns) (32, 64) as the metadata says, found (33, 64)"},
    {"a transposed tensor",
     [](Draft& d) {
         d.tensor("blk.0.ssm_a").dims = {128, 8};
     },
     "expected shape (rows, columns) (128, 8) as the metadata says, found (8, 128)"},
    {"a norm in f16", [](Draft& d) { d.tensor("blk.0.attn_norm.weight").type = DType::kF16; },
     "tensor \"blk.0.attn_norm.weight\": expected type F32, found F16"},
    {"an unknown tensor",
     [](Draft& d) {
         d.add("blk.1.attn_o.weight", {4, 64});
     },
     "tensor \"blk.1.attn_o.weight\" is not known"},
    {"a convolution of q alone",
     [](Draft& d) {
         d.add("blk.1.attn_q_conv1d.weight", {4, 64});
     },
     "tensor \"blk.1.attn_k_conv1d.weight\" is missing: expected shape (rows, columns) (32, 4)"},
    {"a convolution over too many tokens",
     [](Draft& d) {
         d.add("blk.1.attn_q_conv1d.weight", {17, 64});
     },
     "expected a convolution over 1 to 16 tokens, found 17"},
    {"a bias of q alone", [](Draft& d) { d.add("blk.1.attn_q.bias", {64}); },
     "\"blk.1.attn_v.bias\" is missing, although \"blk.1.attn_q.bias\" is there"},
    {"a norm of k alone", [](Draft& d) { d.add("blk.1.attn_k_norm.weight", {16}); },
     "\"blk.1.attn_q_norm.weight\" is missing"},
    {"more tokens than rows",
     [](Draft& d) {
         d.meta.set("tokenizer.ggml.model", std::string("llama"));
         d.meta.set("tokenizer.ggml.tokens", Texts(41, "x"));
     },
     "41 tokens, but the embedding has only 40 rows"},
    {"scores missing",
     [](Draft& d) {
         d.meta.set("tokenizer.ggml.model", std::string("llama"));
         d.meta.set("tokenizer.ggml.tokens", Texts(40, "x"));
         d.meta.set("tokenizer.ggml.scores", std::vector<float>(39));
     },
     "expected 40 entries, one a token, found 39"},
    {"unknown tokenizer", [](Draft& d) { d.meta.set("tokenizer.ggml.model", std::string("bert")); }, "found \"bert\""},
    {"a tokenizer without tokens", [](Draft& d) { d.meta.set("tokenizer.ggml.model", std::string("llama")); },
     "key \"tokenizer.ggml.tokens\": is missing or empty"},
    {"a token beyond the end",
     [](Draft& d) {
         d.meta.set("tokenizer.ggml.model", std::string("llama"));
         d.meta.set("tokenizer.ggml.tokens", Texts(40, "x"));
         d.meta.set("tokenizer.ggml.eos_token_id", 40u);
     },
     "expected a token below 40, found 40"},
    {"a temperature below 0", [](Draft& d) { d.meta.set("general.sampling.temp", -1.0f); },
     "key \"general.sampling.temp\": expected"},
};

}  // namespace

TEST_CASE("a model file is read as it was written: blocks that differ as arrays, padding, an untied head") {
    TemporaryDirectory dir;
    Draft draft;
    draft.meta.set("samba.summary_method", std::string("quote"));
    draft.meta.set("samba.recall_length", 2048u);
    draft.meta.set("general.sampling.top_k", 7u);
    draft.write(dir.path("m.gguf"));
    ModelFile file = load_model_file(dir.path("m.gguf"));
    const Config &c = file.config, &want = draft.model.config;
    CHECK(c.blocks == want.blocks);
    CHECK(c.blocks[0].d_ff == 256);
    CHECK(c.blocks[0].d_ff_true == 100);
    CHECK(c.blocks[4].rope_dim == 0);
    CHECK(c.blocks[4].window == 0);
    CHECK(c.d_conv == 3);
    CHECK(c.d_state == 8);
    CHECK(c.dt_rank == 5);
    CHECK_FALSE(c.tied);
    CHECK(file.tensors.size() == draft.model.tensors.size());
    CHECK(file.bytes == draft.model.bytes);
    for (const auto& [name, t] : draft.model.tensors) {
        INFO(name);
        REQUIRE(file.find(name));
        CHECK(std::memcmp(file.find(name)->data, t.data, t.bytes()) == 0);
    }
    CHECK(file.summary_method == "quote");
    CHECK(file.recall_length == 2048);
    CHECK(file.sampling.top_k == 7);
    CHECK_FALSE(file.sampling.temp);
    CHECK(content_hash(file) == file.content_hash);
}

TEST_CASE("scalars serve for all blocks, absent keys have their defaults") {
    TemporaryDirectory dir;
    Draft draft;
    draft.meta.remove("samba.attention.value_length");
    draft.meta.set("samba.attention.sliding_window", 5u);
    draft.meta.remove("samba.feed_forward_length_true");
    draft.meta.remove("samba.rope.dimension_count");
    draft.meta.remove("samba.vocab_size");
    draft.write(dir.path("m.gguf"));
    Config c = load_model_file(dir.path("m.gguf")).config;
    CHECK(c.vocab_size == 40);
    CHECK(c.blocks[1].window == 5);
    CHECK(c.blocks[4].window == 5);
    CHECK(c.blocks[1].rope_dim == 16);  // the whole head
    CHECK(c.blocks[4].rope_dim == 32);
    CHECK(c.blocks[0].d_ff_true == 256);
}

TEST_CASE("broken model files: each is one error that names the trouble and the file") {
    TemporaryDirectory dir;
    for (const Case& c : kBroken) {
        INFO(c.what);
        Draft draft;
        c.spoil(draft);
        draft.write(dir.path("m.gguf"));
        std::string message = error_of<FileError>([&] { load_model_file(dir.path("m.gguf")); });
        INFO(message);
        CHECK(message.find(dir.path("m.gguf")) == 1);
        CHECK(message.find(c.message) != std::string::npos);
    }
}

const Case kBrokenOthers[] = {
    {"gla without heads",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count", U32s{0, 2, 1, 4});
     },
     "block 0 has no heads"},
    {"gla without a rank", [](Draft& d) { d.meta.remove("samba.attention.decay_lora_rank"); },
     "key \"samba.attention.decay_lora_rank\": is missing"},
    {"another rank", [](Draft& d) { d.meta.set("samba.attention.decay_lora_rank", 9u); },
     "tensor \"blk.0.attn_decay_a.weight\": expected shape (rows, columns) (9, 64)"},
    {"keys too wide",
     [](Draft& d) {
         d.meta.set("samba.attention.key_length", U32s{16, 1024, 16, 16});
     },
     "block 1: expected 1 to 512, found 1024"},
    {"no values",
     [](Draft& d) {
         d.meta.set("samba.attention.value_length", U32s{32, 0, 64, 16});
     },
     "block 1: the heads have no values"},
    {"kv heads on a retention",
     [](Draft& d) {
         d.meta.set("samba.attention.head_count_kv", I32s{0, 1, 0, 4});
     },
     "block 1: expected 0, found 1"},
    {"an odd rotation",
     [](Draft& d) {
         d.meta.set("samba.rope.dimension_count", U32s{0, 31, 16, 16});
     },
     "expected an even number up to 32, found 31"},
    {"a retention named gla",
     [](Draft& d) {
         d.meta.set("samba.block.mixer", Texts{"gla", "gla", "mega", "attention"});
     },
     "block 1: expected \"retention\" (its tensors say so), found \"gla\""},
    {"a missing gate of decays", [](Draft& d) { d.remove("blk.0.attn_decay_b.bias"); },
     "tensor \"blk.0.attn_decay_b.bias\" is missing"},
    {"mega without a chunk", [](Draft& d) { d.meta.remove("samba.attention.chunk_length"); },
     "key \"samba.attention.chunk_length\": is missing"},
    {"mega of another inner size", [](Draft& d) { d.meta.set("samba.ssm.inner_size", 128u); },
     "expected the 64 of a mega, found 128"},
    {"mega with an odd z",
     [](Draft& d) {
         d.meta.set("samba.attention.key_length", U32s{16, 32, 15, 16});
     },
     "block 2: expected an even number up to 256, found 15"},
    {"mega without a relative bias", [](Draft& d) { d.remove("blk.2.attn_rel_k.weight"); },
     "tensor \"blk.2.attn_rel_k.weight\" is missing"},
};

TEST_CASE("gla, retention, mega and short convolutions are read as they were written, and what is broken is named") {
    TemporaryDirectory dir;
    Draft whole(kOthers);
    whole.write(dir.path("m.gguf"));
    Config c = load_model_file(dir.path("m.gguf")).config;
    CHECK(c.blocks == whole.model.config.blocks);
    CHECK(c.d_inner == 64);
    for (const Case& broken : kBrokenOthers) {
        INFO(broken.what);
        Draft d(kOthers);
        broken.spoil(d);
        d.write(dir.path("m.gguf"));
        std::string message = error_of<FileError>([&] { load_model_file(dir.path("m.gguf")); });
        INFO(message);
        CHECK(message.find(broken.message) != std::string::npos);
    }
}

TEST_CASE("a fingerprint tells models apart, by their weights too") {
    TemporaryDirectory dir;
    Draft one, two, other;
    other.model = random_model(other.model.config, DType::kF32, 2, nullptr);
    one.write(dir.path("1.gguf"));
    two.write(dir.path("2.gguf"));
    other.write(dir.path("3.gguf"));
    auto fingerprint = [&](const char* name) { return load_model_file(dir.path(name)).fingerprint; };
    CHECK(fingerprint("1.gguf") == fingerprint("2.gguf"));
    CHECK(fingerprint("1.gguf") != fingerprint("3.gguf"));
}
