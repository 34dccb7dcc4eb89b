#include "engine/words.h"

#include <libstemmer.h>
#include <locale.h>
#include <wctype.h>

#include <map>

#include "engine/utf8.h"
#include "kernels/error.h"
#include "models/embedded.h"
#include "models/quote.h"

namespace samba {
namespace {

locale_t utf8_locale() {
    static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    return locale;
}

bool is_space(char32_t c) { return c <= 0x20 || c == 0xa0 || c == 0x3000 || (c >= 0x2000 && c <= 0x200b); }

char32_t lower(char32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return utf8_locale() ? static_cast<char32_t>(::towlower_l(static_cast<wint_t>(c), utf8_locale())) : c;
}

// The stop words that we have, by the name that Snowball gives the language.
std::unordered_set<std::string> read_stop_words(const std::string& language) {
    std::unordered_set<std::string> words;
    std::string_view text = embedded_file("prompts/stop-words/" + language + ".txt").value_or("");
    std::string word;
    for (char c : text) {
        if (static_cast<unsigned char>(c) > ' ') {
            word += c;
        } else if (!word.empty()) {
            words.insert(std::move(word));
            word.clear();
        }
    }
    return words;
}

// Names by codes, as libstemmer takes both but lists the names alone.
const std::map<std::string, std::string>& language_codes() {
    static const std::map<std::string, std::string> codes = {
        {"ar", "arabic"},   {"da", "danish"},  {"de", "german"},    {"en", "english"},
        {"es", "spanish"},  {"fi", "finnish"}, {"fr", "french"},    {"hu", "hungarian"},
        {"it", "italian"},  {"nl", "dutch"},   {"no", "norwegian"}, {"pt", "portuguese"},
        {"ro", "romanian"}, {"ru", "russian"}, {"sv", "swedish"},   {"tr", "turkish"}};
    return codes;
}

}  // namespace

bool is_upper(char32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z';
    return utf8_locale() && ::iswupper_l(static_cast<wint_t>(c), utf8_locale());
}

bool is_lower(char32_t c) {
    if (c < 0x80) return c >= 'a' && c <= 'z';
    return utf8_locale() && ::iswlower_l(static_cast<wint_t>(c), utf8_locale());
}

bool is_word_character(char32_t c) {
    if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return utf8_locale() && ::iswalnum_l(static_cast<wint_t>(c), utf8_locale());
}

bool is_ideographic(char32_t c) {
    auto within = [&](char32_t first, char32_t last) { return c >= first && c <= last; };
    return within(0x3040, 0x30ff) || within(0x31f0, 0x31ff) || within(0x3400, 0x9fff) || within(0xf900, 0xfaff) ||
           within(0xff66, 0xff9f) || within(0x20000, 0x3ffff);
}

size_t count_words(std::string_view text) {
    size_t words = 0, ideographs = 0;
    bool in_word = false;  // this run was counted
    while (!text.empty()) {
        Utf8Char c = decode_utf8(text);
        text.remove_prefix(static_cast<size_t>(c.length));
        if (is_ideographic(c.code)) {
            ++ideographs;
            in_word = false;
        } else if (is_space(c.code)) {
            in_word = false;
        } else if (!in_word && is_word_character(c.code)) {
            in_word = true;
            ++words;
        }
    }
    return words + (ideographs + 1) / 2;
}

struct WordStems::Stemmer {
    sb_stemmer* stemmer;
    ~Stemmer() { sb_stemmer_delete(stemmer); }
};

WordStems::WordStems(const std::string& language) {
    if (language == "none") return;
    auto code = language_codes().find(language);
    std::string name = code == language_codes().end() ? language : code->second;
    sb_stemmer* stemmer = sb_stemmer_new(name.c_str(), nullptr);
    if (!stemmer) {
        std::string known;
        for (const char** n = sb_stemmer_list(); *n; ++n) known += std::string(" ") + *n;
        throw UsageError("--lang " + in_quotes(language) + ": expected none or one of" + known);
    }
    stemmer_.reset(new Stemmer{stemmer});
    stop_words_ = read_stop_words(name);
}

WordStems::~WordStems() = default;

void WordStems::add(const std::string& word, std::vector<std::string>& stems) const {
    bool single = decode_utf8(word).length == static_cast<int>(word.size());
    if (single || stop_words_.contains(word)) return;
    if (!stemmer_) {
        stems.push_back(word);
        return;
    }
    const sb_symbol* stem = sb_stemmer_stem(stemmer_->stemmer, reinterpret_cast<const sb_symbol*>(word.data()),
                                            static_cast<int>(word.size()));
    if (!stem) throw MemoryError("out of memory while stemming a word");
    stems.emplace_back(reinterpret_cast<const char*>(stem), static_cast<size_t>(sb_stemmer_length(stemmer_->stemmer)));
}

std::vector<std::string> WordStems::of(std::string_view text) const {
    std::vector<std::string> stems;
    std::string word, last_ideograph;
    auto end_word = [&] {
        if (!word.empty()) add(word, stems);
        word.clear();
    };
    while (!text.empty()) {
        Utf8Char c = decode_utf8(text);
        std::string_view bytes = text.substr(0, static_cast<size_t>(c.length));
        text.remove_prefix(bytes.size());
        if (is_ideographic(c.code)) {
            end_word();
            if (!last_ideograph.empty()) stems.push_back(last_ideograph + std::string(bytes));
            last_ideograph = bytes;
            continue;
        }
        last_ideograph.clear();
        if (c.kind == Utf8Char::kValid && is_word_character(c.code)) {
            append_utf8(word, lower(c.code));
        } else {
            end_word();
        }
    }
    end_word();
    return stems;
}

}  // namespace samba
