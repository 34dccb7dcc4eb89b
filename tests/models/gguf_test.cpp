// GGUF files: what is written is read back, and no broken file does more than give one clear error.
#include "models/gguf.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "tests/models/error_of.h"
#include "tests/models/files.h"

using namespace samba;

namespace {

RawGguf small_file() {
    RawGguf file;
    file.text("general.architecture", "samba");
    file.number("samba.block_count", 2);
    file.key_values.push_back(
        Bytes().string("list").put(uint32_t{9}).put(uint32_t{5}).put(uint64_t{3}).put(-1).put(0).put(7).text);
    file.tensors = {{"a", {4}, 0, 0}, {"b", {32, 2}, 8, 32}};
    file.data = std::string(32 + 68, '\1');
    return file;
}

Gguf parse(const std::string& bytes) {
    return Gguf::parse(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), "file.gguf");
}

struct Case {
    const char* what;
    std::function<void(RawGguf&)> spoil;
    const char* message;  // a part of it
};

std::string key(const char* name, uint32_t type) { return Bytes().string(name).put(type).text; }
std::string list(const char* name, uint32_t type, uint64_t count) {
    return Bytes().string(name).put(uint32_t{9}).put(type).put(count).text;
}

constexpr uint64_t kHuge = uint64_t{1} << 62;

const Case kBroken[] = {
    {"magic", [](RawGguf& f) { f.magic = "GGML"; }, "expected the bytes \"GGUF\" at its start, found \"GGML\""},
    {"version 2", [](RawGguf& f) { f.version = 2; }, "has GGUF version 2, expected 3"},
    {"big-endian", [](RawGguf& f) { f.version = 0x03000000; }, "big-endian"},
    {"absurd tensor count", [](RawGguf& f) { f.tensor_count = INT64_MAX; }, "claims 9223372036854775807 tensors"},
    {"absurd key count", [](RawGguf& f) { f.kv_count = INT64_MAX; }, "claims 9223372036854775807 metadata keys"},
    {"duplicate key", [](RawGguf& f) { f.number("samba.block_count", 3); }, "key \"samba.block_count\" twice"},
    {"empty key", [](RawGguf& f) { f.number("", 3); }, "metadata key 3 is empty"},
    {"key that is not UTF-8", [](RawGguf& f) { f.number("a\xff", 3); }, "is not valid UTF-8: \"a\\xff\""},
    {"text that is not UTF-8", [](RawGguf& f) { f.text("k", "\xc0\x80"); }, "key \"k\" is not valid UTF-8"},
    {"unknown value type", [](RawGguf& f) { f.key_values.push_back(key("k", 13)); },
     "key \"k\" has the unknown type 13"},
    {"bool that is none", [](RawGguf& f) { f.key_values.push_back(key("k", 7) + "\2"); }, "bool with the byte 2"},
    {"absurd string", [](RawGguf& f) { f.key_values.push_back(Bytes().string("k").put(8u).put(kHuge).text); },
     "key \"k\" has a length of"},
    {"absurd array", [](RawGguf& f) { f.key_values.push_back(list("k", 4, kHuge)); },
     "key \"k\" claims 4611686018427387904 elements"},
    {"absurd array of strings", [](RawGguf& f) { f.key_values.push_back(list("k", 8, kHuge)); }, "key \"k\" claims"},
    {"absurd array of bools", [](RawGguf& f) { f.key_values.push_back(list("k", 7, kHuge)); }, "key \"k\" claims"},
    {"array of arrays", [](RawGguf& f) { f.key_values.push_back(list("k", 9, 1)); }, "array of arrays"},
    {"unknown element type", [](RawGguf& f) { f.key_values.push_back(list("k", 77, 1)); },
     "elements of the unknown type 77"},
    {"alignment 0", [](RawGguf& f) { f.number("general.alignment", 0); }, "power of two"},
    {"alignment 24", [](RawGguf& f) { f.number("general.alignment", 24); }, "power of two"},
    {"alignment as text", [](RawGguf& f) { f.text("general.alignment", "32"); }, "expected an integer, found string"},
    {"duplicate tensor", [](RawGguf& f) { f.tensors[1].name = "a"; }, "tensor \"a\" twice"},
    {"nameless tensor", [](RawGguf& f) { f.tensors[1].name = ""; }, "the name of tensor 1 is empty"},
    {"tensor name too long", [](RawGguf& f) { f.tensors[1].name = std::string(65, 'x'); }, "64 are allowed"},
    {"tensor name that is not UTF-8", [](RawGguf& f) { f.tensors[1].name = "\xed\xa0\x80"; }, "not valid UTF-8"},
    {"no dimensions", [](RawGguf& f) { f.tensors[0].dims = {}; }, "tensor \"a\": expected 1 to 4 dimensions, found 0"},
    {"five dimensions",
     [](RawGguf& f) {
         f.tensors[0].dims = {1, 1, 1, 1, 1};
     },
     "found 5"},
    {"a dimension of 0",
     [](RawGguf& f) {
         f.tensors[1].dims = {32, 0};
     },
     "tensor \"b\": dimension 1 is 0"},
    {"a row of 0",
     [](RawGguf& f) {
         f.tensors[1].dims = {0, 2};
     },
     "tensor \"b\": dimension 0 is 0"},
    {"absurd dimension", [](RawGguf& f) { f.tensors[0].dims = {kHuge}; }, "more bytes than the file has"},
    {"dimensions whose product overflows",
     [](RawGguf& f) {
         f.tensors[1].dims = {32, uint64_t{1} << 32, uint64_t{1} << 32};
     },
     "more bytes than the file has"},
    {"broken row",
     [](RawGguf& f) {
         f.tensors[1].dims = {33, 2};
     },
     "rows of 33 values are not whole Q8_0 blocks of 32"},
    {"unknown tensor type", [](RawGguf& f) { f.tensors[1].type = 99; }, "tensor \"b\": unknown type 99"},
    {"misaligned tensor", [](RawGguf& f) { f.tensors[1].offset = 40; },
     "tensor \"b\": offset 40 is not a multiple of 32"},
    {"tensor beyond the end", [](RawGguf& f) { f.tensors[1].offset = 64; }, "tensor \"b\" lies beyond the file's end"},
    {"tensor far beyond the end", [](RawGguf& f) { f.tensors[1].offset = ~uint64_t{31}; },
     "tensor \"b\" lies beyond the file's end"},
    {"overlapping tensors", [](RawGguf& f) { f.tensors[1].offset = 0; }, "the tensors \"a\" and \"b\" overlap"},
};

