#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "models/gguf.h"
#include "models/mapped_file.h"
#include "models/quote.h"

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place, as little-endian");

namespace samba {

std::string hex64(uint64_t value) {
    std::string out(16, '0');
    for (int i = 15; i >= 0; --i, value >>= 4) out[static_cast<size_t>(i)] = "0123456789abcdef"[value & 15];
    return out;
}

// Every read states what it reads, so that a truncated file is told by the part where it ends.
class GgufParser {
  public:
    GgufParser(const unsigned char* data, size_t size, std::string where)
        : data_(data), size_(size), where_(std::move(where)) {}

    Gguf parse() {
        out_.where = where_;
        header();
        for (uint64_t i = 0; i < kv_count_; ++i) key_value(i);
        read_alignment();
        for (uint64_t i = 0; i < tensor_count_; ++i) tensor_info(i);
        out_.header_bytes = at_;
        out_.header_hash = hex64(XXH3_64bits(data_, at_));
        out_.file_bytes = size_;
        place_tensors();
        return std::move(out_);
    }

  private:
    // The fewest bytes that a key with its value, and a tensor's entry, can take: what bounds their counts.
    static constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1, kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
    static constexpr size_t kLongestName = 64, kLongestKey = 65535;

    const unsigned char* data_;
    size_t size_, at_ = 0;
    std::string where_;
    Gguf out_;
    uint64_t tensor_count_ = 0, kv_count_ = 0;
    std::vector<uint64_t> offsets_;

    [[noreturn]] void fail(const std::string& what) const { throw FileError(in_quotes(where_) + ": " + what); }

    size_t left() const { return size_ - at_; }

    const unsigned char* take(uint64_t bytes, const std::string& what) {
        if (bytes > left()) {
            fail("ends inside " + what + ": " + std::to_string(bytes) + " bytes needed at offset " +
                 std::to_string(at_) + ", " + std::to_string(left()) + " left (is the file cut short?)");
        }
        const unsigned char* p = data_ + at_;
        at_ += bytes;
        return p;
    }

    template <class T>
    T number(const std::string& what) {
        T v;
        std::memcpy(&v, take(sizeof v, what), sizeof v);
        return v;
    }

    std::string string(const std::string& what, size_t longest = SIZE_MAX) {
        auto length = number<uint64_t>(what);
        if (length > left() || length > longest) {
            fail(what + " has a length of " + std::to_string(length) + " bytes, but " +
                 (length > left() ? "the file has " + std::to_string(left()) + " more"
                                  : std::to_string(longest) + " are allowed"));
        }
        std::string text(reinterpret_cast<const char*>(take(length, what)), length);
        if (!valid_utf8(text)) fail(what + " is not valid UTF-8: " + in_quotes(text));
        return text;
    }

    void header() {
        if (size_ < 4 || std::memcmp(data_, "GGUF", 4) != 0) {
            fail("is not a GGUF file: expected the bytes \"GGUF\" at its start, found " +
                 in_quotes({reinterpret_cast<const char*>(data_), std::min<size_t>(size_, 4)}));
        }
        at_ = 4;
        auto version = number<uint32_t>("the header");
        if (version == 0x03000000u) fail("is a big-endian GGUF file; only little-endian ones are read");
        if (version != 3) fail("has GGUF version " + std::to_string(version) + ", expected 3");
        tensor_count_ = number<uint64_t>("the header");
        kv_count_ = number<uint64_t>("the header");
        if (kv_count_ > left() / kLeastKeyBytes) {
            fail("claims " + std::to_string(kv_count_) + " metadata keys, more than its size allows");
        }
        if (tensor_count_ > left() / kLeastTensorBytes) {
            fail("claims " + std::to_string(tensor_count_) + " tensors, more than its size allows");
        }
    }

