// A sentencepiece tokenizer.model of 16 pieces, written by hand as the protobuf message that it is.
#pragma once
#include <cstring>
#include <string>
#include <vector>

namespace samba {

inline std::string varint(uint64_t v) {
    std::string out;
    for (; v >= 128; v >>= 7) out.push_back(static_cast<char>((v & 127) | 128));
    out.push_back(static_cast<char>(v));
    return out;
}
inline std::string proto_bytes(int field, const std::string& bytes) {
    return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(bytes.size()) + bytes;
}
inline std::string proto_int(int field, int64_t value) {
    return varint(static_cast<uint64_t>(field) << 3) + varint(static_cast<uint64_t>(value));
}
inline std::string proto_float(int field, float value) {
    std::string bytes(4, '\0');
    std::memcpy(bytes.data(), &value, 4);
    return varint(static_cast<uint64_t>(field) << 3 | 5) + bytes;
}

struct TinyTokenizer {
    struct Piece {
        std::string text;
        float score;
        int type;
    };
    std::vector<Piece> pieces = {{"<unk>", 0, 2},      {"<s>", 0, 3},      {"</s>", 0, 3},
                                 {"<|system|>", 0, 3}, {"<|user|>", 0, 3}, {"<|assistant|>", 0, 3},
                                 {"<|end|>", 0, 3},    {"<0x0A>", 0, 6},   {"▁", -1, 1},
                                 {"a", -2, 1},         {"b", -3, 1},       {"c", -4, 1},
                                 {"ab", -0.5f, 1},     {"bc", -0.25f, 1},  {"d", -5, 1},
                                 {"e", -6, 1}};
    bool remove_extra_whitespaces = false;

    std::string bytes() const {
        std::string out;
        for (const Piece& p : pieces) {
            out += proto_bytes(
                1, proto_bytes(1, p.text) + proto_float(2, p.score) + (p.type == 1 ? "" : proto_int(3, p.type)));
        }
        out += proto_bytes(2, proto_int(3, 2) + proto_int(35, 1) + proto_int(40, 0) + proto_int(41, 1) +
                                  proto_int(42, 2) + proto_int(43, -1));
        out += proto_bytes(
            3, proto_bytes(1, "identity") + proto_int(3, 1) + proto_int(4, remove_extra_whitespaces ? 1 : 0));
        return out + proto_bytes(99, "a field of the future");
    }
};

}  // namespace samba