std::vector<float> numbers(size_t n) {
    std::vector<float> x(n);
    std::iota(x.begin(), x.end(), 0.5f);
    return x;
}

}  // namespace

TEST_CASE("a small GGUF file is read") {
    Gguf g = parse(small_file().bytes());
    REQUIRE(g.metadata.text("general.architecture") == "samba");
    REQUIRE(g.metadata.integer("samba.block_count") == 2);
    REQUIRE(g.metadata.integers("list") == std::vector<int64_t>{-1, 0, 7});
    REQUIRE(g.tensors.size() == 2);
    REQUIRE(g.find("b")->bytes == 68);
    REQUIRE(static_cast<const char*>(g.find("b")->data) - static_cast<const char*>(g.find("a")->data) == 32);
    REQUIRE_FALSE(g.find("c"));
}

TEST_CASE("broken GGUF files: each is one error that names the trouble") {
    for (const Case& c : kBroken) {
        INFO(c.what);
        RawGguf file = small_file();
        c.spoil(file);
        std::string bytes = file.bytes();
        std::string message = error_of<FileError>([&] { parse(bytes); });
        INFO(message);
        CHECK(message.find("\"file.gguf\"") == 0);
        CHECK(message.find(c.message) != std::string::npos);
    }
}

TEST_CASE("a GGUF file cut anywhere is an error, never a crash") {
    std::string whole = small_file().bytes();
    for (size_t n = 0; n < whole.size(); ++n) {
        std::string cut(whole.data(), n);  // its own memory, so that reading beyond it is seen by a sanitizer
        REQUIRE_THROWS_AS(parse(cut), FileError);
    }
}

TEST_CASE("values of another type than wanted are refused by name") {
    Gguf g = parse(small_file().bytes());
    auto message = [&](auto f) { return error_of<FileError>([&] { f(g.metadata); }); };
    CHECK(message([](auto& m) { m.text("samba.block_count"); }) ==
          "key \"samba.block_count\": expected a string, found u32");
    CHECK(message([](auto& m) { m.integer("list"); }) == "key \"list\": expected an integer, found array of i32");
    CHECK(message([](auto& m) { m.number("general.architecture"); }).find("expected a floating-point number") !=
          std::string::npos);
    CHECK(message([](auto& m) { m.texts("list"); }).find("expected an array of strings") != std::string::npos);
}

