#include "engine/session_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "engine/session_format.h"
#include "kernels/error.h"
#include "models/mapped_file.h"
#include "models/quote.h"

namespace samba {

const char* state_kind_name(StateKind kind) {
    switch (kind) {
        case StateKind::kRaw:
            return "raw";
        case StateKind::kChat:
            return "chat";
        case StateKind::kSummarize:
            return "summarize";
    }
    return "";
}

namespace {

// ---- what a state belongs to -----------------------------------------------------------------------------------

std::string hex(uint64_t v) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text(16, '0');
    for (size_t i = 0; i < 16; ++i) text[15 - i] = kDigits[v >> (4 * i) & 15];
    return text;
}

std::string tokenizer_fingerprint(const TokenizerData& t) {
    XXH3_state_t* hash = XXH3_createState();
    XXH3_64bits_reset(hash);
    auto add = [&](const std::string& text) {
        uint64_t n = text.size();
        XXH3_64bits_update(hash, &n, sizeof n);
        XXH3_64bits_update(hash, text.data(), text.size());
    };
    add(t.kind);
    add(t.sentencepiece_model);
    for (const std::string& token : t.tokens) add(token);
    for (const std::string& merge : t.merges) add(merge);
    std::string print = hex(XXH3_64bits_digest(hash));
    XXH3_freeState(hash);
    return print;
}

// The metadata's hash holds that of the tensors; a file that does not say it is hashed here.
std::string model_fingerprint(const ModelFile& file) {
    return file.fingerprint + (file.content_hash.empty() ? content_hash(file) : std::string());
}

std::string template_fingerprint(const ChatTemplate* t) {
    if (!t) return "";
    std::string json = t->json();
    return hex(XXH3_64bits(json.data(), json.size()));
}

// All that the layout of a state follows from, but the ring type.
std::vector<int64_t> shape_of(const Config& c) {
    std::vector<int64_t> shape = {c.d_model, c.vocab_size, c.d_inner, c.d_state, c.d_conv};
    for (const BlockConfig& b : c.blocks) {
        shape.insert(shape.end(), {static_cast<int64_t>(b.mixer), b.n_kv_heads, b.head_dim, b.window});
        if (b.value_dim > 0) shape.insert(shape.end(), {b.n_heads, b.value_dim});
        if (b.chunk > 0) shape.push_back(b.chunk);
        if (b.conv_width > 0) shape.push_back(b.conv_width);
    }
    return shape;
}

std::string quoted(const std::string& path) { return in_quotes(path); }

void check_belongs(const StoredState& s, Engine& engine, StateKind kind, const std::string& path) {
    auto refuse = [&](const std::string& what) { throw FileError(quoted(path) + ": " + what); };
    if (s.saved.kind != kind) {
        refuse(std::string("a ") + state_kind_name(s.saved.kind) + " state, expected a " + state_kind_name(kind) +
               " state");
    }
    if (s.model != model_fingerprint(engine.file()) || s.shape != shape_of(engine.config())) {
        refuse("the state of another model file: it was saved with " + in_quotes(s.model_name) + " (" + s.model +
               "), this is " + in_quotes(engine.config().name) + " (" + model_fingerprint(engine.file()) +
               "); name the right one with -m");
    }
    if (s.tokenizer != tokenizer_fingerprint(engine.file().tokenizer)) refuse("saved with another tokenizer");
    if (kind != StateKind::kRaw && s.chat_template != template_fingerprint(engine.chat_template())) {
        refuse("saved with the chat template " + in_quotes(s.template_name) + ", which is not the one in use" +
               "; name it with --template");
    }
    if (s.ring_type != engine.ring_type()) {
        refuse(std::string("saved with --ring-type ") + info(s.ring_type).name + ", but the model was loaded with " +
               info(engine.ring_type()).name);
    }
}

// ---- snapshots -------------------------------------------------------------------------------------------------

Snapshot to_engine(const StoredSnapshot& stored, Engine& engine, const std::string& path) {
    auto refuse = [&](const std::string& what) { throw FileError(quoted(path) + ": " + what); };
    int64_t limit = engine.model().max_positions();
    if (limit > 0 && stored.position > limit) {
        refuse("holds " + std::to_string(stored.position) + " tokens, --max-context allows " + std::to_string(limit));
    }
    size_t expected = engine.model().layout().snapshot_bytes(stored.position);
    if (stored.state.size() != expected) {
        refuse("expected a state of " + std::to_string(expected) + " bytes, found " +
               std::to_string(stored.state.size()));
    }
    auto known = [&](int32_t id) { return id >= 0 && id < engine.config().vocab_size; };
    for (int32_t id : stored.tokens) {
        if (!known(id)) refuse("holds the token " + std::to_string(id) + ", which the model does not have");
    }
    if (stored.pending && !known(stored.pending->id)) refuse("its pending token is none of the model's");
    Snapshot s{stored.position, stored.pending, stored.tokens, nullptr};
    s.state = std::make_shared<Buffer>(engine.backend().allocate(expected));
    engine.backend().write(s.state->data(), stored.state.data(), expected);
    return s;
}

// `host` receives the bytes and must outlive the result.
StoredSnapshot to_host(const Snapshot& s, Engine& engine, std::vector<unsigned char>& host) {
    host.resize(engine.model().layout().snapshot_bytes(s.position));
    engine.backend().read(host.data(), s.state->data(), host.size());
    return {s.position, s.pending, s.tokens, host};
}

std::string bytes_of(const SavedState& state, Engine& engine) {
    StoredState s;
    s.model = model_fingerprint(engine.file());
    s.model_name = engine.config().name;
    s.tokenizer = tokenizer_fingerprint(engine.file().tokenizer);
    s.chat_template = template_fingerprint(engine.chat_template());
    if (engine.chat_template()) s.template_name = engine.chat_template()->name();
    s.shape = shape_of(engine.config());
    s.ring_type = engine.ring_type();
    s.saved = state;
    std::vector<unsigned char> now, before;
    s.now = to_host(state.now, engine, now);
    if (state.before_turn) s.before_turn = to_host(*state.before_turn, engine, before);
    return encode_state(s);
}

// ---- files -----------------------------------------------------------------------------------------------------

[[noreturn]] void fail(const std::string& what, const std::string& path) {
    throw FileError("cannot " + what + " " + quoted(path) + ": " + std::strerror(errno));
}

// A new file beside its place, which takes it on publish().
class Temporary {
  public:
    explicit Temporary(const std::string& path) {
        std::error_code none;
        target_ = path;
        if (std::filesystem::is_symlink(path, none)) target_ = std::filesystem::canonical(path, none).string();
        if (target_.empty()) target_ = path;
        struct stat status;
        if (::stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
            throw FileError("cannot write " + quoted(path) + ": it is not a regular file");
        }
        name_ = target_ + ".tmp-XXXXXX";
        fd_ = ::mkostemp(name_.data(), O_CLOEXEC);  // mode 0600
        if (fd_ < 0) fail("create a file beside", path);
    }
    ~Temporary() {
        if (fd_ >= 0) ::close(fd_);
        if (!name_.empty()) ::unlink(name_.c_str());
    }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;

