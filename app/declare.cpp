#include "app/declare.h"

#include <CLI/App.hpp>
#include <charconv>
#include <cmath>

#include "app/output.h"
#include "kernels/error.h"

namespace samba {
namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& expected, const std::string& found) {
    throw UsageError(option + ": expected " + expected + ", found '" + visible_line(found) + "'");
}

constexpr int kManyArguments = 1 << 20;

// CLI11's own conversions read hexadecimal, octal, "nan" and lists in brackets; ours get each value as it was typed.
CLI::Option* declare(CLI::App& app, const std::string& names, const std::string& value, const std::string& help,
                     bool repeatable, CLI::callback_t take) {
    CLI::Option* option = app.add_option(names, std::move(take), help);
    // A repeatable positional takes every argument that is left; "extra arguments" would split one in brackets.
    bool many = repeatable && option->get_positional();
    option->type_name(value)->expected(many ? kManyArguments : 1)->allow_extra_args(false);
    option->multi_option_policy(repeatable ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
    return option;
}

std::string name_of(const std::string& names) {
    size_t comma = names.rfind(',');
    return comma == std::string::npos ? names : names.substr(comma + 1);
}

template <class Number>
std::string plain(Number value) {
    char text[64];
    auto end = std::to_chars(text, text + sizeof text, value).ptr;
    return {text, end};
}

std::string expected_number(const char* kind, const std::string& least, const std::string& most, bool unbounded) {
    return std::string(kind) + (unbounded ? " of at least " + least : " from " + least + " to " + most);
}

template <class Target>
CLI::Option* declare_text(CLI::App& app, const std::string& names, Target& target, const std::string& value,
                          const std::string& help) {
    return declare(app, names, value, help, false, [&target](const CLI::results_t& given) {
        target = given.back();
        return true;
    });
}

template <class Target>
CLI::Option* declare_integer(CLI::App& app, const std::string& names, Target& target, const std::string& value,
                             const std::string& help, IntegerRange range) {
    return declare(app, names, value, help, false,
                   [&target, range, name = name_of(names)](const CLI::results_t& given) {
                       target = parse_integer(name, given.back(), range);
                       return true;
                   });
}

}  // namespace

int64_t parse_integer(const std::string& option, const std::string& text, IntegerRange range) {
    int64_t value = 0;
    const char* first = text.data();
    const char* last = first + text.size();
    if (first != last && *first == '+' && last - first > 1 && first[1] != '-') ++first;
    auto [stop, error] = std::from_chars(first, last, value);
    if (error != std::errc{} || stop != last || first == last || value < range.least || value > range.most) {
        refuse(option,
               expected_number("a whole number", plain(range.least), plain(range.most), range.most == INT64_MAX), text);
    }
    return value;
}

double parse_number(const std::string& option, const std::string& text, NumberRange range) {
    double value = 0;
    const char* first = text.data();
    const char* last = first + text.size();
    if (first != last && *first == '+' && last - first > 1 && first[1] != '-') ++first;
    auto [stop, error] = std::from_chars(first, last, value);
    if (error != std::errc{} || stop != last || first == last || !std::isfinite(value) || value < range.least ||
        value > range.most) {
        std::string expected = range.least <= -1e30 ? "a number"
                                                    : expected_number("a number", plain(range.least), plain(range.most),
                                                                      range.most >= 1e30);
        refuse(option, expected, text);
    }
    return value;
}

std::vector<int64_t> parse_integers(const std::string& option, const std::string& text, IntegerRange range) {
    std::vector<int64_t> values;
    size_t at = 0;
    while (at <= text.size()) {
        size_t comma = std::min(text.find(',', at), text.size());
        values.push_back(parse_integer(option, text.substr(at, comma - at), range));
        at = comma + 1;
    }
    return values;
}

uint64_t parse_size(const std::string& option, const std::string& text) {
    std::string digits = text;
    uint64_t unit = 1;
    if (!digits.empty() && (digits.back() == 'B' || digits.back() == 'b')) digits.pop_back();
    constexpr std::string_view kUnits = "kKmMgGtT";
    size_t found = digits.empty() ? std::string_view::npos : kUnits.find(digits.back());
    if (found != std::string_view::npos) {
        unit = uint64_t{1} << (10 * (found / 2 + 1));
        digits.pop_back();
    }
    int64_t most = INT64_MAX / static_cast<int64_t>(unit);
    uint64_t count = 0;
    auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (error != std::errc{} || stop != digits.data() + digits.size() || digits.empty() ||
        count > static_cast<uint64_t>(most)) {
        refuse(option, "a size such as 512M or 1G", text);
    }
    return count * unit;
}

CLI::Option* add_text(CLI::App& app, const std::string& names, std::string& target, const std::string& value,
                      const std::string& help) {
    return declare_text(app, names, target, value, help);
}

CLI::Option* add_text(CLI::App& app, const std::string& names, std::optional<std::string>& target,
                      const std::string& value, const std::string& help) {
    return declare_text(app, names, target, value, help);
}

CLI::Option* add_texts(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                       const std::string& value, const std::string& help) {
    return declare(app, names, value, help, true, [&target](const CLI::results_t& given) {
        target = given;
        return true;
    });
}

CLI::Option* add_choice(CLI::App& app, const std::string& names, std::string& target,
                        const std::vector<std::string>& choices, const std::string& help) {
    std::string shown;
    for (const std::string& choice : choices) shown += (shown.empty() ? "" : "|") + choice;
    return declare(app, names, shown, help, false,
                   [&target, choices, shown, name = name_of(names)](const CLI::results_t& given) {
                       for (const std::string& choice : choices) {
                           if (CLI::detail::to_lower(given.back()) == choice) {
                               target = choice;
                               return true;
                           }
                       }
                       refuse(name, shown, given.back());
                   });
}

CLI::Option* add_flag(CLI::App& app, const std::string& names, bool& target, const std::string& help) {
    return app.add_flag(names, target, help);
}

CLI::Option* add_integer(CLI::App& app, const std::string& names, int64_t& target, const std::string& value,
                         const std::string& help, IntegerRange range) {
    return declare_integer(app, names, target, value, help, range);
}

CLI::Option* add_integer(CLI::App& app, const std::string& names, std::optional<int64_t>& target,
                         const std::string& value, const std::string& help, IntegerRange range) {
    return declare_integer(app, names, target, value, help, range);
}

CLI::Option* add_integers(CLI::App& app, const std::string& names, std::vector<int64_t>& target,
                          const std::string& value, const std::string& help, IntegerRange range) {
    return declare(app, names, value, help, true, [&target, range, name = name_of(names)](const CLI::results_t& given) {
        target.clear();
        for (const std::string& list : given) {
            std::vector<int64_t> more = parse_integers(name, list, range);
            target.insert(target.end(), more.begin(), more.end());
        }
        return true;
    });
}

CLI::Option* add_number(CLI::App& app, const std::string& names, std::optional<float>& target, const std::string& value,
                        const std::string& help, NumberRange range) {
    return declare(app, names, value, help, false,
                   [&target, range, name = name_of(names)](const CLI::results_t& given) {
                       target = static_cast<float>(parse_number(name, given.back(), range));
                       return true;
                   });
}

CLI::Option* add_values(CLI::App& app, const std::string& names, const std::string& value, const std::string& help,
                        std::function<void(const std::vector<std::string>&)> take) {
    return declare(app, names, value, help, true, [take = std::move(take)](const CLI::results_t& given) {
        take(given);
        return true;
    });
}

CLI::Option* one_shot(CLI::Option* option) { return option->configurable(false); }

}  // namespace samba
