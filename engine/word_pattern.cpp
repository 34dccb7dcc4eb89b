#include "engine/word_pattern.h"

#include "engine/unicode.h"
#include "engine/utf8.h"

namespace samba {

namespace {

struct Character {
    size_t length;
    CharClass kind;
};
Character character_at(std::string_view text, size_t at) {
    Utf8Char c = decode_utf8(text.substr(at));
    if (c.kind != Utf8Char::kValid) return {1, CharClass::kOther};
    return {static_cast<size_t>(c.length), char_class(c.code)};
}

// Where the run of characters of one class that begins at `at` ends.
size_t class_end(std::string_view text, size_t at, CharClass kind) {
    while (at < text.size()) {
        Character c = character_at(text, at);
        if (c.kind != kind) break;
        at += c.length;
    }
    return at;
}

constexpr std::string_view kEndings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

size_t ending(std::string_view text) {
    for (std::string_view e : kEndings) {
        if (text.starts_with(e)) return e.size();
    }
    return 0;
}

// In any case; the long s is an s there too.
size_t ending_of_any_case(std::string_view text) {
    if (!text.starts_with('\'')) return 0;
    if (text.substr(1).starts_with("\u017f")) return 3;
    char lower[3];
    size_t n = 0;
    for (char c : text.substr(0, 3)) lower[n++] = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return ending(std::string_view(lower, n));
}

// White space, but the last before a word goes with the word: \s+(?!\S)|\s+
size_t space_length(std::string_view text) {
    size_t last = 0, end = character_at(text, 0).length;
    while (end < text.size()) {
        Character c = character_at(text, end);
        if (c.kind != CharClass::kSpace) return last > 0 ? last : end;
        last = end;
        end += c.length;
    }
    return end;
}

size_t gpt2_word(std::string_view text) {
    if (size_t length = ending(text)) return length;
    Character first = character_at(text, 0);
    if (first.kind != CharClass::kSpace) return class_end(text, first.length, first.kind);
    if (text[0] == ' ' && text.size() > 1) {
        Character second = character_at(text, 1);
        if (second.kind != CharClass::kSpace) return class_end(text, 1 + second.length, second.kind);
    }
    return space_length(text);
}

bool is_newline(char32_t c) { return c == U'\r' || c == U'\n'; }

size_t three_digits(std::string_view text) {
    size_t end = 0;
    for (int i = 0; i < 3 && end < text.size(); ++i) {
        Character c = character_at(text, end);
        if (c.kind != CharClass::kNumber) break;
        end += c.length;
    }
    return end;
}

size_t llama3_word(std::string_view text) {
    if (size_t length = ending_of_any_case(text)) return length;
    Character first = character_at(text, 0);
    if (first.kind == CharClass::kLetter) return class_end(text, first.length, CharClass::kLetter);
    if (first.kind == CharClass::kNumber) return three_digits(text);
    if (!is_newline(static_cast<unsigned char>(text[0]))) {  // any one character goes with the letters behind it
        size_t end = class_end(text, first.length, CharClass::kLetter);
        if (end > first.length) return end;
    }
    size_t from = text[0] == ' ' ? 1 : 0, end = class_end(text, from, CharClass::kOther);
    if (end > from) {  // punctuation, with the newlines behind it
        while (end < text.size() && is_newline(static_cast<unsigned char>(text[end]))) ++end;
        return end;
    }
    end = class_end(text, 0, CharClass::kSpace);
    size_t newline = text.substr(0, end).find_last_of("\r\n");
    return newline == std::string_view::npos ? space_length(text) : newline + 1;
}

}  // namespace

size_t first_word(std::string_view text, WordPattern pattern) {
    return pattern == WordPattern::kGpt2 ? gpt2_word(text) : llama3_word(text);
}

// Words never end inside a class (but for numbers and white space, which are not cut here), and a word's begin depends
// on nothing before it. White space looks ahead, so a text is not cut after it; nor where one pattern takes b with a.
bool words_part(char32_t a, char32_t b, WordPattern pattern) {
    CharClass left = char_class(a), right = char_class(b);
    if (left == CharClass::kSpace || left == right) return false;
    if (pattern == WordPattern::kGpt2) return !(a == U'\'' && right == CharClass::kLetter);
    return !(left == CharClass::kOther && (right == CharClass::kLetter || is_newline(b)));
}

}  // namespace samba
