// JSON from untrusted files: bounded depth, no duplicate keys, errors with our words.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace samba {

// Throws FileError: `where`, what is wrong and at which byte.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// The whole of a small text file (at most 64 MiB). Throws FileError.
std::string read_text_file(const std::string& path);

}  // namespace samba
