#include "app/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

namespace samba {
namespace {

// The value of a line "KEY : VALUE" of a file in /proc; empty if there is none.
std::string proc_value(const char* file, const std::string& key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        size_t colon = line.find(':');
        if (!line.starts_with(key) || colon == std::string::npos) continue;
        size_t value = line.find_first_not_of(" \t", colon + 1);
        return value == std::string::npos ? "" : line.substr(value);
    }
    return "";
}

int64_t memory(const char* key) {
    constexpr int64_t kKib = 1024;
    return std::strtoll(proc_value("/proc/meminfo", key).c_str(), nullptr, 10) * kKib;
}

}  // namespace

std::string cpu_name() {
    std::string name = proc_value("/proc/cpuinfo", "model name");
    return name.empty() ? "unknown CPU" : name;
}

std::vector<std::string> cpu_features() {
    constexpr const char* kWanted[] = {"avx2",     "fma",      "f16c",     "bmi2",        "avx512f",
                                       "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16",
                                       "amx_tile", "amx_bf16", "amx_int8"};
    std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
    std::vector<std::string> all{std::istream_iterator<std::string>(flags), {}}, found;
    std::copy_if(std::begin(kWanted), std::end(kWanted), std::back_inserter(found),
                 [&](const char* flag) { return std::find(all.begin(), all.end(), flag) != all.end(); });
    return found;
}

int64_t total_memory() { return memory("MemTotal"); }
int64_t available_memory() { return memory("MemAvailable"); }

std::string nvidia_driver() {
    std::ifstream in("/proc/driver/nvidia/version");
    std::string line;
    std::getline(in, line);
    return line;
}

}  // namespace samba
