#include "engine/sentence_end.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "engine/sentences.h"
#include "engine/utf8.h"
#include "engine/words.h"

namespace samba {
namespace {

using Words = std::unordered_set<std::string_view>;

// Never the last word of a sentence.
const Words kTitles = {"Mr",   "Mrs",  "Ms",  "Mx",  "Dr",   "Prof", "Rev",  "Hon",  "St",   "Mt",  "Messrs",
                       "Mme",  "Mlle", "Gen", "Col", "Capt", "Lt",   "Sgt",  "Maj",  "Gov",  "Sen", "Rep",
                       "Pres", "Fr",   "Hr",  "Sra", "Dra",  "Miss", "Cmdr", "Adm",  "e.g",  "i.e", "viz",
                       "cf",   "vgl",  "bzw", "z.B", "d.h",  "u.a",  "Esq",  "Supt", "Insp", "Ald", "Mssrs"};
// Before a number, not the last word.
const Words kNumbered = {"No",  "Nos", "no", "nos", "Nr", "Fig", "Figs", "fig", "figs", "Eq", "Vol", "vol", "Ch", "ch",
                         "Sec", "sec", "pp", "p",   "ed", "Art", "art",  "Op",  "op",   "ca", "c",   "v",   "Bd", "S"};
// The last word only where a word that begins sentences follows; so are "U.S.", "a.m." and initials.
const Words kShort = {"etc", "Inc", "Ltd", "Co",  "Corp", "Jr",   "Sr",   "Bros", "vs",     "al",  "Ave", "Blvd", "Jan",
                      "Feb", "Mar", "Apr", "Jun", "Jul",  "Aug",  "Sep",  "Sept", "Oct",    "Nov", "Dec", "Mon",  "Tue",
                      "Wed", "Thu", "Fri", "Sat", "Sun",  "Dept", "dept", "est",  "approx", "ft",  "lb",  "lbs",  "oz",
                      "max", "min", "hr",  "hrs", "usw",  "Univ", "Ph",   "Fig",  "Figs",   "Eq",  "Vol", "Sec"};
const Words kStarters = {
    "The",      "He",     "She", "It",  "We",   "They",  "You",   "This", "That", "These", "Those", "In",    "On",
    "At",       "But",    "And", "If",  "When", "While", "There", "Then", "A",    "An",    "As",    "For",   "From",
    "After",    "Before", "His", "Her", "My",   "Our",   "Their", "What", "Who",  "How",   "Why",   "Where", "However",
    "Although", "Now",    "So",  "One", "Some", "Most",  "Many",  "No",   "Not",  "To",    "By",    "With",  "I"};

constexpr size_t kFarthest = 256;  // bytes of white space that are looked across
constexpr size_t kHeadingColumns = 45;

enum class Mark { kNone, kStrong, kWeak };  // strong: ends without white space behind it

Mark end_mark(char32_t c) {
    switch (c) {
        case '.':
        case '!':
        case '?':
        case 0x2026:
        case 0x203c:
        case 0x2047:
        case 0x2048:
        case 0x2049:
        case 0x061f:
        case 0x06d4:
        case 0x0589:
            return Mark::kWeak;
        case 0x3002:
        case 0xff01:
        case 0xff1f:
        case 0xff0e:
        case 0xff61:
        case 0x0964:
        case 0x0965:
        case 0x1362:
        case 0x104b:
        case 0x17d4:
        case 0x17d5:
            return Mark::kStrong;
        default:
            return Mark::kNone;
    }
}

bool is_closer(char32_t c) {
    switch (c) {
        case '"':
        case '\'':
        case ')':
        case ']':
        case '}':
        case 0x2019:
        case 0x201d:
        case 0xbb:
        case 0x203a:
        case 0x300d:
        case 0x300f:
        case 0xff09:
        case 0x3011:
        case 0x300b:
        case 0x3009:
        case 0xff3d:
            return true;
        default:
            return false;
    }
}

bool is_opener(char32_t c) {
    switch (c) {
        case '"':
        case '\'':
        case '(':
        case '[':
        case '{':
        case 0x2018:
        case 0x201c:
        case 0x201e:
        case 0xab:
        case 0x2039:
        case 0x300c:
        case 0x300e:
        case 0xff08:
        case 0x3010:
        case 0x300a:
        case 0x3008:
        case 0xbf:
        case 0xa1:
        case '*':
        case '_':
            return true;
        default:
            return false;
    }
}

struct NeedMore {};  // thrown within: the text ends before that can be told

// The text with the one rule for its edge: whoever looks beyond it, while more may come, is told to wait.
class Ahead {
  public:
    Ahead(std::string_view text, bool last) : text_(text), last_(last) {}

