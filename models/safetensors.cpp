#include "models/safetensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "kernels/error.h"
#include "kernels/quant.h"
#include "models/json_text.h"
#include "models/mapped_file.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr size_t kMostDims = 8;

struct Entry {
    CheckpointTensor tensor;
    uint64_t begin = 0, end = 0;  // bytes of the data section
    const unsigned char* data = nullptr;
};

// The bytes a value takes, of the dtypes that the format knows; 0: unknown.
uint64_t value_bytes(const std::string& dtype) {
    static const std::map<std::string, uint64_t> kBytes = {
        {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"F16", 2},    {"BF16", 2},
        {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
    auto it = kBytes.find(dtype);
    return it == kBytes.end() ? 0 : it->second;
}

uint64_t natural(const json& v, const std::string& what) {
    if (!v.is_number_unsigned()) throw FileError(what + ": expected a whole number, found " + in_quotes(v.dump()));
    return v.get<uint64_t>();
}

Entry entry_of(const std::string& name, const json& v, uint64_t data_bytes, const std::string& where) {
    std::string what = in_quotes(where) + ": tensor " + in_quotes(name);
    if (!v.is_object() || !v.contains("dtype") || !v.contains("shape") || !v.contains("data_offsets")) {
        throw FileError(what + ": expected an object with dtype, shape and data_offsets");
    }
    const json &dtype = v["dtype"], &shape = v["shape"], &offsets = v["data_offsets"];
    if (!dtype.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2 ||
        shape.size() > kMostDims) {
        throw FileError(what + ": dtype, shape or data_offsets are not of their form");
    }
    Entry e;
    e.tensor.name = name;
    e.tensor.type_name = dtype.get<std::string>();
    uint64_t value = value_bytes(e.tensor.type_name);
    if (value == 0) throw FileError(what + ": unknown dtype " + in_quotes(e.tensor.type_name));
    for (DType known : {DType::kF32, DType::kF16, DType::kBF16}) {
        if (e.tensor.type_name == info(known).name) e.tensor.type = known;
    }
    e.begin = natural(offsets[0], what + ", data_offsets");
    e.end = natural(offsets[1], what + ", data_offsets");
    if (e.begin > e.end || e.end > data_bytes) {
        throw FileError(what + ": its bytes " + std::to_string(e.begin) + " to " + std::to_string(e.end) +
                        " lie beyond the file's " + std::to_string(data_bytes) +
                        " bytes of data (is the file cut short?)");
    }
    uint64_t values = 1;
    for (const json& d : shape) {
        uint64_t n = natural(d, what + ", shape");
        if (n == 0) throw FileError(what + ": a dimension is 0");
        if (n > data_bytes || values > data_bytes / n)
            throw FileError(what + ": its shape needs more bytes than the file has");
        values *= n;
        e.tensor.shape.push_back(static_cast<int64_t>(n));
    }
    if (values * value != e.end - e.begin) {
        throw FileError(what + ": its shape " + e.tensor.shape_text() + " needs " + std::to_string(values * value) +
                        " bytes, but its data_offsets span " + std::to_string(e.end - e.begin));
    }
    return e;
}

void check_overlaps(std::vector<Entry> entries, const std::string& where) {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < entries.size(); ++i) {
        if (entries[i - 1].end > entries[i].begin) {
            throw FileError(in_quotes(where) + ": the tensors " + in_quotes(entries[i - 1].tensor.name) + " and " +
                            in_quotes(entries[i].tensor.name) + " overlap");
        }
    }
}

std::vector<Entry> read_header(const unsigned char* data, size_t size, const std::string& where) {
    uint64_t length = 0;
    if (size < 8)
        throw FileError(in_quotes(where) + ": not a safetensors file: only " + std::to_string(size) + " bytes");
    std::memcpy(&length, data, 8);
    if (length > kLongestHeader || length > size - 8) {
        throw FileError(in_quotes(where) + ": not a safetensors file, or cut short: its header would have " +
                        std::to_string(length) + " bytes, the file has " + std::to_string(size - 8) +
                        " more (at most 100000000 are allowed)");
    }
    std::string_view text(reinterpret_cast<const char*>(data + 8), length);
    json header = parse_json(text, where);
    if (!header.is_object()) throw FileError(in_quotes(where) + ": its header is not a JSON object");
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
        if (name == "__metadata__") continue;
        entries.push_back(entry_of(name, value, size - 8 - length, where));
        entries.back().data = data + 8 + length + entries.back().begin;
    }
    check_overlaps(entries, where);
    return entries;
}

