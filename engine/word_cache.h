// The ids of short runs of text met before: prose repeats its words, and looking one up is ten times as fast as
// merging.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace samba {

// Fixed size (768 KiB), one place a hash: a newer word takes the place of an older one. Not for several threads at
// once.
class WordCache {
  public:
    WordCache() : entries_(kEntries) {}

    // Appends the ids of the word; false if it is not here.
    bool find(std::string_view word, std::vector<int32_t>& ids) const;
    // Keeps a word's ids, from `first` on; long ones are not kept.
    void put(std::string_view word, const std::vector<int32_t>& ids, size_t first);

  private:
    static constexpr size_t kEntries = 16384, kLongest = 22, kMostIds = 6;
    struct Entry {
        uint8_t length = 0, n_ids = 0;  // length 0: free
        char word[kLongest];
        int32_t ids[kMostIds];
    };
    std::vector<Entry> entries_;

    static size_t place(std::string_view word);
};

}  // namespace samba
