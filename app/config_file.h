// The config file: sections [command] of lines `option = value`, with # or ; for comments. A value in double quotes is
// what stands between them; another one ends before " #". An option that may be repeated has several lines.
#pragma once
#include <string>
#include <vector>

namespace samba {

struct ConfigEntry {
    std::string key;
    std::vector<std::string> values;  // of all lines with this key
    std::string where;                // "FILE:LINE" of the first, for messages
};

// The entries of one section, in the order of the file. Throws FileError (unreadable) or UsageError (a line that is
// neither, a section that is no command).
std::vector<ConfigEntry> read_config_section(const std::string& path, const std::string& section);

}  // namespace samba
