// stdout and its checks: generated text and asked-for data only; everything else goes through app/logging.h to stderr.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "kernels/error.h"

namespace samba {

// Whoever read our stdout has gone. chat, complete and summarize end well then, other commands with 1 (main.cpp).
struct BrokenPipe : Error {
    using Error::Error;
};

// Each throws FileError when the bytes cannot be written (a full disk), BrokenPipe when nobody reads any more.
// print_text: generated text. On a terminal control characters show as \x1b; into a pipe it goes unchanged. Appears at
// once.
void print_text(std::string_view text);
// print: data that the program made itself; control characters that came from a file must have been made visible().
void print(std::string_view data);
// One line of JSON; invalid UTF-8 becomes U+FFFD, every control character is escaped.
void print_json(const nlohmann::ordered_json& value);
// Everything to the other side; main calls it once more at the end.
void flush_output();

// Control characters other than newline and tab as \x1b (C1 ones too), for terminals.
std::string visible(std::string_view text);
// The same, newline and tab included: one line whatever it holds.
std::string visible_line(std::string_view text);

bool stdout_is_terminal();
bool stderr_is_terminal();
// --color, NO_COLOR, TERM=dumb, and whether that stream is a terminal.
bool color_on_stdout();
bool color_on_stderr();
void set_color_mode(const std::string& mode);  // auto, on, off
// Columns of the terminal on stderr, else 80.
int terminal_columns();

// For people: "93.5 MB", "1.2 GB" (powers of 1000); "1,234,567".
std::string human_bytes(double bytes);
std::string with_commas(int64_t n);
// A number with that many digits after the point, whatever the locale.
std::string fixed(double value, int digits);

}  // namespace samba
