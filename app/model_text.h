// What commands say about models and files, in words.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace samba {

// The model's own name, else the file's.
std::string model_name(const Engine& engine);

// "12: 6 mamba, 6 attention (window 2,048), each with an MLP"
std::string blocks_text(const Config& config);

std::string joined(const std::vector<std::string>& words);  // "a, b, c"
std::string settable_text();                                // the keys of --set, with the form of their values

// KEY=VALUE, split at the first '='. Throws UsageError.
std::vector<std::pair<std::string, std::string>> key_values(const std::string& option,
                                                            const std::vector<std::string>& given);

// Throws UsageError "OPTION is missing" unless it was given.
void require(const std::string& option, bool given);

}  // namespace samba
