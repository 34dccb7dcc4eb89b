// tokenizer.model: the fields that matter are read, broken messages are one error.
#include "models/sentencepiece_file.h"

#include "tests/models/error_of.h"
#include "tests/models/files.h"
#include "tests/models/tiny_tokenizer.h"

using namespace samba;

TEST_CASE("a sentencepiece model gives pieces, scores, types and flags") {
    SentencePieceFile file = parse_sentencepiece(TinyTokenizer().bytes(), "tokenizer.model");
    REQUIRE(file.pieces.size() == 16);
    CHECK(file.pieces[12].text == "ab");
    CHECK(file.pieces[12].score == -0.5f);
    CHECK(file.pieces[12].type == 1);
    CHECK(file.pieces[6].type == 3);
    CHECK(file.pieces[7].type == 6);
    CHECK(file.model_type == 2);
    CHECK(file.byte_fallback);
    CHECK(file.unk == 0);
    CHECK(file.bos == 1);
    CHECK(file.eos == 2);
    CHECK(file.pad == -1);
    CHECK(file.normalizer == "identity");
    CHECK(file.add_dummy_prefix);
    CHECK(file.exact_streams());
}

TEST_CASE("absent fields have sentencepiece's defaults") {
    SentencePieceFile file = parse_sentencepiece(
        proto_bytes(1, proto_bytes(1, "a")) + proto_bytes(1, proto_bytes(1, "b")) + proto_bytes(1, proto_bytes(1, "c")),
        "tokenizer.model");
    CHECK(file.model_type == 1);
    CHECK(file.remove_extra_whitespaces);
    CHECK_FALSE(file.exact_streams());  // white space would be removed
    CHECK(file.eos == 2);
}

TEST_CASE("broken sentencepiece models are one error") {
    auto message = [](const std::string& bytes) {
        return error_of<FileError>([&] { parse_sentencepiece(bytes, "t.model"); });
    };
    std::string piece = proto_bytes(1, proto_bytes(1, "a"));
    CHECK(message("") == "\"t.model\": not a sentencepiece model: it has no pieces");
    CHECK(message("\x0a").find("cut short") != std::string::npos);                      // a length is missing
    CHECK(message("\x0a\xff\xff\xff\xff\x0f").find("cut short") != std::string::npos);  // a length beyond the end
    CHECK(message(std::string(11, '\xff')).find("cut short") != std::string::npos);     // a varint without end
    CHECK(message("\x0b").find("cut short") != std::string::npos);                      // a group: wire type 3
    CHECK(message(std::string("\0\0", 2)).find("cut short") != std::string::npos);      // field 0
    CHECK(message(proto_bytes(1, "")).find("piece 0 is empty") != std::string::npos);
    CHECK(message(proto_bytes(1, proto_bytes(1, "\xff"))).find("not valid UTF-8") != std::string::npos);
    CHECK(message(proto_bytes(1, proto_bytes(1, "a") + proto_int(3, 7))).find("unknown type 7") != std::string::npos);
    CHECK(message(proto_bytes(1, proto_bytes(1, "a") + proto_int(2, 7))).find("cut short") !=
          std::string::npos);  // a score that is no float
    CHECK(message(piece + proto_bytes(2, proto_int(40, 0) + proto_int(41, 5))).find("special id 5 is not below 1") !=
          std::string::npos);
    std::string whole = TinyTokenizer().bytes();
    for (size_t n = 0; n < whole.size(); ++n) {
        std::string cut(whole.data(), n);
        try {  // between two fields a cut leaves a whole message
            parse_sentencepiece(cut, "t.model");
        } catch (const FileError&) {
        }
    }
}
