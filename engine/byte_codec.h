// Numbers, strings and lists as bytes, little-endian, and back. What is read is untrusted: every count and length is
// checked against the bytes that are there before it is used.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/error.h"

namespace samba {

class ByteWriter {
  public:
    std::string bytes;

    template <class T>
    requires std::is_arithmetic_v<T>
    void put(T v) { bytes.append(reinterpret_cast<const char*>(&v), sizeof v); }
    void put(std::string_view s) {
        put<uint64_t>(s.size());
        bytes += s;
    }
    void put(const std::string& s) { put(std::string_view(s)); }
    template <class T>
    void put(const std::vector<T>& list) {
        put<uint64_t>(list.size());
        for (const T& v : list) put_value(*this, v);
    }
};

class ByteReader {
  public:
    // `where` begins the message of every error.
    ByteReader(std::span<const unsigned char> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}
    ByteReader(std::string_view bytes, std::string where)
        : ByteReader({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()}, std::move(where)) {}

    template <class T>
    requires std::is_arithmetic_v<T>
    void get(T& v) { std::memcpy(&v, take(sizeof v).data(), sizeof v); }
    void get(bool& v) {
        uint8_t byte = 0;
        get(byte);
        if (byte > 1) fail("a flag that is neither 0 nor 1");
        v = byte == 1;
    }
    void get(std::string& s) {
        auto contents = take(count(1));
        s.assign(reinterpret_cast<const char*>(contents.data()), contents.size());
    }
    // Elements that are no numbers begin with a count or a number of 8 bytes.
    template <class T>
    void get(std::vector<T>& list) {
        list.resize(count(std::is_arithmetic_v<T> ? sizeof(T) : sizeof(uint64_t)));
        for (T& v : list) get_value(*this, v);
    }
    // A count, then that many bytes, which stay where they are.
    std::span<const unsigned char> get_bytes() { return take(count(1)); }
    void end() const {
        if (!bytes_.empty()) fail(std::to_string(bytes_.size()) + " bytes too many");
    }
    [[noreturn]] void fail(const std::string& what) const { throw FileError(where_ + ": " + what); }

  private:
    std::span<const unsigned char> bytes_;
    std::string where_;

    std::span<const unsigned char> take(size_t n) {
        if (n > bytes_.size()) fail("ends too early");
        auto part = bytes_.first(n);
        bytes_ = bytes_.subspan(n);
        return part;
    }
    size_t count(size_t element_bytes) {
        uint64_t n = 0;
        get(n);
        if (n > bytes_.size() / element_bytes) fail("a count of " + std::to_string(n) + " goes beyond its bytes");
        return static_cast<size_t>(n);
    }
};

// How a value of a list is written and read; structs overload these two.
template <class T>
requires std::is_arithmetic_v<T>
void put_value(ByteWriter& w, const T& v) { w.put(v); }
inline void put_value(ByteWriter& w, const std::string& v) { w.put(v); }
template <class T>
requires std::is_arithmetic_v<T>
void get_value(ByteReader& r, T& v) { r.get(v); }
inline void get_value(ByteReader& r, std::string& v) { r.get(v); }

}  // namespace samba
