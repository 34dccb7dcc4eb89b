#include "engine/vocabulary.h"

#include <algorithm>

#include "engine/byte_alphabet.h"
#include "engine/utf8.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

// "<0x0A>" stands for one byte.
std::string byte_of(const std::string& piece) {
    unsigned value = 0;
    bool hex = piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>';
    for (size_t i = 3; hex && i < 5; ++i) {
        char c = piece[i];
        unsigned digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10u : 16u;
        hex = digit < 16;
        value = value * 16 + digit;
    }
    if (!hex) throw FileError("the tokenizer's byte piece " + in_quotes(piece) + " is not of the form <0x0A>");
    return std::string(1, static_cast<char>(value));
}

std::string spaces_for_marks(std::string_view piece) {
    std::string out;
    while (!piece.empty()) {
        size_t mark = std::min(piece.find(kSpaceMarkUtf8), piece.size());
        out.append(piece.substr(0, mark));
        piece.remove_prefix(mark);
        if (piece.empty()) break;
        out.push_back(' ');
        piece.remove_prefix(kSpaceMarkUtf8.size());
    }
    return out;
}

PieceType listed_type(const TokenizerData& data, size_t id) {
    int type = id < data.types.size() ? data.types[id] : 1;
    return type >= 1 && type <= 6 ? static_cast<PieceType>(type) : PieceType::kUnused;
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerData& data, const SentencePieceFile& model,
                       std::span<const std::string> control_pieces) {
    size_t in_model = model.pieces.size();
    if (!data.tokens.empty() && data.tokens.size() < in_model) {
        throw FileError("tokenizer.ggml.tokens has " + std::to_string(data.tokens.size()) +
                        " pieces, tokenizer.sentencepiece.model has " + std::to_string(in_model));
    }
    entries_.resize(std::max(in_model, data.tokens.size()));
    std::vector<bool> added(entries_.size());
    for (uint32_t id : data.added_ids) {
        if (id < added.size()) added[id] = true;
    }
    for (size_t id = 0; id < entries_.size(); ++id) {
        Entry& e = entries_[id];
        e.piece = id < data.tokens.size() ? data.tokens[id] : model.pieces[id].text;
        e.type = listed_type(data, id);
        if (id >= in_model || e.type == PieceType::kControl) continue;
        e.type = static_cast<PieceType>(model.pieces[id].type);
        if (e.piece != model.pieces[id].text && !added[id]) {
            throw FileError("tokenizer.ggml.tokens[" + std::to_string(id) + "]: expected " +
                            in_quotes(model.pieces[id].text) + " as in tokenizer.sentencepiece.model, found " +
                            in_quotes(e.piece));
        }
    }
    make_control(data, control_pieces);
    for (Entry& e : entries_) {
        if (e.type == PieceType::kByte)
            e.bytes = byte_of(e.piece);
        else if (e.type == PieceType::kUnknown)
            e.bytes = kReplacementUtf8;
        else if (e.type != PieceType::kControl)
            e.bytes = spaces_for_marks(e.piece);
    }
}

Vocabulary::Vocabulary(const TokenizerData& data, std::span<const std::string> control_pieces) {
    entries_.resize(data.tokens.size());
    for (size_t id = 0; id < entries_.size(); ++id) {
        entries_[id].piece = data.tokens[id];
        entries_[id].type = listed_type(data, id);
    }
    make_control(data, control_pieces);
    for (Entry& e : entries_) {
        if (e.type == PieceType::kUserDefined)
            e.bytes = e.piece;
        else if (e.type != PieceType::kControl)
            e.bytes = bytes_of_alphabet(e.piece);
    }
}

void Vocabulary::make_control(const TokenizerData& data, std::span<const std::string> control_pieces) {
    index_pieces();
    for (uint32_t id : data.added_ids) {
        if (id < entries_.size()) entries_[id].type = PieceType::kControl;
    }
    for (const std::string& piece : control_pieces) {
        if (auto id = id_of(piece)) entries_[static_cast<size_t>(*id)].type = PieceType::kControl;
    }
}

void Vocabulary::index_pieces() {
    ids_.reserve(entries_.size());
    for (size_t id = 0; id < entries_.size(); ++id) ids_.emplace(entries_[id].piece, static_cast<int32_t>(id));
}

std::optional<int32_t> Vocabulary::id_of(std::string_view piece) const {
    auto it = ids_.find(piece);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
}

}  // namespace samba
