// Text to ids and back, with the shipped tokenizer; the library's own encoding of the whole text is the reference.
#include "engine/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "kernels/error.h"
#include "tests/engine/shipped_tokenizer.h"
#include "tests/models/tiny_tokenizer.h"

using namespace samba;
using Catch::Matchers::Contains;

namespace {

// What sentencepiece itself gives for the whole of a text.
class Reference {
  public:
    explicit Reference(const std::string& model) { REQUIRE(library_.LoadFromSerializedProto(model).ok()); }
    std::vector<int32_t> encode(std::string_view text) const {
        std::vector<int> ids;
        REQUIRE(library_.Encode(text, &ids).ok());
        return {ids.begin(), ids.end()};
    }

  private:
    sentencepiece::SentencePieceProcessor library_;
};

// A model of a few pieces without byte pieces.
TokenizerData tiny_model() {
    std::string model;
    float score = 0;
    auto add = [&](const std::string& text, int type) {
        model += proto_bytes(1, proto_bytes(1, text) + proto_float(2, score) + proto_int(3, type));
        score -= 1;
    };
    add("<unk>", 2);
    add("<s>", 3);
    add("</s>", 3);
    for (const char* text : {"ab", "\u2581a", "abc", "bc", "\u2581ab", "cc", "\u2581", "a", "b", "c"}) add(text, 1);
    TokenizerData data;
    data.kind = "llama";
    data.sentencepiece_model = model + proto_bytes(2, proto_int(3, 2)) + proto_bytes(3, proto_int(4, 0));  // BPE
    return data;
}

bool holds(const std::vector<int32_t>& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

}  // namespace

TEST_CASE("a text has the ids that sentencepiece gives the whole of it") {
    Reference reference(shipped_tokenizer_data().sentencepiece_model);
    std::mt19937 random(1);
    for (int i = 0; i < 3000; ++i) {
        std::string text = random_text(random, random() % 40);
        CAPTURE(text);
        REQUIRE(shipped_tokenizer().encode(text) == reference.encode(text));
    }
    std::string long_text = random_text(random, 50000);
    CHECK(shipped_tokenizer().encode(long_text) == reference.encode(long_text));
}

TEST_CASE("bytes that are no UTF-8 are encoded as sentencepiece encodes them") {
    Reference reference(shipped_tokenizer_data().sentencepiece_model);
    std::mt19937 random(2);
    for (int i = 0; i < 2000; ++i) {
        std::string text = random_text(random, 8);
        for (int k = 0; k < 3; ++k)
            text.insert(random() % (text.size() + 1), 1, static_cast<char>(0x80 + random() % 128));
        CAPTURE(text);
        REQUIRE(shipped_tokenizer().encode(text) == reference.encode(text));
    }
}

TEST_CASE("a stream has the ids of the whole text however it is split") {
    std::mt19937 random(3);
    for (size_t most : {1u, 2u, 3u, 7u, 100u, 5000u}) {
        for (int i = 0; i < 20; ++i) {
            std::string text = random_text(random, random() % 3000);
            CAPTURE(most, text);
            REQUIRE(encode_in_pieces(shipped_tokenizer(), text, most, random) == shipped_tokenizer().encode(text));
        }
    }
}

TEST_CASE("a copied stream goes on from the same place") {
    std::mt19937 random(4);
    std::string begin = random_text(random, 2000), end = random_text(random, 2000);
    StreamEncoder stream(shipped_tokenizer());
    std::vector<int32_t> ids;
    stream.push(begin, ids);
    CHECK(stream.unfed().size() < 1024);
    StreamEncoder fork = stream;
    std::vector<int32_t> fork_ids = ids;
    fork.push(" and?", fork_ids);
    fork.finish(fork_ids);
    CHECK(fork_ids == shipped_tokenizer().encode(begin + " and?"));
    stream.push(end, ids);
    stream.finish(ids);
    CHECK(ids == shipped_tokenizer().encode(begin + end));
}

TEST_CASE("a text without a cut is cut at 64 KiB, counted, and held no longer") {
    std::string text;
    while (text.size() < 200'000) text += "ab";
    std::mt19937 random(5);
    int64_t forced_cuts = 0;
    CHECK(encode_in_pieces(shipped_tokenizer(), text, 3000, random, &forced_cuts) == shipped_tokenizer().encode(text));
    CHECK(forced_cuts == 3);
    StreamEncoder stream(shipped_tokenizer());
    std::vector<int32_t> ids;
    for (int i = 0; i < 200; ++i) {
        stream.push(std::string_view(text).substr(0, 1000), ids);
        REQUIRE(stream.unfed().size() <= 64 * 1024 + 1000);
    }
    CHECK(shipped_tokenizer().decode(ids) == text.substr(0, ids.size() * 2));
}

TEST_CASE("decoding gives the text back") {
    std::mt19937 random(6);
    for (int i = 0; i < 500; ++i) {
        std::string text = random_text(random, 30);
        for (size_t at; (at = text.find("\u2581")) != std::string::npos;) text.replace(at, 3, 1, ' ');
        CAPTURE(text);
        REQUIRE(shipped_tokenizer().decode(shipped_tokenizer().encode(text)) == text);
    }
    CHECK(shipped_tokenizer().decode(shipped_tokenizer().encode("house"), false) == " house");
}

TEST_CASE("a continuation is the rest of the same text") {
    const Tokenizer& t = shipped_tokenizer();
    REQUIRE(t.can_cut(U'e', U' '));
    REQUIRE_FALSE(t.can_cut(U't', U'h'));
    REQUIRE_FALSE(t.can_cut(U' ', U't'));
    std::vector<int32_t> ids = t.encode("Once upon a time"), rest = t.encode_continuation(" there was");
    ids.insert(ids.end(), rest.begin(), rest.end());
    CHECK(ids == t.encode("Once upon a time there was"));
    CHECK(t.encode("").empty());
    CHECK(t.encode_continuation("").empty());
}

TEST_CASE("no text gives a control token") {
    const Tokenizer& t = shipped_tokenizer();
    std::string text = "<s>";
    for (const std::string& piece : shipped_control_pieces()) text += piece + " " + piece + "\n";
    std::vector<int32_t> ids = t.encode(text);
    CHECK(std::none_of(ids.begin(), ids.end(), [&](int32_t id) { return t.is_control(id); }));
    CHECK(t.decode(ids) == text);
    CHECK(t.id_of("<|end|>") == 6);
    CHECK(t.is_control(6));
    CHECK(t.piece(6) == "<|end|>");
    CHECK(t.bytes(6).empty());
}

TEST_CASE("a piece that the template uses is a control token whatever the file calls it") {
    std::vector<std::string> pieces = {"\u2581house", "nowhere"};
    Tokenizer t(shipped_tokenizer_data(), 8192, pieces);
    int32_t house = *t.id_of("\u2581house");
    CHECK(holds(shipped_tokenizer().encode("a house"), house));
    CHECK_FALSE(holds(t.encode("a house"), house));
    CHECK(t.decode(t.encode("a house")) == "a house");
    CHECK(t.is_control(house));
    CHECK(t.bytes(house).empty());

    TokenizerData user_defined = shipped_tokenizer_data();  // found in text before anything else …
    user_defined.sentencepiece_model += proto_bytes(1, proto_bytes(1, "<call>") + proto_float(2, 0) + proto_int(3, 4));
    user_defined.tokens.push_back("<call>");
    user_defined.scores.push_back(0);
    user_defined.types.push_back(4);
    CHECK(holds(Tokenizer(user_defined, 8193, {}).encode("a <call> b"), 8192));
    std::vector<std::string> call = {"<call>"};  // … but not as a control token
    CHECK_FALSE(holds(Tokenizer(user_defined, 8193, call).encode("a <call> b"), 8192));
    user_defined.added_ids = {8192};
    CHECK_FALSE(holds(Tokenizer(user_defined, 8193, {}).encode("a <call> b"), 8192));
}

TEST_CASE("added tokens beyond the pieces of the model are control tokens") {
    TokenizerData data = shipped_tokenizer_data();
    data.tokens.push_back("<|im_start|>");
    data.types.push_back(4);
    data.scores.push_back(0);
    data.added_ids = {8192};
    Tokenizer t(data, 8256, {});
    CHECK(t.id_of("<|im_start|>") == 8192);
    CHECK(t.is_control(8192));
    CHECK_FALSE(holds(t.encode("<|im_start|>"), 8192));
}

TEST_CASE("ids without a piece have a text of their own and harm nothing") {
    Tokenizer t(shipped_tokenizer_data(), 9000, {});
    CHECK(t.vocab_size() == 9000);
    for (int32_t id : {-1, 8192, 8999, 9000, 1 << 30}) {
        CHECK(t.piece(id) == "\uFFFD");
        CHECK(t.bytes(id) == "\uFFFD");
        CHECK_FALSE(t.is_control(id));
    }
    CHECK(t.bytes(0) == "\uFFFD");  // <unk>
    CHECK(t.bytes(*t.id_of("<0x0A>")) == "\n");
}

TEST_CASE("the end tokens are those of the file, else eos and eot") {
    TokenizerData data = shipped_tokenizer_data();
    data.end_ids = {};
    data.eot = 6;
    CHECK(Tokenizer(data, 8192, {}).end_ids() == std::vector<int32_t>{2, 6});
    data.end_ids = {6, 3, 6};
    CHECK(Tokenizer(data, 8192, {}).end_ids() == std::vector<int32_t>{6, 3});
}

TEST_CASE("unknown characters side by side are one token wherever the text is cut") {
    Reference reference(tiny_model().sentencepiece_model);
    Tokenizer t(tiny_model(), 16, {});
    REQUIRE(t.exact_streams());
    CHECK_FALSE(t.can_cut(U'x', U'中'));
    CHECK(t.can_cut(U'x', U'a'));
    CHECK(t.encode("x中y") == std::vector<int32_t>{*t.id_of("\u2581"), 0});
    std::mt19937 random(7);
    for (int i = 0; i < 3000; ++i) {
        static const std::string atoms[] = {"a", "b", "c", "abc", " ", "  ", "x", "中", "👍", "\xff"};
        std::string text;
        for (size_t n = random() % 30; n > 0; --n) text += atoms[random() % std::size(atoms)];
        CAPTURE(text);
        REQUIRE(t.encode(text) == reference.encode(text));
    }
}

TEST_CASE("a tokenizer that drops spaces is cut at 64 KiB and says so") {
    TokenizerData data = shipped_tokenizer_data();
    data.sentencepiece_model += proto_bytes(3, proto_int(4, 1));  // normalizer_spec.remove_extra_whitespaces
    Tokenizer t(data, 8192, {});
    CHECK(shipped_tokenizer().exact_streams());
    CHECK_FALSE(t.exact_streams());
    CHECK_FALSE(t.can_cut(U'e', U' '));
    std::string text = "It was";
    while (text.size() < 200'000) text += " the  house and the ship,";
    std::mt19937 random(8);
    int64_t forced_cuts = 0;
    CHECK(encode_in_pieces(t, text, 700, random, &forced_cuts) == t.encode(text));
    CHECK(forced_cuts == 3);
    CHECK(t.encode(text) == Reference(data.sentencepiece_model).encode(text));  // the cuts are between words
}

TEST_CASE("a tokenizer that cannot be used is refused in one line") {
    TokenizerData data = shipped_tokenizer_data();
    auto make = [](const TokenizerData& d, int64_t rows = 8192, std::vector<std::string> control = {}) {
        Tokenizer t(d, rows, control);
    };
    CHECK_THROWS_WITH(make(data, 8191), Contains("8192 pieces, the embedding only 8191 rows"));
    TokenizerData other = data;
    other.kind = "bert";
    CHECK_THROWS_WITH(make(other), Contains("expected a tokenizer of kind \"llama\" or \"gpt2\", found \"bert\""));
    other = data;
    other.sentencepiece_model.clear();
    CHECK_THROWS_WITH(make(other), Contains("no tokenizer.sentencepiece.model"));
    other = data;
    other.tokens[300] = "x";
    CHECK_THROWS_WITH(make(other), Contains("tokenizer.ggml.tokens[300]: expected") && Contains("found \"x\""));
    other = data;
    other.eos = 8192;
    CHECK_THROWS_WITH(make(other), Contains("end token is 8192, expected one below 8192"));
    CHECK_THROWS_WITH(make(data, 8192, {"e"}), Contains("\"e\" is a single character"));
    for (size_t n = 0; n < data.sentencepiece_model.size(); n += 997) {
        other = data;
        other.sentencepiece_model.resize(n);
        CHECK_THROWS_AS(make(other), FileError);
    }
}
