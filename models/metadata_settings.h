// The metadata that a user may write (--set KEY=VALUE of convert and quantize).
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/gguf.h"

namespace samba {

// Sets KEY to VALUE in the key's type. Throws UsageError for an unknown key or a value that is not of its form.
void apply_setting(GgufMetadata& metadata, const std::string& key, const std::string& value);
inline void apply_settings(GgufMetadata& metadata, const std::vector<std::pair<std::string, std::string>>& settings) {
    for (const auto& [key, value] : settings) apply_setting(metadata, key, value);
}

}  // namespace samba
