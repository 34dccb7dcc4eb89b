#include "models/quote.h"

#include <cstdint>

namespace samba {

std::string in_quotes(std::string_view text) {
    constexpr size_t kLongest = 80;
    constexpr char kHex[] = "0123456789abcdef";
    bool valid = valid_utf8(text);
    std::string out = "\"";
    for (size_t i = 0; i < text.size(); ++i) {
        auto c = static_cast<unsigned char>(text[i]);
        bool begins = (c & 0xc0) != 0x80;  // a cut never splits a character
        if (i >= kLongest && begins) {
            out += "…";
            break;
        }
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && !valid)) {
            out += "\\x";
            out += kHex[c >> 4];
            out += kHex[c & 15];
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += text[i];
        }
        if (!valid && i >= kLongest) break;
    }
    return out + "\"";
}

bool valid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        auto lead = static_cast<unsigned char>(text[i]);
        if (lead < 0x80) {
            ++i;
            continue;
        }
        size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || i + more >= text.size()) return false;
        uint32_t code = lead & (0x3fu >> more);
        for (size_t k = 1; k <= more; ++k) {
            auto c = static_cast<unsigned char>(text[i + k]);
            if ((c & 0xc0) != 0x80) return false;
            code = code << 6 | (c & 0x3fu);
        }
        bool too_long = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
        if (too_long || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
        i += more + 1;
    }
    return true;
}

}  // namespace samba
