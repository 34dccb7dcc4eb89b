// Reads NumPy's .npy files of the tests: little-endian f32 or i32, version 1, C order.
#pragma once
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace samba {

template <class T>
std::vector<T> read_npy(const std::string& path) {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t>);
    std::ifstream in(path, std::ios::binary);
    char magic[8];
    uint16_t header_bytes = 0;
    in.read(magic, 8).read(reinterpret_cast<char*>(&header_bytes), 2);
    std::string header(header_bytes, '\0');
    in.read(header.data(), header_bytes);
    const char* type = std::is_same_v<T, float> ? "'<f4'" : "'<i4'";
    bool right = in && std::string(magic, 6) == "\x93NUMPY" && magic[6] == 1;
    if (!right || header.find(type) == std::string::npos ||
        header.find("'fortran_order': False") == std::string::npos) {
        throw std::runtime_error(path + ": no .npy file of " + type);
    }
    std::vector<T> values;
    for (T value; in.read(reinterpret_cast<char*>(&value), sizeof value);) values.push_back(value);
    return values;
}

}  // namespace samba
