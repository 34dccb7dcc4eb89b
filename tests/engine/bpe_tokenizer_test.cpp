// Byte-level BPE: the ids of PyPI's `tokenizers` on hard strings (fixtures/make_bpe.py), whole and as a stream.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "engine/bpe_encoder.h"
#include "engine/text_stream.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"
#include "kernels/error.h"
#include "models/json_text.h"
#include "models/quote.h"
#include "models/tokenizer_json.h"
#include "tests/engine/shipped_tokenizer.h"

using namespace samba;
using Catch::Matchers::Contains;

namespace {

std::string fixture(const std::string& name) {
    return read_text_file(std::string(SAMBA_SOURCE_DIR) + "/tests/engine/fixtures/" + name);
}

TokenizerData fixture_data(const std::string& kind) {
    return read_tokenizer_json(fixture("bpe_" + kind + ".json"), "bpe_" + kind + ".json");
}

struct HardString {
    std::string text;
    std::vector<int32_t> ids;
};
std::vector<HardString> hard_strings(const std::string& kind) {
    std::vector<HardString> all;
    for (const auto& row : nlohmann::json::parse(fixture("bpe_strings.json"))) all.push_back({row["text"], row[kind]});
    return all;
}

// Whatever the pattern tells apart, apostrophes before letters, marks that compose, and runs of spaces.
std::string random_words(std::mt19937& random, size_t pieces) {
    static const std::string atoms[] = {" ",
                                        "  ",
                                        "    ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "\u00a0",
                                        "\u3000",
                                        "a",
                                        "s",
                                        "t",
                                        "'",
                                        "'s",
                                        "'ll",
                                        "’",
                                        "ship",
                                        " the",
                                        "é",
                                        "e\u0301",
                                        "\u0301",
                                        "\u0323",
                                        "ß",
                                        "船",
                                        "。",
                                        "가",
                                        "\u1100",
                                        "\u1161",
                                        "\u11a8",
                                        "👍",
                                        "\u200d",
                                        "1",
                                        "23",
                                        "½",
                                        ".",
                                        "...",
                                        "(",
                                        "\u2126",
                                        "\u0958",
                                        "न",
                                        "्",
                                        "\xff",
                                        "\xe4\xb8",
                                        "<|endoftext|>",
                                        "\ufeff",
                                        "'S",
                                        "\u017f",
                                        "\n\n",
                                        "\r",
                                        "!"};
    std::string text;
    for (size_t i = 0; i < pieces; ++i) text += atoms[random() % std::size(atoms)];
    return text;
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> all;
    while (!text.empty()) {
        all.emplace_back(text.substr(0, first_word(text)));
        text.remove_prefix(all.back().size());
    }
    return all;
}
using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("byte-level BPE gives the ids of the reference") {
    for (const char* kind : {"gpt2", "neox", "llama"}) {
        Tokenizer t(fixture_data(kind), 1000, {});
        auto rows = hard_strings(kind);
        REQUIRE(rows.size() > 500);
        for (const HardString& row : rows) {
            CAPTURE(kind, row.text);
            REQUIRE(t.encode(row.text) == row.ids);
        }
    }
}

TEST_CASE("byte-level BPE: a stream has the ids of the whole text however it is split") {
    for (const char* kind : {"gpt2", "neox", "llama"}) {
        TokenizerData data = fixture_data(kind);
        Tokenizer t(data, 1000, {});
        // Not cut at all, and so without regard to where cuts are allowed.
        auto vocabulary = Vocabulary(data, std::span<const std::string>{});
        BpeEncoder whole(data, vocabulary);
        std::mt19937 random(1);
        for (size_t most : {1u, 3u, 50u, 2000u}) {
            for (int i = 0; i < 150; ++i) {
                std::string text = random_words(random, random() % (i % 10 ? 40 : 1500));
                std::vector<int32_t> ids;
                whole.encode(text, true, ids);
                CAPTURE(kind, most, text);
                REQUIRE(t.encode(text) == ids);
                REQUIRE(encode_in_pieces(t, text, most, random) == ids);
            }
        }
    }
}

TEST_CASE("byte-level BPE: decoding gives every byte back, and no space is taken from the text") {
    Tokenizer t(fixture_data("gpt2"), 1000, {});
    CHECK_FALSE(t.adds_space());
    TextStream stream(t, true);
    CHECK(stream.push(t.encode(" the")[0]).starts_with(" "));
    std::mt19937 random(2);
    for (int i = 0; i < 500; ++i) {
        std::string text = random_words(random, 30);
        CAPTURE(text);
        REQUIRE(t.decode(t.encode(text)) == text);
    }
}

TEST_CASE("byte-level BPE: a stream of tokens gives whole characters, and in the end every byte") {
    for (const char* kind : {"gpt2", "neox", "llama"}) {
        Tokenizer t(fixture_data(kind), 1000, {});
        size_t cut = 0;  // tokens that end inside a character
        for (const HardString& row : hard_strings(kind)) {
            TextStream stream(t, true);
            std::string text;
            for (int32_t id : row.ids) {
                std::string more = stream.push(id);
                CAPTURE(kind, row.text, id);
                REQUIRE(valid_utf8(more));
                cut += more != t.bytes(id);
                text += more;
            }
            REQUIRE(stream.finish().empty());
            REQUIRE(text == t.decode(row.ids));
        }
        CHECK(cut > 100);
    }
}

TEST_CASE("byte-level BPE: a tokenizer that adds a space begins a text with one, a continuation without") {
    TokenizerData data = fixture_data("gpt2");
    Tokenizer plain(data, 1000, {});
    data.add_space_prefix = true;
    Tokenizer spaced(data, 1000, {});
    CHECK(spaced.encode("the ship") == plain.encode(" the ship"));
    CHECK(spaced.encode(" the ship") == plain.encode(" the ship"));
    CHECK(spaced.encode_continuation("the ship") == plain.encode("the ship"));
    CHECK(spaced.decode(spaced.encode("the ship")) == "the ship");
}

TEST_CASE("byte-level BPE: special tokens never come from text, other added tokens do") {
    Tokenizer t(fixture_data("neox"), 1000, {});
    CHECK(t.id_of("<|endoftext|>") == 0);
    CHECK(t.is_control(0));
    CHECK(t.bytes(0).empty());
    std::vector<int32_t> ids = t.encode("a<|endoftext|><|padding|>");
    CHECK(std::none_of(ids.begin(), ids.end(), [&](int32_t id) { return t.is_control(id); }));
    int32_t four = *t.id_of("    ");
    CHECK(t.encode("a\n    b")[2] == four);
    CHECK(t.bytes(four) == "    ");
    std::vector<std::string> control = {"    "};
    ids = Tokenizer(fixture_data("neox"), 1000, control).encode("a\n    b");
    CHECK(std::find(ids.begin(), ids.end(), four) == ids.end());
}

TEST_CASE("GPT-2's pattern splits words as its regular expression does") {
    CHECK(words("don't stop") == Words{"don", "'t", " stop"});
    CHECK(words("it's 'sa ''s") == Words{"it", "'s", " '", "sa", " ''", "s"});
    CHECK(words("a  b\n c \n\nd ") == Words{"a", " ", " b", "\n", " c", " \n", "\n", "d", " "});
    CHECK(words("x1.5%é２Ⅷ") == Words{"x", "1", ".", "5", "%", "é", "２Ⅷ"});
    CHECK(words("a\u00a0\u00a0b") == Words{"a", "\u00a0", "\u00a0", "b"});
}

TEST_CASE("Llama 3's pattern splits words as its regular expression does") {
    auto words = [](std::string_view text) {
        Words all;
        while (!text.empty()) {
            all.emplace_back(text.substr(0, first_word(text, WordPattern::kLlama3)));
            text.remove_prefix(all.back().size());
        }
        return all;
    };
    CHECK(words("Don'T stop") == Words{"Don", "'T", " stop"});
    CHECK(words("'hello (a) !a") == Words{"'hello", " (", "a", ")", " !", "a"});
    CHECK(words("12345 6") == Words{"123", "45", " ", "6"});
    CHECK(words("a!\n\n  b") == Words{"a", "!\n\n", " ", " b"});
    CHECK(words("a \n\t\n  b ") == Words{"a", " \n\t\n", " ", " b", " "});
    CHECK(words("\tx\n") == Words{"\tx", "\n"});
}

TEST_CASE("byte-level BPE: with Llama 3's rules a word that is a piece is that piece, whatever the merges") {
    Tokenizer t(fixture_data("llama"), 1000, {});
    CHECK(t.encode(" quay") == std::vector<int32_t>{*t.id_of("\u0120quay")});
    CHECK(t.encode(" quays").size() > 1);
    CHECK(t.bos() == 0);
    CHECK(t.add_bos());
}

TEST_CASE("normalisation form C composes and orders as Unicode says") {
    CHECK(nfc("plain") == "plain");
    CHECK(nfc("e\u0301") == "é");
    CHECK(nfc("a\u0323\u0302") == "\u1ead");         // two steps
    CHECK(nfc("a\u0302\u0323") == "\u1ead");         // marks in the other order
    CHECK(nfc("a\u0305\u0301") == "a\u0305\u0301");  // blocked by a mark of the same class
    CHECK(nfc("\u212b\u2126") == "Å\u03a9");
    CHECK(nfc("\u0958") == "\u0915\u093c");  // stays apart
    CHECK(nfc("\u1112\u1161\u11ab\u1100\u1173\u11af") == "한글");
    CHECK(nfc("\uac00\u11a8") == "각");
    CHECK(nfc("\uf900") == "\u8c48");
    CHECK(nfc("e\xff\u0301") == "e\xff\u0301");
    CHECK(nfc_boundary(U'e'));
    CHECK_FALSE(nfc_boundary(0x301));
    CHECK_FALSE(nfc_boundary(0x1161));
    CHECK_FALSE(nfc_boundary(0x2126));
}

TEST_CASE("a byte-level BPE that cannot be used is refused in one line") {
    TokenizerData data = fixture_data("gpt2");
    auto make = [](const TokenizerData& d) { Tokenizer t(d, 2000, {}); };
    TokenizerData other = data;
    other.pre = "qwen2";
    CHECK_THROWS_WITH(make(other), Contains("or \"llama-bpe\", found \"qwen2\""));
    other = data;
    other.merges[7] = "nowhere";
    CHECK_THROWS_WITH(make(other), Contains("tokenizer.ggml.merges[7] is \"nowhere\""));
    other = data;
    *std::find(other.tokens.begin(), other.tokens.end(), "\u0120") = "gone";
    CHECK_THROWS_WITH(make(other), Contains("for byte 32"));
}
