#include "app/config_file.h"

#include <algorithm>

#include "app/commands.h"
#include "app/options.h"
#include "app/output.h"
#include "kernels/error.h"

namespace samba {
namespace {

std::string trimmed(const std::string& text) {
    size_t first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

// `text` is what follows the '='.
std::string value_of(const std::string& text, const std::string& where) {
    std::string value = trimmed(text);
    if (!value.starts_with('"')) return trimmed(value.substr(0, value.find(" #")));
    size_t end = value.rfind('"');
    std::string rest = trimmed(value.substr(end + 1));
    if (end == 0 || !(rest.empty() || rest.starts_with('#') || rest.starts_with(';'))) {
        throw UsageError(where + ": the closing quote is missing");
    }
    return value.substr(1, end - 1);
}

}  // namespace

std::vector<ConfigEntry> read_config_section(const std::string& path, const std::string& section) {
    std::string text = read_file(path);
    std::vector<ConfigEntry> entries;
    std::string current;
    int number = 0;
    for (size_t at = 0; at < text.size(); ++number) {
        size_t end = std::min(text.find('\n', at), text.size());
        std::string line = trimmed(text.substr(at, end - at));
        at = end + 1;
        std::string where = visible_line(path) + ":" + std::to_string(number + 1);
        if (line.empty() || line[0] == '#' || line[0] == ';') continue;
        if (line.front() == '[' && line.back() == ']') {
            current = trimmed(line.substr(1, line.size() - 2));
            if (!find_command(current)) throw UsageError(where + ": [" + visible_line(current) + "] is no command");
            continue;
        }
        size_t equals = line.find('=');
        if (equals == std::string::npos) throw UsageError(where + ": expected 'option = value'");
        if (current.empty())
            throw UsageError(where + ": expected a section such as [complete] before the first option");
        if (current != section) continue;
        std::string key = trimmed(line.substr(0, equals));
        auto same = std::find_if(entries.begin(), entries.end(), [&](const ConfigEntry& e) { return e.key == key; });
        if (same == entries.end()) same = entries.insert(same, {key, {}, where});
        same->values.push_back(value_of(line.substr(equals + 1), where));
    }
    return entries;
}

}  // namespace samba
