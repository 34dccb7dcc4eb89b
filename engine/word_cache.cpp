#include "engine/word_cache.h"

#include <xxhash.h>

#include <algorithm>

namespace samba {

size_t WordCache::place(std::string_view word) { return XXH3_64bits(word.data(), word.size()) % kEntries; }

bool WordCache::find(std::string_view word, std::vector<int32_t>& ids) const {
    if (word.empty() || word.size() > kLongest) return false;
    const Entry& e = entries_[place(word)];
    if (std::string_view(e.word, e.length) != word) return false;
    ids.insert(ids.end(), e.ids, e.ids + e.n_ids);
    return true;
}

void WordCache::put(std::string_view word, const std::vector<int32_t>& ids, size_t first) {
    size_t n = ids.size() - first;
    if (word.empty() || word.size() > kLongest || n > kMostIds) return;
    Entry& e = entries_[place(word)];
    e.length = static_cast<uint8_t>(word.size());
    e.n_ids = static_cast<uint8_t>(n);
    std::copy(word.begin(), word.end(), e.word);
    std::copy(ids.begin() + static_cast<ptrdiff_t>(first), ids.end(), e.ids);
}

}  // namespace samba
