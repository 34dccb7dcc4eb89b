// GGUF version 3: metadata, a table of tensors, aligned tensor data. Reader over a mapped file, and a streaming writer.
// Format: docs/file-format.md, after ggml's docs/gguf.md. A file is untrusted: everything is checked before it is used.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/error.h"
#include "models/output_file.h"

namespace samba {

// A metadata value. The alternatives are the format's own types, so that a file can be written back as it was.
using GgufScalar = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string,
                                uint64_t, int64_t, double>;
using GgufArray =
    std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<bool>,
                 std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;
using GgufValue = std::variant<GgufScalar, GgufArray>;

struct GgufTensor {
    std::string name;
    DType type = DType::kF32;
    std::vector<uint64_t> dims;  // fastest first
    uint64_t bytes = 0;
    const void* data = nullptr;  // in the mapping; null in a writer's table
};

class GgufMetadata {
  public:
    // The names of a value's type, for messages: "u32", "string", "array of f32".
    static std::string type_name(const GgufValue& value);

    const GgufValue* find(std::string_view key) const;
    // In the order of the file.
    const std::vector<std::pair<std::string, GgufValue>>& all() const { return values_; }
    void set(const std::string& key, GgufValue value);  // replaces, or appends
    template <class T>
    requires(!std::is_same_v<T, GgufValue>) void set(const std::string& key, T value) {
        if constexpr (std::is_constructible_v<GgufArray, T> && !std::is_arithmetic_v<T> &&
                      !std::is_same_v<T, std::string>) {
            set(key, GgufValue(GgufArray(std::move(value))));
        } else {
            set(key, GgufValue(GgufScalar(std::move(value))));
        }
    }
    void remove(std::string_view key);

    // Typed reads: absent keys give nothing, values of another type or out of range throw FileError naming the key.
    // Any integer type serves for an integer, f32 and f64 for a number; an array of one type for a list.
    std::optional<int64_t> integer(std::string_view key) const;
    std::optional<double> number(std::string_view key) const;
    std::optional<bool> boolean(std::string_view key) const;
    std::optional<std::string> text(std::string_view key) const;
    // A list of integers; a single integer gives a list of one and sets *scalar.
    std::optional<std::vector<int64_t>> integers(std::string_view key, bool* scalar = nullptr) const;
    const std::vector<std::string>* texts(std::string_view key) const;
    const std::vector<float>* floats(std::string_view key) const;
    const std::vector<uint8_t>* bytes(std::string_view key) const;

  private:
    std::vector<std::pair<std::string, GgufValue>> values_;
    std::map<std::string, size_t, std::less<>> index_;

    [[noreturn]] void wrong_type(std::string_view key, const char* expected) const;
};

class Gguf {
  public:
    // Maps and checks a file. Throws FileError.
    static Gguf open(const std::string& path);
    // The same over bytes in memory, which must outlive the result; `where` names them in messages.
    static Gguf parse(const unsigned char* data, size_t size, const std::string& where);

    std::string where;  // the file's name, for messages
    GgufMetadata metadata;
    std::vector<GgufTensor> tensors;  // in the order of the table
    uint32_t alignment = 32;
    uint64_t file_bytes = 0;
    uint64_t header_bytes = 0;     // metadata and tensor table: what a fingerprint covers
    std::string header_hash;       // XXH3-64 of them, 16 hex digits
    std::shared_ptr<void> memory;  // the mapping

    const GgufTensor* find(std::string_view name) const;

  private:
    std::map<std::string, size_t, std::less<>> index_;
    friend class GgufParser;
};

// Writes metadata and the tensor table, then each tensor's bytes in the order of the table.
class GgufWriter {
  public:
    static constexpr uint32_t kAlignment = 64;

    // Writes everything before the tensor data; samba.content_hash is added and filled in by finish().
    GgufWriter(const std::string& path, bool force, GgufMetadata metadata, const std::vector<GgufTensor>& table);
    ~GgufWriter();

    // The next bytes of the tensor at hand; a tensor may be written in several pieces.
    void write(const void* data, size_t bytes);
    uint64_t tensor_bytes() const { return total_; }  // of all tensors
    // Throws if bytes are missing. Returns the content hash: XXH3-64 of all tensors' bytes in file order, 16 hex
    // digits.
    std::string finish();
    uint64_t file_bytes() const { return file_.written(); }

  private:
    OutputFile file_;
    std::vector<uint64_t> sizes_;
    size_t current_ = 0;
    uint64_t in_current_ = 0, total_ = 0, hash_offset_ = 0;
    struct Hash;
    std::unique_ptr<Hash> hash_;

    void align();
};

inline constexpr char kContentHashKey[] = "samba.content_hash";
std::string hex64(uint64_t value);

}  // namespace samba
