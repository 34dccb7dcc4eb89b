// Finds the sentences of a text that arrives as a stream of bytes.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace samba {

struct Sentence {
    std::string text;            // the bytes of the input, without the white space around them
    uint64_t offset = 0;         // of its first byte in the stream
    bool ended = false;          // by an end mark, quotation marks and brackets behind it included
    bool new_paragraph = false;  // a blank line, or a heading's line end, stands before it

    bool operator==(const Sentence&) const = default;
};

// A sentence ends behind . ! ? … and other scripts' marks (。！？؟।), or where a paragraph ends: at a blank line,
// behind a heading or list item on a line of its own. Abbreviations ("Mr. Harker", "e.g. this"), initials, numbers and
// marks inside a quotation that its sentence goes on after do not end one. Whatever the split of the stream, the
// sentences are those of the whole; every character that is no white space belongs to one. A sentence holds at most
// kLongest bytes: text without an end is cut there, between words where it has some.
class SentenceSplitter {
  public:
    static constexpr size_t kLongest = 4096;
    using Take = std::function<void(Sentence&&)>;

    void push(std::string_view bytes, const Take& take);
    void finish(const Take& take);

    // To go on from here in another process.
    struct State {
        std::string held;
        uint64_t offset = 0;
        int newlines = 2;
    };
    const State& state() const { return state_; }
    void resume(State state) { state_ = std::move(state); }

  private:
    State state_;  // text without its sentence's end yet, where it begins, and the line ends in the space before it

    void scan(bool last, const Take& take);
    size_t skip_space(std::string_view text, bool last);
};

}  // namespace samba
