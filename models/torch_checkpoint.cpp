#include "models/torch_checkpoint.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <set>

#include "kernels/error.h"
#include "kernels/quant.h"
#include "models/pickle.h"
#include "models/quote.h"

namespace samba {
namespace {

constexpr uint64_t kMaxPickle = 256u << 20;  // names and shapes of a checkpoint take well under a megabyte
// A storage that cannot be read in pieces is held in memory; convert stays below 2 GB.
constexpr uint64_t kMaxHeldStorage = 1536u << 20;

struct CloseArchive {
    void operator()(zip_t* z) const { zip_discard(z); }
};
struct CloseEntry {
    void operator()(zip_file_t* f) const { zip_fclose(f); }
};

struct Element {
    DType type;
    int64_t bytes;
};
std::optional<Element> element_of(const std::string& storage_class) {
    if (storage_class == "FloatStorage") return Element{DType::kF32, 4};
    if (storage_class == "HalfStorage") return Element{DType::kF16, 2};
    if (storage_class == "BFloat16Storage") return Element{DType::kBF16, 2};
    return std::nullopt;
}

struct Entry {
    zip_uint64_t index = 0;
    uint64_t bytes = 0;
    bool stored = false;  // uncompressed: any part can be read alone
};

// The archive's entries below the folder that holds data.pkl.
class Archive {
  public:
    explicit Archive(const std::string& path) : path_(path) {
        int error = 0;
        zip_.reset(zip_open(path.c_str(), ZIP_RDONLY, &error));
        if (!zip_) {
            zip_error_t detail;
            zip_error_init_with_code(&detail, error);
            std::string why = zip_error_strerror(&detail);
            zip_error_fini(&detail);
            throw FileError(in_quotes(path) + ": not a whole zip archive of torch.save: " + why);
        }
        list_entries();
    }

    [[noreturn]] void fail(const std::string& what) const { throw FileError(in_quotes(path_) + ": " + what); }
    const Entry* find(const std::string& name) const {
        auto it = entries_.find(name);
        return it == entries_.end() ? nullptr : &it->second;
    }

    // Bytes first … first + n - 1 of an entry; a compressed one is inflated from its begin.
    std::string read(const std::string& name, uint64_t first, uint64_t n) const {
        const Entry& entry = entries_.at(name);
        if (first > entry.bytes || n > entry.bytes - first) fail("entry " + in_quotes(name) + " ends early");
        std::unique_ptr<zip_file_t, CloseEntry> file(zip_fopen_index(zip_.get(), entry.index, 0));
        if (!file) fail("entry " + in_quotes(name) + " cannot be read: " + zip_strerror(zip_.get()));
        std::string bytes(n, '\0');
        if (entry.stored && first > 0 && zip_fseek(file.get(), static_cast<zip_int64_t>(first), SEEK_SET) != 0) {
            fail("entry " + in_quotes(name) + ": cannot seek");
        }
        if (!entry.stored && first > 0) skip(file.get(), name, first);
        for (uint64_t at = 0; at < n;) at += take(file.get(), name, bytes.data() + at, n - at);
        return bytes;
    }

    // Reads an entry through to its checksum, once, before any part of it is used.
    void verify(const std::string& name) const {
        if (!verified_.insert(name).second) return;
        std::unique_ptr<zip_file_t, CloseEntry> file(zip_fopen_index(zip_.get(), entries_.at(name).index, 0));
        if (!file) fail("entry " + in_quotes(name) + " cannot be read: " + zip_strerror(zip_.get()));
        skip(file.get(), name, entries_.at(name).bytes);
        char beyond;
        if (zip_fread(file.get(), &beyond, 1) != 0)
            fail("entry " + in_quotes(name) + " is corrupt: its checksum is wrong");
    }

  private:
    std::string path_;
    std::unique_ptr<zip_t, CloseArchive> zip_;
    std::map<std::string, Entry> entries_;
    mutable std::set<std::string> verified_;

