// What a sentencepiece tokenizer.model holds: a protobuf message, of which the few fields that matter are read.
// Fields: sentencepiece_model.proto of https://github.com/google/sentencepiece.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace samba {

struct SentencePieceFile {
    struct Piece {
        std::string text;
        float score = 0;
        int type = 1;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte: GGUF's numbers as well
    };
    std::vector<Piece> pieces;
    int model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 char
    bool byte_fallback = false;
    int unk = 0, bos = 1, eos = 2, pad = -1;  // -1: none
    // The normaliser: its name, whether it changes characters, and what it does with white space.
    std::string normalizer;
    bool changes_characters = false;
    bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
    bool whitespace_is_suffix = false;

    // A stream may be cut between segments with the tokens of the whole text unchanged. (BPE alone: a unigram model
    // sums scores over the whole text, and rounding decides ties.)
    bool exact_streams() const {
        return model_type == 2 && !changes_characters && !remove_extra_whitespaces && escape_whitespaces &&
               !whitespace_is_suffix;
    }
};

// Throws FileError naming `where`.
SentencePieceFile parse_sentencepiece(std::string_view bytes, const std::string& where);

}  // namespace samba