    void key_value(uint64_t i) {
        std::string key = string("metadata key " + std::to_string(i), kLongestKey);
        if (key.empty()) fail("metadata key " + std::to_string(i) + " is empty");
        if (out_.metadata.find(key)) fail("has the metadata key " + in_quotes(key) + " twice");
        std::string what = "the value of key " + in_quotes(key);
        auto type = number<uint32_t>(what);
        out_.metadata.set(key, type == 9 ? GgufValue(array(what)) : GgufValue(scalar(type, what)));
    }

    bool boolean(const std::string& what) {
        auto v = number<uint8_t>(what);
        if (v > 1) fail(what + " is a bool with the byte " + std::to_string(v) + ", expected 0 or 1");
        return v != 0;
    }

    GgufScalar scalar(uint32_t type, const std::string& what) {
        switch (type) {
            case 0:
                return number<uint8_t>(what);
            case 1:
                return number<int8_t>(what);
            case 2:
                return number<uint16_t>(what);
            case 3:
                return number<int16_t>(what);
            case 4:
                return number<uint32_t>(what);
            case 5:
                return number<int32_t>(what);
            case 6:
                return number<float>(what);
            case 7:
                return boolean(what);
            case 8:
                return string(what);
            case 10:
                return number<uint64_t>(what);
            case 11:
                return number<int64_t>(what);
            case 12:
                return number<double>(what);
            default:
                fail(what + " has the unknown type " + std::to_string(type));
        }
    }

    template <class T>
    std::vector<T> numbers(uint64_t count, const std::string& what) {
        if (count > left() / sizeof(T)) too_many(count, what);
        std::vector<T> list(count);
        const unsigned char* p = take(count * sizeof(T), what);
        if (count > 0) std::memcpy(list.data(), p, count * sizeof(T));
        return list;
    }

    [[noreturn]] void too_many(uint64_t count, const std::string& what) const {
        fail(what + " claims " + std::to_string(count) + " elements, more than the file's size allows");
    }

    GgufArray array(const std::string& what) {
        auto type = number<uint32_t>(what);
        auto count = number<uint64_t>(what);
        switch (type) {
            case 0:
                return numbers<uint8_t>(count, what);
            case 1:
                return numbers<int8_t>(count, what);
            case 2:
                return numbers<uint16_t>(count, what);
            case 3:
                return numbers<int16_t>(count, what);
            case 4:
                return numbers<uint32_t>(count, what);
            case 5:
                return numbers<int32_t>(count, what);
            case 6:
                return numbers<float>(count, what);
            case 7: {
                if (count > left()) too_many(count, what);
                std::vector<bool> list(count);
                for (uint64_t i = 0; i < count; ++i) list[i] = boolean(what);
                return list;
            }
            case 8: {
                if (count > left() / 8) too_many(count, what);
                std::vector<std::string> list;
                list.reserve(count);
                for (uint64_t i = 0; i < count; ++i)
                    list.push_back(string("element " + std::to_string(i) + " of " + what));
                return list;
            }
            case 10:
                return numbers<uint64_t>(count, what);
            case 11:
                return numbers<int64_t>(count, what);
            case 12:
                return numbers<double>(count, what);
            case 9:
                fail(what + " is an array of arrays, which no model file needs");
            default:
                fail(what + " has elements of the unknown type " + std::to_string(type));
        }
    }

