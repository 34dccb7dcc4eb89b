// Byte-level BPE (GPT-2, GPT-NeoX): text is split into words by GPT-2's pattern, a word's bytes are merged by rank.
// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
#pragma once
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "engine/text_encoder.h"
#include "engine/vocabulary.h"

namespace samba {

class BpeEncoder : public TextEncoder {
  public:
    // data.pre: "gpt-2", or "gpt-neox" (text is normalised to NFC first). USER_DEFINED pieces are found in the text
    // before it is split; CONTROL pieces never. Throws FileError.
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
    bool nfc_ = false, adds_space_, exact_ = true;
    std::array<int32_t, 256> byte_ids_;
    std::unordered_map<uint64_t, Merge> merges_;  // by the ids of left and right
    std::array<std::vector<Added>, 256> added_;   // by their first byte, longest first
    std::unordered_set<uint64_t> added_pairs_;    // characters that stand side by side in one of them

    void read_bytes(const Vocabulary& vocabulary);
    void read_merges(const TokenizerData& data, const Vocabulary& vocabulary);
    void read_added(const Vocabulary& vocabulary);
    const Added* added_at(std::string_view text) const;
    void encode_words(std::string_view text, bool begins_text, std::vector<int32_t>& ids) const;
    void encode_word(std::string_view word, std::vector<int32_t>& ids) const;
};

// The bytes of the first word of a text that is not empty, by GPT-2's pattern:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t first_word(std::string_view text);

}  // namespace samba
