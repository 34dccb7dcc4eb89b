// The number types of weights, activations and caches. The values are GGUF's type ids (docs/file-format.md).
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace samba {

enum class DType : uint32_t {
    kF32 = 0,
    kF16 = 1,
    kQ4_0 = 2,
    kQ8_0 = 8,
    kQ4_K = 12,
    kQ5_K = 13,
    kQ6_K = 14,
    kBF16 = 30,
};

struct TypeInfo {
    DType type;
    const char* name;  // "F32", "Q4_K", …
    int block_values;  // values in a block: 1, 32 or 256
    int block_bytes;   // bytes of a block
    bool quantized;
};

inline constexpr TypeInfo kTypes[] = {
    {DType::kF32, "F32", 1, 4, false},      {DType::kF16, "F16", 1, 2, false},
    {DType::kBF16, "BF16", 1, 2, false},    {DType::kQ8_0, "Q8_0", 32, 34, true},
    {DType::kQ4_0, "Q4_0", 32, 18, true},   {DType::kQ4_K, "Q4_K", 256, 144, true},
    {DType::kQ5_K, "Q5_K", 256, 176, true}, {DType::kQ6_K, "Q6_K", 256, 210, true},
};

constexpr const TypeInfo& info(DType type) {
    for (const TypeInfo& t : kTypes) {
        if (t.type == type) return t;
    }
    return kTypes[0];  // unreachable: every DType is in the table
}

// The type of that GGUF id, or none when this program does not know it.
constexpr std::optional<DType> dtype_of(uint32_t id) {
    for (const TypeInfo& t : kTypes) {
        if (static_cast<uint32_t>(t.type) == id) return t.type;
    }
    return std::nullopt;
}

// The type of that name, whatever the case ("q4_k", "BF16").
std::optional<DType> parse_dtype(std::string_view name);

// Bytes of a row of n values; n must be a multiple of the type's block.
constexpr size_t row_bytes(DType type, int64_t n) {
    return static_cast<size_t>(n / info(type).block_values) * static_cast<size_t>(info(type).block_bytes);
}

}  // namespace samba