    bool at_end(size_t at) const {
        if (at < text_.size()) return false;
        if (!last_) throw NeedMore{};
        return true;
    }
    // 0 at the end of the text.
    Utf8Char at(size_t at) const {
        if (at_end(at)) return {Utf8Char::kValid, 0, 0};
        Utf8Char c = decode_utf8(text_.substr(at));
        if (c.kind == Utf8Char::kCut) {
            if (!last_) throw NeedMore{};
            c.length = 1;
        }
        return c;
    }
    std::string_view text() const { return text_; }

  private:
    std::string_view text_;
    bool last_;
};

// What stands behind a place: white space, then a character.
struct Following {
    size_t at = 0;       // of the character
    bool space = false;  // some white space
    int newlines = 0;    // in it
    char32_t code = 0;   // 0: the text ends, or only white space as far as one looks
};

Following following(const Ahead& text, size_t from) {
    Following f{from};
    for (;;) {
        Utf8Char c = text.at(f.at);
        if (c.length == 0 || f.at - from > kFarthest) return f;
        if (!is_white_space(c.code)) {
            f.code = c.code;
            return f;
        }
        f.space = true;
        if (c.code == '\n') ++f.newlines;
        f.at += static_cast<size_t>(c.length);
    }
}

// The word at a place, as far as it is short.
std::string_view word_at(const Ahead& text, size_t from) {
    size_t at = from;
    while (at - from < 16) {
        Utf8Char c = text.at(at);
        if (c.length == 0 || !is_word_character(c.code)) break;
        at += static_cast<size_t>(c.length);
    }
    return text.text().substr(from, at - from);
}

// A line that begins like a list's.
bool begins_item(const Ahead& text, size_t at) {
    Utf8Char c = text.at(at);
    char32_t next = text.at(at + static_cast<size_t>(c.length)).code;
    if (c.code == '-' || c.code == '*' || c.code == '+' || c.code == 0x2022 || c.code == 0x2013) return next == ' ';
    if (c.code < '0' || c.code > '9') return false;
    size_t digits = 0;
    while (digits < 4 && (c = text.at(at)).code >= '0' && c.code <= '9') {
        ++at;
        ++digits;
    }
    return (c.code == '.' || c.code == ')') && is_white_space(text.at(at + 1).code);
}

// The characters between the last white space, bracket or quotation mark and the period at `at`.
std::string_view word_before(std::string_view text, size_t at) {
    size_t from = at;
    while (from > 0) {
        auto c = static_cast<unsigned char>(text[from - 1]);
        bool part = c >= 0x80 || c == '.' || (c >= '0' && c <= '9') || is_upper(c) || is_lower(c);
        if (!part) break;
        --from;
    }
    std::string_view word = text.substr(from, at - from);
    // Quotation marks and dashes of three bytes before it are not part of it.
    for (std::string_view mark : {"\u2018", "\u201c", "\u2014", "\u2013", "\u00ab", "\u00bf", "\u00a1"}) {
        size_t end = word.rfind(mark);
        if (end != std::string_view::npos) word.remove_prefix(end + mark.size());
    }
    return word;
}

bool all_of(std::string_view word, std::string_view characters) {
    return word.find_first_not_of(characters) == std::string_view::npos;
}

// "a.m", "U.S", "Ph.D": letters with periods between them.
bool is_letters_with_periods(std::string_view word) {
    size_t longest = 0, run = 0;
    bool period = false;
    for (char c : word) {
        if (c == '.') {
            period = true;
            run = 0;
        } else if (is_upper(static_cast<unsigned char>(c)) || is_lower(static_cast<unsigned char>(c))) {
            longest = std::max(longest, ++run);
        } else {
            return false;
        }
    }
    return period && longest <= 2;
}

// Does the single period at `at` belong to its word? `next`: what follows it.
bool is_abbreviation(const Ahead& text, size_t at, const Following& next) {
    std::string_view word = word_before(text.text(), at);
    if (word.empty() || next.code == 0) return false;
    bool begins = word.data() == text.text().data();  // the sentence has nothing else yet
    if (begins && next.newlines == 0 && (all_of(word, "0123456789.") || all_of(word, "IVXLC"))) return true;
    if (kTitles.contains(word)) return true;
    bool number = next.code >= '0' && next.code <= '9';
    if (kNumbered.contains(word) && number) return true;
    bool initial = decode_utf8(word).length == static_cast<int>(word.size()) && word != "I" &&
                   (is_upper(decode_utf8(word).code) || begins);
    if (!initial && !kShort.contains(word) && !is_letters_with_periods(word)) return false;
    std::string_view word_after = word_at(text, next.at);
    bool initial_after = text.at(next.at + word_after.size()).code == '.';  // "J. A. Smith"
    return initial_after || !kStarters.contains(word_after);
}

// A line break at `at` ends a paragraph, or a heading or item on a line of its own.
std::optional<SentenceEnd> end_at_line_break(const Ahead& text, size_t at, bool first_line, char32_t before,
                                             size_t columns) {
    Following next = following(text, at);
    SentenceEnd end{at, false, false};
    if (next.newlines > 1 || next.code == 0) return end;
    end.heading = true;
    bool marked_heading = first_line && text.at(0).code == '#';  // Markdown
    if (marked_heading || begins_item(text, next.at)) return end;
    bool new_start = is_upper(next.code) || is_opener(next.code) || (next.code >= '0' && next.code <= '9');
    bool closed = is_word_character(before) || is_closer(before) || before == ':';
    if (first_line && columns <= kHeadingColumns && new_start && closed) return end;
    return {};
}

// The end mark at `at` and what belongs to it end the sentence, or not: then `length` is where to go on.
SentenceEnd end_at_mark(const Ahead& text, size_t at) {
    size_t end = at;
    Mark mark = Mark::kNone;
    bool closed = false;
    int marks = 0;
    for (int n = 0; n < 16; ++n) {
        Utf8Char c = text.at(end);
        if (c.length == 0) break;
        Mark more = end_mark(c.code);
        if (more == Mark::kNone && !is_closer(c.code)) break;
        if (more == Mark::kNone) closed = true;
        if (more != Mark::kNone) ++marks;
        if (more == Mark::kStrong || mark == Mark::kNone) mark = more;
        end += static_cast<size_t>(c.length);
    }
    Following next = following(text, end);
    auto decide = [&] {
        if (next.newlines > 1 || next.code == 0) return true;
        if (mark == Mark::kStrong) return next.space || !closed || is_opener(next.code);
        if (!next.space) return false;
        if (is_lower(next.code)) return false;
        bool goes_on = next.code == ',' || next.code == ';' || next.code == ':' || next.code == 0x2014 ||
                       next.code == 0x2013 || next.code == '-' || is_closer(next.code) ||
                       end_mark(next.code) != Mark::kNone;
        if (goes_on && !is_opener(next.code) && next.newlines == 0) return false;
        bool single_period = marks == 1 && text.text()[at] == '.' && !closed;
        return !(single_period && is_abbreviation(text, at, next));
    };
    return {end, decide(), false};
}

// Text without an end: cut between words, else between characters.
SentenceEnd forced_end(std::string_view text) {
    size_t word_end = 0, at = 0;
    while (at < text.size()) {
        Utf8Char c = decode_utf8(text.substr(at));
        if (at + static_cast<size_t>(c.length) > SentenceSplitter::kLongest) break;
        if (is_white_space(c.code)) word_end = at;
        at += static_cast<size_t>(c.length);
    }
    return {word_end > 0 ? word_end : at, false, false};
}

SentenceEnd without_space(std::string_view text, SentenceEnd end) {
    while (end.length > 0) {
        size_t from = end.length - 1;
        while (from > 0 && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80) --from;
        Utf8Char c = decode_utf8(text.substr(from, end.length - from));
        if (c.kind != Utf8Char::kValid || !is_white_space(c.code)) break;
        end.length = from;
    }
    return end;
}

SentenceEnd find(const Ahead& text, bool begins_line) {
    bool first_line = begins_line, by_mark = false;
    char32_t before = 0;
    size_t columns = 0, at = 0;
    while (at < SentenceSplitter::kLongest) {
        Utf8Char c = text.at(at);
        if (c.length == 0) return {at, by_mark, false};
        if (c.code == '\n') {
            std::optional<SentenceEnd> end = end_at_line_break(text, at, first_line, before, columns);
            if (end) {
                end->ended = by_mark;
                return *end;
            }
            first_line = false;
        }
        if (end_mark(c.code) != Mark::kNone) {
            SentenceEnd end = end_at_mark(text, at);
            if (end.length > SentenceSplitter::kLongest) break;
            if (end.ended) return end;
            columns += end.length - at;
            at = end.length;
            before = '.';
            by_mark = true;
            continue;
        }
        if (!is_white_space(c.code)) {
            before = c.code;
            by_mark = false;
        }
        ++columns;
        at += static_cast<size_t>(c.length);
    }
    text.at_end(SentenceSplitter::kLongest + 4);  // a cut does not depend on how much is here
    return forced_end(text.text());
}

}  // namespace

bool is_white_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200b) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 ||
           c == 0xfeff;
}

std::optional<SentenceEnd> find_sentence_end(std::string_view text, bool begins_line, bool last) {
    try {
        return without_space(text, find(Ahead(text, last), begins_line));
    } catch (const NeedMore&) {
        return {};
    }
}

}  // namespace samba
