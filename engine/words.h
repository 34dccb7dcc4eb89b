// Words of a text: how many it has, and what they are reduced to where sentences are compared.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace samba {

// Of any script, whatever the process's locale.
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_word_character(char32_t c);  // letters, digits, marks
// Han, Hiragana, Katakana: written without spaces; two of them count as a word.
bool is_ideographic(char32_t c);

// Runs without white space that hold a letter or digit.
size_t count_words(std::string_view text);

// Lower case, letters and digits, without stop words and single letters, stemmed. Text without spaces gives the pairs
// of neighbouring characters.
class WordStems {
  public:
    // A language of Snowball's by name or code ("english", "en"), or "none": no stemming, no stop words. Throws
    // UsageError.
    explicit WordStems(const std::string& language);
    ~WordStems();

    std::vector<std::string> of(std::string_view text) const;

  private:
    struct Stemmer;
    std::unique_ptr<Stemmer> stemmer_;  // null: none
    std::unordered_set<std::string> stop_words_;

    void add(const std::string& word, std::vector<std::string>& stems) const;
};

}  // namespace samba
