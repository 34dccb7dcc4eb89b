#include "kernels/dtype.h"

namespace samba {

std::optional<DType> parse_dtype(std::string_view name) {
    auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
    for (const TypeInfo& t : kTypes) {
        std::string_view known = t.name;
        if (known.size() != name.size()) continue;
        size_t i = 0;
        while (i < name.size() && upper(name[i]) == known[i]) ++i;
        if (i == name.size()) return t.type;
    }
    return std::nullopt;
}

}  // namespace samba