    void write(std::string_view bytes) {
        while (!bytes.empty()) {
            ssize_t n = ::write(fd_, bytes.data(), bytes.size());
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("write", target_);
            bytes.remove_prefix(static_cast<size_t>(n));
        }
        if (::fsync(fd_) != 0) fail("write", target_);
    }
    void lock() { ::flock(fd_, LOCK_EX | LOCK_NB); }  // nobody else knows the file yet
    // The file's descriptor, now the caller's.
    int publish() {
        if (::rename(name_.c_str(), target_.c_str()) != 0) fail("replace", target_);
        name_.clear();
        std::string folder = std::filesystem::path(target_).parent_path().string();
        int dir = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir >= 0) {
            ::fsync(dir);
            ::close(dir);
        }
        return std::exchange(fd_, -1);
    }

  private:
    std::string target_, name_;
    int fd_ = -1;
};

}  // namespace

StateHeader read_state_header(const std::string& path) {
    MappedFile file(path, MappedFile::Use::kRandom);
    StoredState s = decode_state(file.bytes(), quoted(path), true);
    return {s.saved.kind, s.ring_type, s.model_name, s.template_name, s.now.position, s.saved.messages};
}

SavedState load_state(const std::string& path, Engine& engine, StateKind kind) {
    MappedFile file(path, MappedFile::Use::kOnce);
    StoredState stored = decode_state(file.bytes(), quoted(path));
    check_belongs(stored, engine, kind, path);
    SavedState state = std::move(stored.saved);
    state.now = to_engine(stored.now, engine, path);
    if (stored.before_turn) state.before_turn = to_engine(*stored.before_turn, engine, path);
    return state;
}

void save_state(const std::string& path, const SavedState& state, Engine& engine) {
    Temporary file(path);
    file.write(bytes_of(state, engine));
    ::close(file.publish());
}

StateFileLock::StateFileLock(const std::string& path) : path_(path) {
    for (;;) {
        made_ = false;
        fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        if (fd_ < 0 && errno == ENOENT) {
            fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (fd_ < 0 && errno == EEXIST) continue;  // another process was faster
            made_ = true;
        }
        if (fd_ < 0) fail("open", path);
        struct stat mine, now;
        bool locked = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
        if (!locked && errno != EWOULDBLOCK) fail("lock", path);
        bool fine = locked && ::fstat(fd_, &mine) == 0;
        // The file may have been replaced between the open and the lock.
        bool same = fine && ::stat(path.c_str(), &now) == 0 && mine.st_ino == now.st_ino && mine.st_dev == now.st_dev;
        if (same) {
            is_new_ = mine.st_size == 0;
            if (S_ISREG(mine.st_mode)) return;
        }
        ::close(std::exchange(fd_, -1));
        if (!locked) throw Error(quoted(path) + ": another samba-lm is using this session; end that one first");
        if (same) throw FileError(quoted(path) + ": a session must be a regular file");
    }
}

StateFileLock::~StateFileLock() {
    struct stat status;
    if (made_ && ::fstat(fd_, &status) == 0 && status.st_size == 0) ::unlink(path_.c_str());
    ::close(fd_);
}

void StateFileLock::save(const SavedState& state, Engine& engine) {
    Temporary file(path_);
    file.lock();
    file.write(bytes_of(state, engine));
    int fd = file.publish();
    ::close(std::exchange(fd_, fd));
    made_ = is_new_ = false;
}

}  // namespace samba
