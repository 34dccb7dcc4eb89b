// Text to ids with the sentencepiece library, from the bytes of tokenizer.model.
#pragma once
#include <memory>
#include <unordered_set>

#include "engine/text_encoder.h"
#include "engine/vocabulary.h"
#include "models/sentencepiece_file.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace samba {

class SentencePieceEncoder : public TextEncoder {
  public:
    // `model` are the bytes that `file` was read from. Pieces that the vocabulary calls CONTROL, text never produces.
    // Throws FileError.
    SentencePieceEncoder(std::string_view model, const SentencePieceFile& file, const Vocabulary& vocabulary);
    ~SentencePieceEncoder() override;

    bool exact() const override { return exact_; }
    bool can_cut(char32_t a, char32_t b) const override;
    bool adds_space() const override { return adds_space_; }
    void encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const override;

  private:
    // Where streams are exact, one processor that adds no space serves all runs; else the first run needs the model as
    // it is.
    std::unique_ptr<sentencepiece::SentencePieceProcessor> inside_, beginning_;
    bool exact_, adds_space_, drops_spaces_, merges_unknown_;
    std::unordered_set<uint64_t> pairs_;       // characters that stand side by side in a piece
    std::unordered_set<char32_t> characters_;  // that are a piece by themselves
};

}  // namespace samba
