#include "models/sentencepiece_file.h"

#include <cmath>
#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"
#include "models/sentencepiece_charsmap.h"

namespace samba {

namespace {

// A protobuf message: a sequence of (field number, wire type) and value.
class Message {
  public:
    Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

    // The next field; false at the end. Then exactly one of varint, fixed or bytes is its value.
    bool next() {
        if (at_ == bytes_.size()) return false;
        uint64_t key = read_varint();
        field = key >> 3;
        varint = 0;
        bytes = {};
        switch (key & 7) {
            case 0:
                varint = read_varint();
                break;
            case 1:
                bytes = take(8);
                break;
            case 2:
                bytes = take(read_varint());
                break;
            case 5:
                bytes = take(4);
                break;
            default:
                fail();
        }
        return field != 0 ? true : (fail(), false);
    }

    uint64_t field = 0, varint = 0;
    std::string_view bytes;

    float real() const {
        float v;
        if (bytes.size() != sizeof v) fail();
        std::memcpy(&v, bytes.data(), sizeof v);
        return v;
    }
    int32_t integer() const { return static_cast<int32_t>(static_cast<int64_t>(varint)); }  // -1 has ten bytes

  private:
    std::string_view bytes_;
    const std::string& where_;
    size_t at_ = 0;

    [[noreturn]] void fail() const {
        throw FileError(in_quotes(where_) + ": not a sentencepiece model, or cut short (at byte " +
                        std::to_string(at_) + " of a message of " + std::to_string(bytes_.size()) + ")");
    }
    uint64_t read_varint() {
        uint64_t v = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (at_ == bytes_.size()) fail();
            auto c = static_cast<unsigned char>(bytes_[at_++]);
            if (shift == 63 && c > 1) fail();
            v |= static_cast<uint64_t>(c & 127) << shift;
            if (c < 128) return v;
        }
        fail();
    }
    std::string_view take(uint64_t n) {
        if (n > bytes_.size() - at_) fail();
        at_ += n;
        return bytes_.substr(at_ - n, n);
    }
};

SentencePieceFile::Piece parse_piece(std::string_view bytes, size_t index, const std::string& where) {
    SentencePieceFile::Piece piece;
    for (Message m(bytes, where); m.next();) {
        if (m.field == 1) piece.text = m.bytes;
        if (m.field == 2) piece.score = m.real();
        if (m.field == 3) piece.type = m.integer();
    }
    std::string what = in_quotes(where) + ": piece " + std::to_string(index);
    if (piece.text.empty() || !valid_utf8(piece.text)) throw FileError(what + " is empty or not valid UTF-8");
    if (piece.type < 1 || piece.type > 6) throw FileError(what + " has the unknown type " + std::to_string(piece.type));
    if (std::isnan(piece.score)) throw FileError(what + " has no number for a score");
    return piece;
}

void parse_trainer(std::string_view bytes, SentencePieceFile& file, const std::string& where) {
    for (Message m(bytes, where); m.next();) {
        switch (m.field) {
            case 3:
                file.model_type = m.integer();
                break;
            case 24:
                file.whitespace_is_suffix = m.varint != 0;
                break;
            case 35:
                file.byte_fallback = m.varint != 0;
                break;
            case 40:
                file.unk = m.integer();
                break;
            case 41:
                file.bos = m.integer();
                break;
            case 42:
                file.eos = m.integer();
                break;
            case 43:
                file.pad = m.integer();
                break;
            default:
                break;
        }
    }
}

void parse_normalizer(std::string_view bytes, SentencePieceFile& file, const std::string& where) {
    for (Message m(bytes, where); m.next();) {
        switch (m.field) {
            case 1:
                file.normalizer = m.bytes;
                break;
            case 2:
                file.changes_characters = !m.bytes.empty();
                if (!m.bytes.empty()) check_charsmap(m.bytes, where);
                break;
            case 3:
                file.add_dummy_prefix = m.varint != 0;
                break;
            case 4:
                file.remove_extra_whitespaces = m.varint != 0;
                break;
            case 5:
                file.escape_whitespaces = m.varint != 0;
                break;
            default:
                break;
        }
    }
}

}  // namespace

SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& where) {
    SentencePieceFile file;
    for (Message m(bytes, where); m.next();) {
        if (m.field == 1) file.pieces.push_back(parse_piece(m.bytes, file.pieces.size(), where));
        if (m.field == 2) parse_trainer(m.bytes, file, where);
        if (m.field == 3) parse_normalizer(m.bytes, file, where);
    }
    if (file.pieces.empty()) throw FileError(in_quotes(where) + ": not a sentencepiece model: it has no pieces");
    auto n = static_cast<int>(file.pieces.size());
    for (int* id : {&file.unk, &file.bos, &file.eos, &file.pad}) {
        if (*id >= n)
            throw FileError(in_quotes(where) + ": the special id " + std::to_string(*id) + " is not below " +
                            std::to_string(n));
        if (*id < 0) *id = -1;
    }
    return file;
}

}  // namespace samba