    void list_entries() {
        zip_int64_t n = zip_get_num_entries(zip_.get(), 0);
        std::string folder;
        bool found = false;
        for (zip_int64_t i = 0; i < n && !found; ++i) {
            const char* raw = zip_get_name(zip_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
            std::string name = raw ? raw : "";
            found = name == "data.pkl" || name.ends_with("/data.pkl");
            folder = name.substr(0, name.size() - std::strlen("data.pkl"));
        }
        if (!found) fail("a zip archive without data.pkl: not a checkpoint of torch.save");
        for (zip_int64_t i = 0; i < n; ++i) {
            zip_stat_t stat;
            constexpr zip_uint64_t kNeeded =
                ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
            if (zip_stat_index(zip_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW, &stat) != 0 ||
                (stat.valid & kNeeded) != kNeeded) {
                fail("entry " + std::to_string(i) + " of the archive cannot be read");
            }
            std::string name = stat.name;
            if (!name.starts_with(folder)) continue;
            if (stat.encryption_method != ZIP_EM_NONE) fail("entry " + in_quotes(name) + " is encrypted");
            Entry entry{static_cast<zip_uint64_t>(i), stat.size, stat.comp_method == ZIP_CM_STORE};
            if (!entries_.emplace(name.substr(folder.size()), entry).second)
                fail("two entries named " + in_quotes(name));
        }
    }

    void skip(zip_file_t* file, const std::string& name, uint64_t n) const {
        std::string waste(std::min<uint64_t>(n, 1 << 20), '\0');
        while (n > 0) n -= take(file, name, waste.data(), std::min<uint64_t>(n, waste.size()));
    }
    uint64_t take(zip_file_t* file, const std::string& name, char* to, uint64_t n) const {
        zip_int64_t got = zip_fread(file, to, n);
        if (got <= 0) fail("entry " + in_quotes(name) + " is corrupt or cut short");
        return static_cast<uint64_t>(got);
    }
};

// Where a tensor's values lie.
struct Place {
    std::string entry;
    Element element;
    int64_t offset = 0;
    std::vector<int64_t> shape, strides;
    uint64_t storage_bytes = 0;

    bool packed() const {
        int64_t expected = 1;
        for (size_t d = shape.size(); d-- > 0;) {
            if (shape[d] != 1 && strides[d] != expected) return false;
            expected *= shape[d];
        }
        return true;
    }
};

class TorchReader : public CheckpointReader {
  public:
    TorchReader(const std::string& path, std::shared_ptr<Archive> archive, const PickleValue& state_dict)
        : path_(path), archive_(std::move(archive)) {
        for (const auto& [key, value] : state_dict.pairs) {
            if (key->kind == PickleValue::kString && value->kind == PickleValue::kTensor) add(key->text, *value);
        }
        if (tensors_.empty()) archive_->fail("no tensors inside");
        std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
        for (size_t i = 1; i < tensors_.size(); ++i) {
            if (tensors_[i].name == tensors_[i - 1].name) {
                archive_->fail("two tensors are named " + in_quotes(tensors_[i].name) +
                               " once the wrappers' components are dropped");
            }
        }
    }

    std::string where() const override { return path_; }

    void read_rows(const CheckpointTensor& tensor, int64_t first, int64_t n, float* out) const override {
        auto it = places_.find(tensor.name);
        if (it == places_.end()) archive_->fail("tensor " + in_quotes(tensor.name) + " has values of an unknown type");
        const Place& place = it->second;
        int64_t cols = tensor.cols();
        std::lock_guard lock(mutex_);
        archive_->verify(place.entry);
        if (place.packed() && archive_->find(place.entry)->stored) {
            uint64_t from = static_cast<uint64_t>((place.offset + first * cols) * place.element.bytes);
            std::string bytes =
                archive_->read(place.entry, from, static_cast<uint64_t>(n * cols * place.element.bytes));
            dequantize_row(place.element.type, bytes.data(), out, n * cols);
            return;
        }
        const std::string& storage = hold(place);
        for (int64_t i = 0; i < n * cols; ++i) {
            int64_t rest = first * cols + i, at = place.offset;
            for (size_t d = place.shape.size(); d-- > 0; rest /= place.shape[d])
                at += rest % place.shape[d] * place.strides[d];
            dequantize_row(place.element.type, storage.data() + at * place.element.bytes, out + i, 1);
        }
    }

  private:
    std::string path_;
    std::shared_ptr<Archive> archive_;
    std::map<std::string, Place> places_;
    mutable std::mutex mutex_;
    mutable std::string held_entry_, held_;  // the one storage in memory

    void add(const std::string& full_name, const PickleValue& value) {
        CheckpointTensor tensor;
        tensor.name = without_wrappers(full_name);
        tensor.type_name = value.storage->type;
        tensor.shape = value.shape;
        std::string what = "tensor " + in_quotes(tensor.name);
        if (std::optional<Element> element = element_of(value.storage->type)) {
            tensor.type = element->type;
            Place place{"data/" + value.storage->text, *element, value.integer, value.shape, value.strides, 0};
            check(what, place, value.storage->integer);
            places_.emplace(tensor.name, std::move(place));
        }
        tensors_.push_back(std::move(tensor));
    }

