// Data files of the source tree that are compiled into the program: presets, chat templates, prompts
// (models/embed.cmake).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace samba {

// The bytes of a file, by its path from the source root ("models/presets/samba-421m.json").
std::optional<std::string_view> embedded_file(std::string_view path);

// The names of the files directly in a folder, without folder and extension, sorted ("models/presets": "samba-421m",
// …).
std::vector<std::string> embedded_names(std::string_view folder);

namespace detail {
struct EmbeddedFile {
    std::string_view path, text;
};
extern const EmbeddedFile kEmbeddedFiles[];  // ends with an empty path
}  // namespace detail

}  // namespace samba
