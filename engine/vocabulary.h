// The pieces of a tokenizer by id: their text, what they are, and the bytes they stand for.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/model_file.h"
#include "models/sentencepiece_file.h"

namespace samba {

// GGUF's and sentencepiece's numbers.
enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

class Vocabulary {
  public:
    // Pieces of the sentencepiece model, then those that only the token list has (added tokens). `control_pieces` and
    // data.added_ids become CONTROL. Throws FileError where list and model disagree.
    Vocabulary(const TokenizerData& data, const SentencePieceFile& model, std::span<const std::string> control_pieces);
    // Byte-level BPE: pieces are written in GPT-2's alphabet of 256 characters, one a byte.
    Vocabulary(const TokenizerData& data, std::span<const std::string> control_pieces);

    Vocabulary(const Vocabulary&) = delete;
    Vocabulary& operator=(const Vocabulary&) = delete;

    size_t size() const { return entries_.size(); }
    bool has(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < entries_.size(); }
    const std::string& piece(int32_t id) const { return entries_[static_cast<size_t>(id)].piece; }
    const std::string& bytes(int32_t id) const { return entries_[static_cast<size_t>(id)].bytes; }
    PieceType type(int32_t id) const { return entries_[static_cast<size_t>(id)].type; }
    std::optional<int32_t> id_of(std::string_view piece) const;  // the lowest id of that piece

  private:
    struct Entry {
        std::string piece, bytes;
        PieceType type;
    };
    std::vector<Entry> entries_;
    std::unordered_map<std::string_view, int32_t> ids_;  // views into entries_

    void index_pieces();
    void make_control(const TokenizerData& data, std::span<const std::string> control_pieces);
};

}  // namespace samba
