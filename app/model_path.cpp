#include "app/model_path.h"

#include <filesystem>

#include "kernels/error.h"

namespace samba {

namespace fs = std::filesystem;

std::vector<std::string> model_places() {
    std::error_code error;
    fs::path executable = fs::read_symlink("/proc/self/exe", error);
    std::vector<std::string> places;
    if (error) return places;
    fs::path directory = executable.parent_path();
    places.push_back((directory.parent_path() / "share/samba-lm" / kShippedModel).string());
    if (directory == fs::path(SAMBA_BUILD_DIR)) places.push_back((fs::path(SAMBA_MODELS_DIR) / kShippedModel).string());
    return places;
}

std::string find_model(const std::string& given) {
    if (!given.empty()) return given;
    std::string tried;
    for (const std::string& place : model_places()) {
        std::error_code error;
        if (fs::exists(place, error)) return place;
        tried += (tried.empty() ? "" : " and ") + place;
    }
    throw UsageError("no model: neither -m/--model nor SAMBA_LM_MODEL names one, and it is not at " + tried);
}

}  // namespace samba