    // The last element of the tensor lies in the storage, and the storage is as large as its entry.
    void check(const std::string& what, Place& place, int64_t n_elements) const {
        const Entry* entry = archive_->find(place.entry);
        if (!entry) archive_->fail(what + ": its values, entry " + in_quotes(place.entry) + ", are missing");
        __int128 last = place.offset, values = 1;
        for (size_t d = 0; d < place.shape.size(); ++d) {
            values *= place.shape[d];
            if (place.shape[d] > 0) last += static_cast<__int128>(place.shape[d] - 1) * place.strides[d];
            if (values > (__int128{1} << 48) || last > (__int128{1} << 48)) archive_->fail(what + " is absurdly large");
        }
        if (values > 0 && last >= n_elements) archive_->fail(what + " reaches beyond its storage");
        if (n_elements > (int64_t{1} << 48) ||
            entry->bytes != static_cast<uint64_t>(n_elements * place.element.bytes)) {
            archive_->fail(what + ": expected " + std::to_string(n_elements) + " values of " +
                           std::to_string(place.element.bytes) + " bytes in entry " + in_quotes(place.entry) +
                           ", found " + std::to_string(entry->bytes) + " bytes");
        }
        place.storage_bytes = entry->bytes;
    }

    const std::string& hold(const Place& place) const {
        if (held_entry_ != place.entry) {
            if (place.storage_bytes > kMaxHeldStorage) {
                archive_->fail("entry " + in_quotes(place.entry) + " of " + std::to_string(place.storage_bytes) +
                               " bytes is compressed or strided; at most 1.5 GiB of such are read: save it again with "
                               "contiguous tensors");
            }
            held_entry_.clear();
            held_ = std::string();  // two at once would be twice the limit
            held_ = archive_->read(place.entry, 0, place.storage_bytes);
            held_entry_ = place.entry;
        }
        return held_;
    }
};

}  // namespace

std::string without_wrappers(const std::string& name) {
    static constexpr std::string_view kWrappers[] = {"_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module",
                                                     "_checkpoint_wrapped_module"};
    std::string kept;
    for (size_t at = 0; at <= name.size();) {
        size_t end = std::min(name.find('.', at), name.size());
        std::string_view part = std::string_view(name).substr(at, end - at);
        if (std::find(std::begin(kWrappers), std::end(kWrappers), part) == std::end(kWrappers)) {
            if (!kept.empty()) kept += '.';
            kept += part;
        }
        at = end + 1;
    }
    return kept;
}

bool is_zip_archive(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    char magic[4] = {};
    file.read(magic, 4);
    return std::memcmp(magic, "PK\3\4", 4) == 0;
}

TorchCheckpoint open_torch_checkpoint(const std::string& path) {
    auto archive = std::make_shared<Archive>(path);
    if (archive->find("byteorder") &&
        archive->read("byteorder", 0, std::min<uint64_t>(6, archive->find("byteorder")->bytes)) != "little") {
        archive->fail("saved on a big-endian machine");
    }
    uint64_t pickle_bytes = archive->find("data.pkl")->bytes;
    if (pickle_bytes > kMaxPickle)
        archive->fail("data.pkl of " + std::to_string(pickle_bytes) + " bytes is absurdly large");
    archive->verify("data.pkl");
    std::string bytes = archive->read("data.pkl", 0, pickle_bytes);
    Pickle pickle(bytes, path);
    const PickleValue* root = &pickle.root();
    if (root->kind != PickleValue::kDict) archive->fail("expected a dict of tensors, found something else");

    TorchCheckpoint checkpoint;
    if (const PickleValue* hparams = root->get("hparams"); hparams && hparams->kind == PickleValue::kDict) {
        const PickleValue* name = hparams->get("model_name");
        if (name && name->kind == PickleValue::kString) checkpoint.model_name = name->text;
    }
    for (const char* key : {"model", "state_dict"}) {
        const PickleValue* inner = root->get(key);
        if (inner && inner->kind == PickleValue::kDict) {
            root = inner;
            break;
        }
    }
    checkpoint.reader = std::make_unique<TorchReader>(path, archive, *root);
    return checkpoint;
}

}  // namespace samba