    void read_alignment() {
        int64_t alignment = 0;
        try {
            alignment = out_.metadata.integer("general.alignment").value_or(32);
        } catch (const FileError& e) {
            fail(e.what());
        }
        if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)) != 0) {
            fail("key \"general.alignment\": expected a power of two from 8 to 1048576, found " +
                 std::to_string(alignment));
        }
        out_.alignment = static_cast<uint32_t>(alignment);
    }

    void tensor_info(uint64_t i) {
        GgufTensor t;
        t.name = string("the name of tensor " + std::to_string(i), kLongestName);
        if (t.name.empty()) fail("the name of tensor " + std::to_string(i) + " is empty");
        std::string what = "the entry of tensor " + in_quotes(t.name);
        if (!out_.index_.try_emplace(t.name, out_.tensors.size()).second)
            fail("has the tensor " + in_quotes(t.name) + " twice");
        auto n_dims = number<uint32_t>(what);
        if (n_dims < 1 || n_dims > 4)
            fail("tensor " + in_quotes(t.name) + ": expected 1 to 4 dimensions, found " + std::to_string(n_dims));
        for (uint32_t d = 0; d < n_dims; ++d) t.dims.push_back(number<uint64_t>(what));
        auto type = number<uint32_t>(what);
        auto known = dtype_of(type);
        if (!known) fail("tensor " + in_quotes(t.name) + ": unknown type " + std::to_string(type));
        t.type = *known;
        t.bytes = checked_bytes(t);
        offsets_.push_back(number<uint64_t>(what));
        out_.tensors.push_back(std::move(t));
    }

    // No product overflows: it is refused as soon as it exceeds what the file could hold.
    uint64_t checked_bytes(const GgufTensor& t) const {
        const TypeInfo& type = info(t.type);
        auto block = static_cast<uint64_t>(type.block_values);
        if (t.dims[0] % block != 0) {
            fail("tensor " + in_quotes(t.name) + ": rows of " + std::to_string(t.dims[0]) + " values are not whole " +
                 type.name + " blocks of " + std::to_string(block));
        }
        uint64_t limit = size_ / static_cast<uint64_t>(type.block_bytes), blocks = t.dims[0] / block;
        for (size_t d = 0; d < t.dims.size(); ++d) {
            if (t.dims[d] == 0) fail("tensor " + in_quotes(t.name) + ": dimension " + std::to_string(d) + " is 0");
            if (d > 0) blocks = t.dims[d] > limit ? limit + 1 : blocks * t.dims[d];
            if (blocks > limit)
                fail("tensor " + in_quotes(t.name) + ": its dimensions need more bytes than the file has");
        }
        return blocks * static_cast<uint64_t>(type.block_bytes);
    }

    void place_tensors() {
        uint64_t align = out_.alignment, start = (at_ + align - 1) / align * align;
        uint64_t room = start <= size_ ? size_ - start : 0;
        for (size_t i = 0; i < offsets_.size(); ++i) {
            GgufTensor& t = out_.tensors[i];
            if (offsets_[i] % align != 0) {
                fail("tensor " + in_quotes(t.name) + ": offset " + std::to_string(offsets_[i]) +
                     " is not a multiple of " + std::to_string(align));
            }
            if (offsets_[i] > room || t.bytes > room - offsets_[i]) {
                fail("tensor " + in_quotes(t.name) + " lies beyond the file's end: bytes " +
                     std::to_string(offsets_[i]) + " to " + std::to_string(offsets_[i]) + " + " +
                     std::to_string(t.bytes) + " of " + std::to_string(room) + " (is the file cut short?)");
            }
            t.data = data_ + start + offsets_[i];
        }
        std::vector<size_t> order(offsets_.size());
        for (size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return offsets_[a] < offsets_[b]; });
        for (size_t k = 1; k < order.size(); ++k) {
            size_t a = order[k - 1], b = order[k];
            if (offsets_[a] + out_.tensors[a].bytes > offsets_[b]) {
                fail("the tensors " + in_quotes(out_.tensors[a].name) + " and " + in_quotes(out_.tensors[b].name) +
                     " overlap");
            }
        }
    }
};

Gguf Gguf::parse(const unsigned char* data, size_t size, const std::string& where) {
    return GgufParser(data, size, where).parse();
}

Gguf Gguf::open(const std::string& path) {
    MappedFile file(path, MappedFile::Use::kRandom);
    Gguf gguf = parse(file.bytes().data(), file.bytes().size(), path);
    gguf.memory = file.memory();
    return gguf;
}

const GgufTensor* Gguf::find(std::string_view name) const {
    auto it = index_.find(name);
    return it == index_.end() ? nullptr : &tensors[it->second];
}

}  // namespace samba
