// What differs between kinds of tokenizers: how a run of text becomes ids, and where a text may be cut into runs.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace samba {

class TextEncoder {
  public:
    virtual ~TextEncoder() = default;
    // False: no cut keeps the tokens of the whole.
    virtual bool exact() const = 0;
    // The tokens of a text are those of its parts before and after a|b. Asked only of exact encoders.
    virtual bool can_cut(char32_t a, char32_t b) const = 0;
    // A TEXT gets the tokenizer's own space.
    virtual bool adds_space() const = 0;
    // Appends the ids of a run; `begins_text`: with the tokenizer's own space, if it adds one. Safe from any thread.
    virtual void encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const = 0;
};

}  // namespace samba
