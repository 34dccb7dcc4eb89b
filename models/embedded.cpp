#include "models/embedded.h"

#include <algorithm>

namespace samba {

std::optional<std::string_view> embedded_file(std::string_view path) {
    for (const auto* f = detail::kEmbeddedFiles; !f->path.empty(); ++f) {
        if (f->path == path) return f->text;
    }
    return std::nullopt;
}

std::vector<std::string> embedded_names(std::string_view folder) {
    std::vector<std::string> names;
    for (const auto* f = detail::kEmbeddedFiles; !f->path.empty(); ++f) {
        size_t slash = f->path.rfind('/');
        if (slash == std::string_view::npos || f->path.substr(0, slash) != folder) continue;
        std::string_view name = f->path.substr(slash + 1);
        names.emplace_back(name.substr(0, name.rfind('.')));
    }
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace samba
