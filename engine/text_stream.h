// Text at the edges: bytes coming in made valid, tokens going out as whole characters.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/tokenizer.h"

namespace samba {

// Makes a stream of bytes into text (docs/cli.md, input text): drops a leading UTF-8 BOM, CRLF becomes LF, an invalid
// byte becomes U+FFFD, U+2581 becomes a space; NUL is kept. UTF-16 is a FileError that names iconv. Any split is fine.
class InputText {
  public:
    std::string push(std::string_view bytes);
    std::string finish();
    const std::string& held() const { return held_; }  // the last bytes pushed, not given out yet
    int64_t invalid_bytes() const { return invalid_bytes_; }
    int64_t replaced_spaces() const { return replaced_spaces_; }  // U+2581

  private:
    std::string held_;  // the begin of a character, of CRLF or of a byte order mark
    bool begun_ = false;
    int64_t invalid_bytes_ = 0, replaced_spaces_ = 0;

    std::string convert(std::string_view bytes, bool last);
    size_t skip_mark(std::string_view bytes, bool last);
};
// All of it at once.
std::string clean_text(std::string_view bytes, int64_t* invalid_bytes = nullptr, int64_t* replaced_spaces = nullptr);

// Valid UTF-8 for JSON: each invalid byte becomes U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

// Turns sampled tokens into text and never gives out half a character. Copyable.
class TextStream {
  public:
    // strip_first_space: the tokenizer's own space before the first text token is not given out.
    explicit TextStream(const Tokenizer& tokenizer, bool strip_first_space);
    std::string push(int32_t id);  // the text that is whole now, perhaps empty
    std::string finish();          // what remains; an unfinished character as it is

  private:
    const Tokenizer* tokenizer_;
    bool strip_;
    std::string held_;
};

}  // namespace samba
