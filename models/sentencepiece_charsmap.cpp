#include "models/sentencepiece_charsmap.h"

#include <cstdint>
#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

uint32_t unit_at(std::string_view units, uint64_t index) {
    uint32_t unit;
    std::memcpy(&unit, units.data() + 4 * index, 4);
    return unit;
}

// Of a node: bits 0-7 its label, 8 that it has a value, 9 that the offset is in 256s, 10-30 the offset; bit 31 marks a
// value, which no label matches.
bool is_value(uint32_t unit) { return unit >> 31; }
bool has_value(uint32_t unit) { return unit >> 8 & 1; }
uint64_t offset(uint32_t unit) { return static_cast<uint64_t>(unit >> 10) << (unit >> 9 & 1 ? 8 : 0); }

}  // namespace

void check_charsmap(std::string_view table, const std::string& where) {
    auto fail = [&](const std::string& what) {
        throw FileError(in_quotes(where) + ": broken normaliser table: " + what);
    };
    if (table.size() < 4) fail("it has " + std::to_string(table.size()) + " bytes");
    uint32_t trie_bytes = unit_at(table, 0);
    if (trie_bytes % 4 != 0 || trie_bytes >= table.size() - 4 || table.back() != '\0') {
        fail("a trie of " + std::to_string(trie_bytes) + " bytes and texts after it do not fill its " +
             std::to_string(table.size()) + " bytes");
    }
    std::string_view trie = table.substr(4, trie_bytes);
    uint64_t n_units = trie_bytes / 4, n_text = table.size() - 4 - trie_bytes;
    for (uint64_t i = 0; i < n_units; ++i) {
        uint32_t unit = unit_at(trie, i);
        if (is_value(unit)) continue;
        uint64_t children = i ^ offset(unit);  // that of byte c is children ^ c
        if ((children | 255) >= n_units) fail("unit " + std::to_string(i) + " leads out of it");
        if (has_value(unit) && (unit_at(trie, children) & 0x7FFFFFFF) >= n_text) {
            fail("unit " + std::to_string(i) + " names a text out of it");
        }
    }
    if (n_units == 0 || is_value(unit_at(trie, 0))) fail("its trie has no root");
}

}  // namespace samba
