// Where the model is when nobody names one, and where installed data lies.
#pragma once
#include <string>
#include <vector>

namespace samba {

inline constexpr char kShippedModel[] = "samba-47m-q4_k_m.gguf";

// The places of the shipped model, best first: <directory of the executable>/../share/samba-lm/, then, in a build tree
// only, the source's models/.
std::vector<std::string> model_places();

// `given` (from -m, SAMBA_LM_MODEL or the config file) as it is; if empty, the first of the places that has the file.
// Throws UsageError listing the places tried.
std::string find_model(const std::string& given);

}  // namespace samba
