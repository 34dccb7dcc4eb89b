// Names out of untrusted files, for messages: in quotes, one line, short, whatever bytes they hold.
#pragma once
#include <string>
#include <string_view>

namespace samba {

std::string in_quotes(std::string_view text);  // "blk.0.\x1b[2J…"

// True when the bytes are valid UTF-8 (no surrogates, nothing over-long, nothing above U+10FFFF).
bool valid_utf8(std::string_view text);

}  // namespace samba
