// Byte-level BPE (GPT-2, GPT-NeoX, Llama 3): text is split into words by a pattern, a word's bytes are merged by rank.
// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
#pragma once
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "engine/text_encoder.h"
#include "engine/vocabulary.h"
#include "engine/word_pattern.h"

namespace samba {

class BpeEncoder : public TextEncoder {
  public:
    // data.pre: "gpt-2", "gpt-neox" (text is normalised to NFC first), or "llama-bpe" (Llama 3's pattern; a word that
    // is a piece is that piece). USER_DEFINED pieces are found in the text before it is split; CONTROL pieces never.
    // Throws FileError.
    BpeEncoder(const TokenizerData& data, const Vocabulary& vocabulary);

    bool exact() const override { return exact_; }
    bool can_cut(char32_t a, char32_t b) const override;
    bool adds_space() const override { return adds_space_; }
    void encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const override;

  private:
    struct Merge {
        int32_t rank, id;
    };
    struct Added {
        std::string text;
        int32_t id;
    };
    WordPattern pattern_ = WordPattern::kGpt2;
    bool nfc_ = false, adds_space_, exact_ = true;
    std::array<int32_t, 256> byte_ids_;
    std::unordered_map<uint64_t, Merge> merges_;            // by the ids of left and right
    std::unordered_map<std::string, int32_t> whole_words_;  // pieces by their bytes; empty: words are merged only
    std::array<std::vector<Added>, 256> added_;             // by their first byte, longest first
    std::unordered_set<uint64_t> added_pairs_;              // characters that stand side by side in one of them

    void read_bytes(const Vocabulary& vocabulary);
    void read_merges(const TokenizerData& data, const Vocabulary& vocabulary);
    void read_whole_words(const Vocabulary& vocabulary);
    void read_added(const Vocabulary& vocabulary);
    const Added* added_at(std::string_view text) const;
    void encode_words(std::string_view text, bool begins_text, std::vector<int32_t>& ids) const;
    void encode_word(std::string_view word, std::vector<int32_t>& ids) const;
};

}  // namespace samba
