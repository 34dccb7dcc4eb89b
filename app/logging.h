// The program's log, by spdlog's default logger (spdlog::info, warn, debug). On stderr a line is "samba-lm: message";
// debug lines with --verbose only, nothing but errors with --quiet. --log-file gets the same lines with time and level.
#pragma once
#include <string>

#include "app/options.h"

namespace samba {

void start_logging(const CommonOptions& common);  // throws FileError when the log file cannot be opened

// Prompt and reply text never goes to the log but with --verbose; then as debug lines.
bool log_is_verbose();
bool log_is_quiet();

}  // namespace samba
