// Token ids as a user gives them: --ids LIST|FILE.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace samba {

// A list if it begins with a digit or is empty, else a file (also @FILE, "-" for stdin). Ids are separated by commas,
// spaces or newlines; brackets around them are fine. Throws UsageError for anything else, or an id outside [0,
// n_vocab).
std::vector<int32_t> parse_ids(const std::string& list_or_file, int64_t n_vocab);

}  // namespace samba
