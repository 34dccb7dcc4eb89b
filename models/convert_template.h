// The chat template of a checkpoint's directory: its Jinja text recognised as one of ours, and written as metadata.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/gguf.h"

namespace samba {

// A directory's own Jinja text: chat_template.jinja, or in tokenizer_config.json (a string, or a list with a
// "default"); empty: none.
std::string jinja_text(const std::string& directory, const std::optional<nlohmann::json>& tokenizer_config);

// Which of our templates a Jinja text is, by the marks that only it has; empty: none.
std::string recognise_template(const std::string& jinja);

// Stores our template of that name as samba.chat_template and returns the ids of its end tokens. Throws UsageError for
// a name that is none, FileError where `tokens` lack one that it uses.
std::vector<uint32_t> write_template(const std::string& name, const std::vector<std::string>& tokens,
                                     GgufMetadata& metadata);

}  // namespace samba
