#include "app/output.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

namespace samba {
namespace {

constexpr size_t kBufferBytes = 1 << 16;
std::string buffer;
std::string color_mode = "auto";

void write_all(const char* data, size_t bytes) {
    while (bytes > 0) {
        ssize_t n = ::write(STDOUT_FILENO, data, bytes);
        if (n >= 0) {
            data += n;
            bytes -= static_cast<size_t>(n);
        } else if (errno == EAGAIN) {  // someone made our stdout non-blocking
            pollfd wait{STDOUT_FILENO, POLLOUT, 0};
            ::poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            int error = errno;
            if (error == EPIPE) throw BrokenPipe("standard output: nobody reads it any more");
            throw FileError("standard output: cannot write: " + std::string(std::strerror(error)));
        }
    }
}

bool color_on(int fd) {
    if (color_mode != "auto") return color_mode == "on";
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return ::isatty(fd) && !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0);
}

void append_hex(std::string& out, unsigned char c) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[c >> 4];
    out += kDigits[c & 15];
}

// Bytes of the control character that a text begins with: C0, DEL, or C1 (U+0080…9F); 0: another character.
size_t control_length(std::string_view text) {
    auto c = static_cast<unsigned char>(text[0]);
    if (c < 0x20 || c == 0x7f) return 1;
    return c == 0xc2 && text.size() > 1 && static_cast<unsigned char>(text[1]) < 0xa0 ? 2 : 0;
}

std::string escaped(std::string_view text, bool one_line) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        size_t control = control_length(text.substr(i));
        bool stays = control == 0 || (!one_line && (text[i] == '\n' || text[i] == '\t'));
        if (stays) {
            out += text[i];
            continue;
        }
        i += control - 1;
        out += "\\x";
        append_hex(out, static_cast<unsigned char>(text[i]));
    }
    return out;
}

}  // namespace

void print(std::string_view data) {
    buffer += data;
    if (buffer.size() >= kBufferBytes) flush_output();
}

void flush_output() {
    std::string out = std::move(buffer);  // what cannot be written now is not tried again
    buffer.clear();
    write_all(out.data(), out.size());
}

void print_text(std::string_view text) {
    print(stdout_is_terminal() ? visible(text) : std::string(text));
    flush_output();
}

void print_json(const nlohmann::ordered_json& value) {
    std::string text = value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    std::string line;
    line.reserve(text.size() + 1);
    for (size_t i = 0; i < text.size(); ++i) {  // JSON lets DEL and C1 pass, a terminal obeys them
        size_t control = control_length(std::string_view(text).substr(i));
        if (control == 0) {
            line += text[i];
            continue;
        }
        i += control - 1;
        line += "\\u00";
        append_hex(line, static_cast<unsigned char>(text[i]));
    }
    print(line + "\n");
}

std::string visible(std::string_view text) { return escaped(text, false); }
std::string visible_line(std::string_view text) { return escaped(text, true); }

bool stdout_is_terminal() {
    static const bool terminal = ::isatty(STDOUT_FILENO);
    return terminal;
}

bool stderr_is_terminal() {
    static const bool terminal = ::isatty(STDERR_FILENO);
    return terminal;
}

bool color_on_stdout() { return color_on(STDOUT_FILENO); }
bool color_on_stderr() { return color_on(STDERR_FILENO); }
void set_color_mode(const std::string& mode) { color_mode = mode; }

int terminal_columns() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

std::string fixed(double value, int digits) {
    char text[400];
    auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits).ptr;
    return {text, end};
}

std::string human_bytes(double bytes) {
    constexpr const char* kUnits[] = {" B", " kB", " MB", " GB", " TB"};
    size_t unit = 0;
    while (bytes >= 999.95 && unit + 1 < std::size(kUnits)) {
        bytes /= 1000;
        ++unit;
    }
    return fixed(bytes, unit == 0 ? 0 : 1) + kUnits[unit];
}

std::string with_commas(int64_t n) {
    std::string digits = std::to_string(n);
    size_t first = digits[0] == '-' ? 1 : 0;
    for (size_t at = digits.size(); at > first + 3; at -= 3) digits.insert(at - 3, ",");
    return digits;
}

}  // namespace samba