TEST_CASE("what is written is read back: every value type, every tensor, aligned to 64 bytes") {
    TemporaryDirectory dir;
    GgufMetadata meta;
    meta.set("u8", uint8_t{200});
    meta.set("i8", int8_t{-100});
    meta.set("u16", uint16_t{60000});
    meta.set("i16", int16_t{-30000});
    meta.set("u32", uint32_t{4000000000});
    meta.set("i32", int32_t{-2000000000});
    meta.set("f32", 1.5f);
    meta.set("yes", true);
    meta.set("text", std::string("Übung\0x", 8));
    meta.set("u64", uint64_t{1} << 63);
    meta.set("i64", std::numeric_limits<int64_t>::min());
    meta.set("f64", 0.1);
    meta.set("texts", std::vector<std::string>{"", "a", "bc"});
    meta.set("bools", std::vector<bool>{true, false, true});
    meta.set("bytes", std::vector<uint8_t>{0, 255});
    meta.set("none", std::vector<float>{});
    meta.set("gone", true);
    meta.remove("gone");
    auto a = numbers(7), b = numbers(20);
    std::vector<GgufTensor> table(2);
    table[0].name = "a";
    table[0].dims = {7};
    table[1].name = "b";
    table[1].dims = {5, 4};

    GgufWriter writer(dir.path("x.gguf"), false, meta, table);
    writer.write(a.data(), 28);
    writer.write(b.data(), 40);
    REQUIRE_FALSE(std::filesystem::exists(dir.path("x.gguf")));  // it appears only when whole
    writer.write(b.data() + 10, 40);
    std::string hash = writer.finish();

    Gguf g = Gguf::open(dir.path("x.gguf"));
    for (const auto& [name, value] : meta.all()) {
        INFO(name);
        REQUIRE(g.metadata.find(name));
        CHECK(*g.metadata.find(name) == value);
    }
    CHECK_FALSE(g.metadata.find("gone"));
    CHECK(g.metadata.text(kContentHashKey) == hash);
    CHECK(g.alignment == 64);
    REQUIRE(g.tensors.size() == 2);
    CHECK(std::memcmp(g.tensors[0].data, a.data(), 28) == 0);
    CHECK(std::memcmp(g.tensors[1].data, b.data(), 80) == 0);
    for (const GgufTensor& t : g.tensors) CHECK(reinterpret_cast<uintptr_t>(t.data) % 64 == 0);
    CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);  // no temporary file is left
    CHECK_THROWS_AS(g.metadata.integer("u64"), FileError);                           // beyond i64
}

TEST_CASE("an output that was not finished leaves nothing, an existing one is kept without force") {
    TemporaryDirectory dir;
    std::vector<GgufTensor> table(1);
    table[0].name = "a";
    table[0].dims = {1};
    float one = 1;
    { GgufWriter writer(dir.path("x.gguf"), false, {}, table); }
    CHECK(std::filesystem::is_empty(dir.path()));
    write_bytes(dir.path("x.gguf"), "precious");
    CHECK(error_of<UsageError>([&] { GgufWriter(dir.path("x.gguf"), false, {}, table); }).find("exists already") !=
          std::string::npos);
    CHECK(read_bytes(dir.path("x.gguf")) == "precious");
    GgufWriter writer(dir.path("x.gguf"), true, {}, table);
    writer.write(&one, 4);
    writer.finish();
    CHECK(Gguf::open(dir.path("x.gguf")).tensors.size() == 1);
    CHECK_THROWS_AS(GgufWriter(dir.path("missing/x.gguf"), false, {}, table), FileError);
    CHECK_THROWS_AS(GgufWriter("/dev/full", true, {}, table), FileError);
}

TEST_CASE("files that cannot be read are one error each") {
    TemporaryDirectory dir;
    write_bytes(dir.path("empty"), "");
    CHECK(error_of<FileError>([&] { Gguf::open(dir.path("empty")); }).find("is empty") != std::string::npos);
    CHECK(error_of<FileError>([&] { Gguf::open(dir.path()); }).find("not a regular file") != std::string::npos);
    CHECK(error_of<FileError>([&] { Gguf::open(dir.path("no\nne")); }).find("no\\x0ane") != std::string::npos);
}