class SafetensorsReader : public CheckpointReader {
  public:
    SafetensorsReader(std::string where, std::vector<Entry> entries, std::vector<MappedFile> files)
        : where_(std::move(where)), files_(std::move(files)) {
        std::sort(entries.begin(), entries.end(),
                  [](const Entry& a, const Entry& b) { return a.tensor.name < b.tensor.name; });
        for (Entry& e : entries) {
            tensors_.push_back(std::move(e.tensor));
            data_.push_back(e.data);
        }
    }
    std::string where() const override { return where_; }

    void read_rows(const CheckpointTensor& t, int64_t first, int64_t n, float* out) const override {
        if (!t.type) {
            throw FileError(in_quotes(where_) + ": tensor " + in_quotes(t.name) +
                            ": expected type F32, F16 or BF16, found " + t.type_name);
        }
        size_t bytes = row_bytes(*t.type, t.cols());
        const unsigned char* data = data_[static_cast<size_t>(&t - tensors_.data())];
        dequantize_row(*t.type, data + static_cast<size_t>(first) * bytes, out, n * t.cols());
    }

  private:
    std::string where_;
    std::vector<MappedFile> files_;
    std::vector<const unsigned char*> data_;  // of each tensor
};

bool exists(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0;
}

// Which tensors each shard gives; a shard is a plain file name in the same directory.
std::map<std::string, std::set<std::string>> read_index(const std::string& path) {
    json index = parse_json(read_text_file(path), path);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
        throw FileError(in_quotes(path) + ": expected an object \"weight_map\"");
    }
    std::map<std::string, std::set<std::string>> shards;
    for (const auto& [tensor, shard] : index["weight_map"].items()) {
        std::string name = shard.is_string() ? shard.get<std::string>() : "";
        if (name.empty() || name == "." || name == ".." ||
            name.find_first_of(std::string("/\0", 2)) != std::string::npos) {
            throw FileError(in_quotes(path) + ": tensor " + in_quotes(tensor) + ": expected a plain file name, found " +
                            in_quotes(shard.dump()));
        }
        shards[name].insert(tensor);
    }
    return shards;
}

}  // namespace

std::unique_ptr<CheckpointReader> parse_safetensors(const unsigned char* data, size_t size, const std::string& where) {
    return std::make_unique<SafetensorsReader>(where, read_header(data, size, where), std::vector<MappedFile>());
}

std::unique_ptr<CheckpointReader> open_safetensors(const std::string& directory) {
    std::string single = directory + "/model.safetensors", index = single + ".index.json";
    std::vector<Entry> entries;
    std::vector<MappedFile> files;
    if (exists(single)) {
        files.emplace_back(single, MappedFile::Use::kOnce);
        entries = read_header(files[0].bytes().data(), files[0].bytes().size(), single);
        return std::make_unique<SafetensorsReader>(directory, std::move(entries), std::move(files));
    }
    if (!exists(index)) {
        throw FileError(in_quotes(directory) + " has neither model.safetensors nor model.safetensors.index.json");
    }
    for (const auto& [shard, wanted] : read_index(index)) {
        std::string path = directory + "/" + shard;
        files.emplace_back(path, MappedFile::Use::kOnce);
        size_t found = 0;
        for (Entry& e : read_header(files.back().bytes().data(), files.back().bytes().size(), path)) {
            if (!wanted.count(e.tensor.name)) continue;
            entries.push_back(std::move(e));
            ++found;
        }
        if (found == wanted.size()) continue;
        for (const std::string& name : wanted) {
            bool there =
                std::any_of(entries.begin(), entries.end(), [&](const Entry& e) { return e.tensor.name == name; });
            if (!there)
                throw FileError(in_quotes(path) + ": tensor " + in_quotes(name) +
                                ", which the index places here, is missing");
        }
    }
    return std::make_unique<SafetensorsReader>(directory, std::move(entries), std::move(files));
}

}  // namespace samba
