// The typed ways to declare an option, over CLI11, so that every command reads values and reports mistakes alike.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace samba {

// `names` as CLI11 has them ("-n,--max-tokens", "PROMPT" for a positional). `value` is what help shows for the value
// ("N", "FILE"). Numbers are decimal, finite and within [least, most], whatever the locale; when an option that holds
// one value is given twice, the last one counts. A value that does not fit is a UsageError of one line.

CLI::Option* add_text(CLI::App& app, const std::string& names, std::string& target, const std::string& value,
                      const std::string& help);
CLI::Option* add_text(CLI::App& app, const std::string& names, std::optional<std::string>& target,
                      const std::string& value, const std::string& help);
// Repeatable: one value each time.
CLI::Option* add_texts(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                       const std::string& value, const std::string& help);
CLI::Option* add_choice(CLI::App& app, const std::string& names, std::string& target,
                        const std::vector<std::string>& choices, const std::string& help);
CLI::Option* add_flag(CLI::App& app, const std::string& names, bool& target, const std::string& help);

struct IntegerRange {
    int64_t least = 0, most = INT64_MAX;
};
CLI::Option* add_integer(CLI::App& app, const std::string& names, int64_t& target, const std::string& value,
                         const std::string& help, IntegerRange range = {});
CLI::Option* add_integer(CLI::App& app, const std::string& names, std::optional<int64_t>& target,
                         const std::string& value, const std::string& help, IntegerRange range = {});
// A comma-separated list; the option may also be repeated.
CLI::Option* add_integers(CLI::App& app, const std::string& names, std::vector<int64_t>& target,
                          const std::string& value, const std::string& help, IntegerRange range = {});
struct NumberRange {
    double least = 0, most = 1e30;
};
CLI::Option* add_number(CLI::App& app, const std::string& names, std::optional<float>& target, const std::string& value,
                        const std::string& help, NumberRange range = {});

// Repeatable, with a form of its own: `take` gets all values.
CLI::Option* add_values(CLI::App& app, const std::string& names, const std::string& value, const std::string& help,
                        std::function<void(const std::vector<std::string>&)> take);

// This option has no environment name and no config key: it belongs to one run (prompt, output, force, …).
CLI::Option* one_shot(CLI::Option* option);

// The values behind them; `option` names the option in the message. Throw UsageError.
int64_t parse_integer(const std::string& option, const std::string& text, IntegerRange range = {});
double parse_number(const std::string& option, const std::string& text, NumberRange range = {});
std::vector<int64_t> parse_integers(const std::string& option, const std::string& text, IntegerRange range = {});
// A size in bytes: "1G", "512M", "64K", "1000" (powers of 1024).
uint64_t parse_size(const std::string& option, const std::string& text);

}  // namespace samba
