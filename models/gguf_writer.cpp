#include <xxhash.h>

#include <cstring>

#include "models/gguf.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr uint32_t kTypeIds[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};  // of the alternatives of GgufScalar
constexpr uint32_t kArrayId = 9;

class Encoder {
  public:
    std::string bytes;

    template <class T>
    void put(T v) {
        static_assert(std::is_arithmetic_v<T>);
        bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
    }
    void put(bool v) { bytes.push_back(v ? 1 : 0); }
    void put(const std::string& s) {
        put(static_cast<uint64_t>(s.size()));
        bytes += s;
    }

    void value(const GgufValue& value) {
        if (const auto* scalar = std::get_if<GgufScalar>(&value)) {
            put(kTypeIds[scalar->index()]);
            std::visit([&](const auto& v) { put(v); }, *scalar);
            return;
        }
        const auto& array = std::get<GgufArray>(value);
        put(kArrayId);
        put(kTypeIds[array.index()]);
        std::visit(
            [&](const auto& list) {
                using T = typename std::decay_t<decltype(list)>::value_type;
                put(static_cast<uint64_t>(list.size()));
                for (const auto& v : list) put(static_cast<const T&>(v));
            },
            array);
    }
};

uint64_t aligned(uint64_t n) {
    return (n + GgufWriter::kAlignment - 1) / GgufWriter::kAlignment * GgufWriter::kAlignment;
}

}  // namespace

struct GgufWriter::Hash {
    XXH3_state_t* state = XXH3_createState();
    Hash() { XXH3_64bits_reset(state); }
    ~Hash() { XXH3_freeState(state); }
    Hash(const Hash&) = delete;
    Hash& operator=(const Hash&) = delete;
};

GgufWriter::GgufWriter(const std::string& path, bool force, GgufMetadata metadata, const std::vector<GgufTensor>& table)
    : file_(path, force), hash_(std::make_unique<Hash>()) {
    metadata.set("general.alignment", kAlignment);
    metadata.remove(kContentHashKey);
    metadata.set(kContentHashKey, hex64(0));  // last, so that its digits are the last 16 bytes of the metadata
    Encoder out;
    out.bytes = "GGUF";
    out.put(uint32_t{3});
    out.put(static_cast<uint64_t>(table.size()));
    out.put(static_cast<uint64_t>(metadata.all().size()));
    for (const auto& [key, value] : metadata.all()) {
        out.put(key);
        out.value(value);
    }
    hash_offset_ = out.bytes.size() - 16;
    uint64_t offset = 0;
    for (const GgufTensor& t : table) {
        out.put(t.name);
        out.put(static_cast<uint32_t>(t.dims.size()));
        uint64_t values = 1;
        for (uint64_t d : t.dims) {
            out.put(d);
            values *= d;
        }
        out.put(static_cast<uint32_t>(t.type));
        out.put(offset);
        sizes_.push_back(row_bytes(t.type, static_cast<int64_t>(values)));
        total_ += sizes_.back();
        offset = aligned(offset + sizes_.back());
    }
    file_.write(out.bytes.data(), out.bytes.size());
    align();
}

GgufWriter::~GgufWriter() = default;

void GgufWriter::align() {
    static constexpr char kZeros[kAlignment] = {};
    file_.write(kZeros, aligned(file_.written()) - file_.written());
}

void GgufWriter::write(const void* data, size_t bytes) {
    if (current_ == sizes_.size() || bytes > sizes_[current_] - in_current_) {
        throw std::logic_error("more bytes written than the tensor table announced");
    }
    XXH3_64bits_update(hash_->state, data, bytes);
    file_.write(data, bytes);
    in_current_ += bytes;
    if (in_current_ == sizes_[current_]) {
        align();
        ++current_;
        in_current_ = 0;
    }
}

std::string GgufWriter::finish() {
    if (current_ != sizes_.size()) throw std::logic_error("fewer tensors written than the table announced");
    std::string digits = hex64(XXH3_64bits_digest(hash_->state));
    file_.write_at(hash_offset_, digits.data(), digits.size());
    file_.finish();
    return digits;
}

}  // namespace samba
