// Bytes coming in become text, tokens going out become whole characters.
#include "engine/text_stream.h"

#include <catch2/catch.hpp>

#include "kernels/error.h"
#include "tests/engine/shipped_tokenizer.h"

using namespace samba;
using Catch::Matchers::Contains;

namespace {

int32_t byte_token(int byte) {
    char piece[8];
    std::snprintf(piece, sizeof piece, "<0x%02X>", byte);
    return *shipped_tokenizer().id_of(piece);
}

std::vector<std::string> shown(std::string_view bytes) {
    TextStream stream(shipped_tokenizer(), false);
    std::vector<std::string> out;
    for (unsigned char byte : bytes) out.push_back(stream.push(byte_token(byte)));
    out.push_back(stream.finish());
    return out;
}

using Shown = std::vector<std::string>;

}  // namespace

TEST_CASE("a character is shown when its last byte is there") {
    CHECK(shown("👍!") == Shown{"", "", "", "👍", "!", ""});
    CHECK(shown("é中") == Shown{"", "é", "", "", "中", ""});
}

TEST_CASE("an invalid sequence is shown as soon as it is certain to be invalid") {
    CHECK(shown("\xff") == Shown{"\xff", ""});
    CHECK(shown("\xe4z") == Shown{"", "\xe4z", ""});
    CHECK(shown("\xe4\xb8\xe4\xb8\xad") == Shown{"", "", "\xe4\xb8", "", "中", ""});
    CHECK(shown("\xe0\x80") == Shown{"", "\xe0\x80", ""});              // over-long
    CHECK(shown("\xed\xa0\x80") == Shown{"", "\xed\xa0", "\x80", ""});  // a surrogate
    CHECK(shown("\xf4\x90") == Shown{"", "\xf4\x90", ""});              // above U+10FFFF
    CHECK(shown("\xf0\x9f") == Shown{"", "", "\xf0\x9f"});              // unfinished at the end
}

TEST_CASE("whatever the tokens, what is shown joins to their bytes") {
    std::mt19937 random(1);
    for (int i = 0; i < 200; ++i) {
        TextStream stream(shipped_tokenizer(), false);
        std::vector<int32_t> ids;
        std::string text;
        for (int k = 0; k < 60; ++k) {
            ids.push_back(static_cast<int32_t>(random() % (random() % 2 ? 270 : 8300)));
            text += stream.push(ids.back());
        }
        text += stream.finish();
        REQUIRE(text == shipped_tokenizer().decode(ids, false));
    }
}

TEST_CASE("the tokenizer's own space before the first word is not shown") {
    const Tokenizer& t = shipped_tokenizer();
    for (bool strip : {true, false}) {
        TextStream stream(t, strip);
        std::string text = stream.push(*t.id_of("<|assistant|>"));
        for (int32_t id : t.encode("house house")) text += stream.push(id);
        CHECK(text == (strip ? "house house" : " house house"));
    }
    TextStream stream(t, true);
    std::string text;
    for (int32_t id : t.encode("  two")) text += stream.push(id);
    CHECK(text == "  two");
}

TEST_CASE("input text loses its byte order mark, its carriage returns before a newline, and U+2581") {
    CHECK(clean_text("\xEF\xBB\xBFone\r\ntwo\rthree\n\r\r\n") == "one\ntwo\rthree\n\r\n");
    CHECK(clean_text("a\xEF\xBB\xBF") == "a\xEF\xBB\xBF");  // only at the begin
    int64_t invalid = 0, spaces = 0;
    CHECK(clean_text("a\u2581b\u2581", &invalid, &spaces) == "a b ");
    CHECK(spaces == 2);
    CHECK(invalid == 0);
    CHECK(clean_text(std::string_view("a\0b", 3)) == std::string_view("a\0b", 3));
}

TEST_CASE("each invalid byte of the input becomes U+FFFD and is counted") {
    int64_t invalid = 0;
    CHECK(clean_text("a\xff\xc0\xafz", &invalid) == "a\uFFFD\uFFFD\uFFFDz");
    CHECK(invalid == 3);
    CHECK(clean_text("\xe4\xb8", &invalid) == "\uFFFD\uFFFD");
    CHECK(invalid == 2);
    CHECK(clean_text("\xef\xbb", &invalid) == "\uFFFD\uFFFD");  // half a byte order mark
    CHECK(invalid == 2);
    CHECK(to_valid_utf8("ok \xe4\xb8 \xf0\x9f\x91\x8d\xed\xa0\x80") == "ok \uFFFD\uFFFD 👍\uFFFD\uFFFD\uFFFD");
}

TEST_CASE("UTF-16 is refused and iconv named, however it arrives") {
    CHECK_THROWS_WITH(clean_text(std::string_view("\xff\xfeh\0i\0", 6)), Contains("UTF-16") && Contains("iconv"));
    InputText input;
    CHECK(input.push("\xfe") == "");
    CHECK_THROWS_AS(input.push("\xff"), FileError);
    InputText other;  // one such byte alone is only invalid
    CHECK(other.push("\xfe") == "");
    CHECK(other.finish() == "\uFFFD");
}

TEST_CASE("input text does not depend on how the bytes arrive") {
    const std::string atoms[] = {"\r",     "\n",       "\r\n", "a", "\xEF\xBB\xBF", "\xEF", "\xBB",
                                 "\u2581", "\xe2\x96", "中",   "👍", "\xf0\x9f",     "\x80", " "};
    std::mt19937 random(1);
    for (int i = 0; i < 3000; ++i) {
        std::string bytes;
        for (size_t n = random() % 12; n > 0; --n) bytes += atoms[random() % std::size(atoms)];
        int64_t invalid = 0, spaces = 0;
        std::string whole = clean_text(bytes, &invalid, &spaces);
        InputText input;
        std::string text;
        for (size_t at = 0; at < bytes.size();) {
            size_t n = 1 + random() % 3;
            text += input.push(std::string_view(bytes).substr(at, n));
            at += n;
        }
        text += input.finish();
        CAPTURE(bytes);
        REQUIRE(text == whole);
        REQUIRE(input.invalid_bytes() == invalid);
        REQUIRE(input.replaced_spaces() == spaces);
        REQUIRE(to_valid_utf8(text) == text);
    }
}
