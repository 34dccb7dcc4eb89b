// A normaliser's table is followed only when no text can lead out of it.
#include "models/sentencepiece_charsmap.h"

#include "models/sentencepiece_file.h"
#include "tests/models/error_of.h"
#include "tests/models/tiny_tokenizer.h"

using namespace samba;

namespace {

// A trie of 256 units in which "a" leads to the text "b".
struct Table {
    std::vector<uint32_t> units = std::vector<uint32_t>(256);
    std::string texts = std::string("b\0", 2);

    Table() {
        units['a'] = 'a' | 1 << 8 | ('a' ^ 'v') << 10;  // has a value, at unit 'v'
        units['v'] = 1u << 31 | 0;
    }
    std::string bytes() const {
        uint32_t size = static_cast<uint32_t>(units.size() * 4);
        std::string out(4 + size, '\0');
        std::memcpy(out.data(), &size, 4);
        std::memcpy(out.data() + 4, units.data(), size);
        return out + texts;
    }
};

std::string refusal(const std::string& table) {
    return error_of<FileError>([&] { check_charsmap(table, "t.model"); });
}

}  // namespace

TEST_CASE("a whole normaliser table is accepted") { CHECK_NOTHROW(check_charsmap(Table().bytes(), "t.model")); }

TEST_CASE("a normaliser table that leads out of itself is refused") {
    Table t;
    t.units['a'] = 'a' | 1u << 20;
    CHECK(refusal(t.bytes()) == "\"t.model\": broken normaliser table: unit 97 leads out of it");
    t = {};
    t.units['a'] |= 1 << 9;  // the same offset in 256s
    CHECK(refusal(t.bytes()).find("unit 97 leads out of it") != std::string::npos);
    t = {};
    t.units['v'] = 1u << 31 | 2;
    CHECK(refusal(t.bytes()).find("unit 97 names a text out of it") != std::string::npos);
    t = {};
    t.units[0] = 1u << 31;
    CHECK(refusal(t.bytes()).find("no root") != std::string::npos);
    t = {};
    t.texts.pop_back();
    CHECK(refusal(t.bytes()).find("do not fill") != std::string::npos);
    t = {};
    t.units.resize(255);
    CHECK(refusal(t.bytes()).find("leads out of it") != std::string::npos);
    for (size_t n = 0; n < 1024; n += 5) CHECK_FALSE(refusal(Table().bytes().substr(0, n)).empty());
}

TEST_CASE("a sentencepiece model's normaliser table is checked when it is read") {
    std::string model = TinyTokenizer().bytes();
    CHECK(parse_sentencepiece(model + proto_bytes(3, proto_bytes(2, Table().bytes())), "t.model").changes_characters);
    Table broken;
    broken.units['a'] = 'a' | 1u << 20;
    model += proto_bytes(3, proto_bytes(2, broken.bytes()));
    CHECK(error_of<FileError>([&] { parse_sentencepiece(model, "t.model"); }).find("broken normaliser table") !=
          std::string::npos);
}
