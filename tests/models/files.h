// Files that tests make: a directory that is gone afterwards, and raw GGUF bytes that may be as wrong as a test wants.
#pragma once
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace samba {

class TemporaryDirectory {
  public:
    TemporaryDirectory() {
        std::string pattern = (std::filesystem::temp_directory_path() / "samba-test-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    std::string path(const std::string& name = "") const { return name.empty() ? path_ : path_ + "/" + name; }

  private:
    std::string path_;
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The bytes of numbers and strings as GGUF has them.
struct Bytes {
    std::string text;
    template <class T>
    Bytes& put(T value) {
        text.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    Bytes& string(const std::string& s) {
        put(static_cast<uint64_t>(s.size()));
        text += s;
        return *this;
    }
};

// A GGUF file in parts, each of which a test may spoil.
struct RawGguf {
    struct Tensor {
        std::string name;
        std::vector<uint64_t> dims;
        uint32_t type;
        uint64_t offset;
    };
    std::string magic = "GGUF";
    uint32_t version = 3;
    int64_t tensor_count = -1, kv_count = -1;  // -1: as many as there are
    std::vector<std::string> key_values;
    std::vector<Tensor> tensors;
    uint64_t alignment = 32;
    std::string data;

    void text(const std::string& key, const std::string& value) {
        key_values.push_back(Bytes().string(key).put(uint32_t{8}).string(value).text);
    }
    void number(const std::string& key, uint32_t value) {
        key_values.push_back(Bytes().string(key).put(uint32_t{4}).put(value).text);
    }

    std::string bytes() const {
        Bytes out;
        out.text = magic;
        out.put(version);
        out.put(tensor_count < 0 ? static_cast<uint64_t>(tensors.size()) : static_cast<uint64_t>(tensor_count));
        out.put(kv_count < 0 ? static_cast<uint64_t>(key_values.size()) : static_cast<uint64_t>(kv_count));
        for (const std::string& kv : key_values) out.text += kv;
        for (const Tensor& t : tensors) {
            out.string(t.name).put(static_cast<uint32_t>(t.dims.size()));
            for (uint64_t d : t.dims) out.put(d);
            out.put(t.type).put(t.offset);
        }
        if (!tensors.empty()) out.text.resize((out.text.size() + alignment - 1) / alignment * alignment);
        return out.text + data;
    }
};

}  // namespace samba
