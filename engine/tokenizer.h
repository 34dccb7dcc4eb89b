// Text to token ids and back. Control tokens come from templates alone: no text ever encodes to one.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "models/model_file.h"

namespace samba {

class Tokenizer {
  public:
    // `control_pieces`: pieces that the chat template uses and added tokens; they become CONTROL whatever the file
    // says. `vocab_size`: rows of the embedding; ids beyond the pieces exist but have no text. Throws FileError.
    Tokenizer(const TokenizerData& data, int64_t vocab_size, std::span<const std::string> control_pieces);
    ~Tokenizer();

    int64_t vocab_size() const;
    int32_t bos() const;  // -1: none
    int32_t eos() const;
    bool add_bos() const;
    const std::vector<int32_t>& end_ids() const;  // the tokens that end a text: samba.end_token_ids, else eos and eot

    // A TEXT encoded by itself, with the tokenizer's leading-space rule. Empty text: no ids.
    std::vector<int32_t> encode(std::string_view text) const;
    // The same without the leading space: the continuation of an earlier text.
    std::vector<int32_t> encode_continuation(std::string_view text) const;

    std::optional<int32_t> id_of(std::string_view piece) const;  // of any piece, control ones too
    std::string piece(int32_t id) const;                         // as the vocabulary has it; U+FFFD where there is none
    bool is_control(int32_t id) const;
    // The bytes that a token adds to a text (a leading U+2581 is a space); "" for control tokens, U+FFFD for ids
    // without a piece. Byte pieces give one byte, so a character may need several tokens.
    std::string bytes(int32_t id) const;
    // All of them joined; the tokenizer's own leading space of the first text token is dropped when
    // `strip_first_space`.
    std::string decode(std::span<const int32_t> ids, bool strip_first_space = true) const;

    // True when a TEXT gets a space of the tokenizer's own before its first character.
    bool adds_space() const;

    // True when a text may be cut between the characters a|b with the tokens of the whole unchanged: no piece holds ab.
    bool can_cut(char32_t a, char32_t b) const;
    // False when the normaliser or whitespace rules forbid cutting at all: streams are then cut at 64 KiB, and say so.
    bool exact_streams() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;

    friend class StreamEncoder;
    // Encodes `text` from cut to cut; `last`: no more text follows. Returns the bytes whose ids are out.
    size_t encode_runs(std::string_view text, bool continuation, bool last, std::vector<int32_t>& ids,
                       int64_t& forced_cuts) const;
};

// Encodes one TEXT that arrives in pieces; the ids equal those of the whole text. Holds at most 64 KiB: a text that
// offers no cut ("abab…") is cut there, which `forced_cuts` counts. Copyable: a fork goes on from the same place.
class StreamEncoder {
  public:
    explicit StreamEncoder(const Tokenizer& tokenizer, bool continuation = false);
    // Appends the ids that are certain now. `text` is any split of valid UTF-8 (InputText makes it valid).
    void push(std::string_view text, std::vector<int32_t>& ids);
    void finish(std::vector<int32_t>& ids);
    int64_t forced_cuts() const { return forced_cuts_; }
    const std::string& unfed() const { return tail_; }  // text whose ids are not out yet

  private:
    const Tokenizer* tokenizer_;
    bool started_;  // the first segment is out: the next are continuations
    std::string tail_;
    size_t look_at_;  // bytes of tail from which looking for cuts is worth it
    int64_t forced_cuts_ = 0;
};

}  // namespace samba
