#include <limits>
#include <type_traits>

#include "models/gguf.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr const char* kScalarNames[] = {"u8",  "i8",   "u16",    "i16", "u32", "i32",
                                        "f32", "bool", "string", "u64", "i64", "f64"};

template <class T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// u64 values above 2^63 are kept out of range: no count or size of a model is that large.
template <class T>
std::optional<int64_t> to_int64(T v) {
    if constexpr (std::is_same_v<T, uint64_t>) {
        if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    }
    return static_cast<int64_t>(v);
}

}  // namespace

std::string GgufMetadata::type_name(const GgufValue& value) {
    if (const auto* s = std::get_if<GgufScalar>(&value)) return kScalarNames[s->index()];
    return std::string("array of ") + kScalarNames[std::get<GgufArray>(value).index()];
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
    auto it = index_.find(key);
    return it == index_.end() ? nullptr : &values_[it->second].second;
}

void GgufMetadata::set(const std::string& key, GgufValue value) {
    auto [it, added] = index_.try_emplace(key, values_.size());
    if (added) {
        values_.emplace_back(key, std::move(value));
    } else {
        values_[it->second].second = std::move(value);
    }
}

void GgufMetadata::remove(std::string_view key) {
    auto it = index_.find(key);
    if (it == index_.end()) return;
    size_t at = it->second;
    index_.erase(it);
    values_.erase(values_.begin() + static_cast<std::ptrdiff_t>(at));
    for (auto& [name, i] : index_) i -= i > at ? 1 : 0;
}

void GgufMetadata::wrong_type(std::string_view key, const char* expected) const {
    throw FileError("key " + in_quotes(key) + ": expected " + expected + ", found " + type_name(*find(key)));
}

std::optional<int64_t> GgufMetadata::integer(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    const auto* scalar = std::get_if<GgufScalar>(value);
    if (!scalar) wrong_type(key, "an integer");
    return std::visit(
        [&](const auto& v) -> int64_t {
            if constexpr (is_integer<std::decay_t<decltype(v)>>) {
                if (auto i = to_int64(v)) return *i;
                throw FileError("key " + in_quotes(key) + ": " + std::to_string(v) + " is out of range");
            } else {
                wrong_type(key, "an integer");
            }
        },
        *scalar);
}

std::optional<double> GgufMetadata::number(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    if (const auto* scalar = std::get_if<GgufScalar>(value)) {
        if (const auto* f = std::get_if<float>(scalar)) return *f;
        if (const auto* d = std::get_if<double>(scalar)) return *d;
    }
    wrong_type(key, "a floating-point number");
}

std::optional<bool> GgufMetadata::boolean(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    if (const auto* scalar = std::get_if<GgufScalar>(value)) {
        if (const auto* b = std::get_if<bool>(scalar)) return *b;
    }
    wrong_type(key, "a bool");
}

std::optional<std::string> GgufMetadata::text(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    if (const auto* scalar = std::get_if<GgufScalar>(value)) {
        if (const auto* s = std::get_if<std::string>(scalar)) return *s;
    }
    wrong_type(key, "a string");
}

std::optional<std::vector<int64_t>> GgufMetadata::integers(std::string_view key, bool* scalar) const {
    const GgufValue* value = find(key);
    if (!value) return std::nullopt;
    if (scalar) *scalar = std::holds_alternative<GgufScalar>(*value);
    if (std::holds_alternative<GgufScalar>(*value)) return std::vector<int64_t>{*integer(key)};
    std::vector<int64_t> out;
    std::visit(
        [&](const auto& list) {
            using T = typename std::decay_t<decltype(list)>::value_type;
            if constexpr (is_integer<T>) {
                for (T v : list) {
                    auto i = to_int64(v);
                    if (!i) throw FileError("key " + in_quotes(key) + ": " + std::to_string(v) + " is out of range");
                    out.push_back(*i);
                }
            } else {
                wrong_type(key, "integers");
            }
        },
        std::get<GgufArray>(*value));
    return out;
}

namespace {

template <class T>
const std::vector<T>* list_of(const GgufValue* value) {
    const auto* array = value ? std::get_if<GgufArray>(value) : nullptr;
    return array ? std::get_if<std::vector<T>>(array) : nullptr;
}

}  // namespace

const std::vector<std::string>* GgufMetadata::texts(std::string_view key) const {
    const GgufValue* value = find(key);
    const auto* list = list_of<std::string>(value);
    if (value && !list) wrong_type(key, "an array of strings");
    return list;
}

const std::vector<float>* GgufMetadata::floats(std::string_view key) const {
    const GgufValue* value = find(key);
    const auto* list = list_of<float>(value);
    if (value && !list) wrong_type(key, "an array of f32");
    return list;
}

const std::vector<uint8_t>* GgufMetadata::bytes(std::string_view key) const {
    const GgufValue* value = find(key);
    const auto* list = list_of<uint8_t>(value);
    if (value && !list) wrong_type(key, "an array of u8");
    return list;
}

}  // namespace samba
