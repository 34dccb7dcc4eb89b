#include "engine/unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/utf8.h"

namespace samba {

namespace {

struct ClassRange {
    char32_t first, last;
    CharClass value;
};
struct CombiningRange {
    char32_t first, last;
    int value;
};
struct Decomposition {
    char32_t code, first, second;
};
struct Replacement {
    char32_t code, by;
};
constexpr CharClass kL = CharClass::kLetter, kN = CharClass::kNumber, kS = CharClass::kSpace;
#include "engine/unicode_classes.inc"
#include "engine/unicode_compositions.inc"

template <class Range, size_t n>
const Range* find_range(const Range (&ranges)[n], char32_t c) {
    auto next = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                 [](char32_t code, const Range& r) { return code < r.first; });
    if (next == std::begin(ranges) || std::prev(next)->last < c) return nullptr;
    return &*std::prev(next);
}

int combining_class(char32_t c) {
    const auto* range = find_range(kCombiningRanges, c);
    return range ? range->value : 0;
}

// Hangul syllables are made by rule (Unicode, section 3.12): 19 leading, 21 vowel, 27 trailing letters.
constexpr char32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11A7;
constexpr char32_t kNLeading = 19, kNVowels = 21, kNTrailing = 28, kNSyllables = kNLeading * kNVowels * kNTrailing;

bool within(char32_t c, char32_t first, char32_t count) { return c >= first && c - first < count; }

struct Tables {
    std::unordered_map<char32_t, std::array<char32_t, 2>> decomposed;  // second 0: one character
    std::unordered_map<uint64_t, char32_t> composed;
    std::unordered_set<char32_t> composes_back, changes;

    Tables() {
        for (const Decomposition& d : kCompositions) {
            decomposed[d.code] = {d.first, d.second};
            composed[key(d.first, d.second)] = d.code;
            composes_back.insert(d.second);
        }
        for (const Decomposition& d : kDecompositions) {
            decomposed[d.code] = {d.first, d.second};
            changes.insert(d.code);
        }
        for (const Replacement& r : kReplacements) {
            decomposed[r.code] = {r.by, 0};
            changes.insert(r.code);
        }
    }
    static uint64_t key(char32_t a, char32_t b) { return static_cast<uint64_t>(a) << 32 | b; }
};

const Tables& tables() {
    static const Tables t;
    return t;
}

void decompose(char32_t c, std::u32string& out) {
    if (within(c, kSyllables, kNSyllables)) {
        char32_t s = c - kSyllables;
        out.push_back(kLeading + s / (kNVowels * kNTrailing));
        out.push_back(kVowels + s % (kNVowels * kNTrailing) / kNTrailing);
        if (s % kNTrailing != 0) out.push_back(kTrailing + s % kNTrailing);
        return;
    }
    auto it = tables().decomposed.find(c);
    if (it == tables().decomposed.end()) {
        out.push_back(c);
        return;
    }
    decompose(it->second[0], out);
    if (it->second[1] != 0) decompose(it->second[1], out);
}

char32_t compose(char32_t a, char32_t b) {  // 0: they do not compose
    if (within(a, kLeading, kNLeading) && within(b, kVowels, kNVowels)) {
        return kSyllables + ((a - kLeading) * kNVowels + (b - kVowels)) * kNTrailing;
    }
    if (within(a, kSyllables, kNSyllables) && (a - kSyllables) % kNTrailing == 0 &&
        within(b, kTrailing + 1, kNTrailing - 1)) {
        return a + (b - kTrailing);
    }
    auto it = tables().composed.find(Tables::key(a, b));
    return it == tables().composed.end() ? 0 : it->second;
}

// Marks by combining class, those of one class in their order; a starter holds its place.
void order_marks(std::u32string& text) {
    for (size_t i = 0; i < text.size();) {
        size_t end = i;
        while (end < text.size() && combining_class(text[end]) != 0) ++end;
        std::stable_sort(text.begin() + static_cast<ptrdiff_t>(i), text.begin() + static_cast<ptrdiff_t>(end),
                         [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
        i = end + 1;
    }
}

// A character joins the last starter unless something between them has its class or a higher one.
std::u32string compose_all(const std::u32string& text) {
    std::u32string out;
    size_t starter = std::u32string::npos;
    int last_class = 0;  // of the characters kept since the starter; 0: none
    for (char32_t c : text) {
        int own = combining_class(c);
        bool reachable =
            starter != std::u32string::npos && (starter + 1 == out.size() || (last_class != 0 && last_class < own));
        if (reachable) {
            if (char32_t joined = compose(out[starter], c)) {
                out[starter] = joined;
                continue;
            }
        }
        if (own == 0) starter = out.size();
        last_class = own;
        out.push_back(c);
    }
    return out;
}

constexpr char32_t kRawByte = 0x110000;  // an invalid byte on its way through, above all characters

}  // namespace

CharClass char_class(char32_t c) {
    const auto* range = find_range(kClassRanges, c);
    return range ? range->value : CharClass::kOther;
}

std::string nfc(std::string_view text) {
    // Nothing below U+0300 changes or composes with what is before it.
    auto low = [](char c) { return static_cast<unsigned char>(c) < 0xCC; };
    if (std::all_of(text.begin(), text.end(), low)) return std::string(text);
    std::u32string decomposed;
    while (!text.empty()) {
        Utf8Char c = decode_utf8(text);
        bool valid = c.kind == Utf8Char::kValid;
        if (valid)
            decompose(c.code, decomposed);
        else
            decomposed.push_back(kRawByte + static_cast<unsigned char>(text[0]));
        text.remove_prefix(valid ? static_cast<size_t>(c.length) : 1);
    }
    order_marks(decomposed);
    std::string out;
    for (char32_t c : compose_all(decomposed)) {
        if (c >= kRawByte)
            out.push_back(static_cast<char>(c - kRawByte));
        else
            append_utf8(out, c);
    }
    return out;
}

bool nfc_boundary(char32_t c) {
    if (c < 0x300) return true;
    const Tables& t = tables();
    return combining_class(c) == 0 && !t.changes.contains(c) && !t.composes_back.contains(c) &&
           !within(c, kVowels, kNVowels) && !within(c, kTrailing + 1, kNTrailing - 1);
}

}  // namespace samba
