#include "engine/reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {
namespace {

constexpr size_t kPieceBytes = 1 << 16;

std::string shown(const std::string& path) { return path == "-" ? "standard input" : in_quotes(path); }

}  // namespace

struct InputFile::Hash {
    XXH3_state_t* state = XXH3_createState();
    Hash() { XXH3_64bits_reset(state); }
    ~Hash() { XXH3_freeState(state); }
};

InputFile::InputFile(const std::string& path) : path_(path), hash_(std::make_unique<Hash>()), piece_(kPieceBytes) {
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status;
    bool there = fd_ >= 0 && ::fstat(fd_, &status) == 0;
    if (there && S_ISDIR(status.st_mode)) {
        there = false;
        errno = EISDIR;
    }
    if (!there) {
        std::string why = std::strerror(errno);
        if (fd_ > STDIN_FILENO) ::close(fd_);
        throw FileError("cannot read " + shown(path) + ": " + why);
    }
    if (S_ISREG(status.st_mode)) size_ = static_cast<uint64_t>(status.st_size);
}

InputFile::~InputFile() {
    if (fd_ > STDIN_FILENO) ::close(fd_);
}

std::string_view InputFile::next(const ShouldStop& stop, size_t most) {
    while (!at_end_ && !(stop && stop())) {
        ssize_t n = ::read(fd_, piece_.data(), std::min(piece_.size(), most));
        if (n > 0) {
            bytes_ += static_cast<uint64_t>(n);
            XXH3_64bits_update(hash_->state, piece_.data(), static_cast<size_t>(n));
            return {piece_.data(), static_cast<size_t>(n)};
        }
        if (n == 0) {
            at_end_ = true;
        } else if (errno == EAGAIN) {  // someone made it non-blocking
            pollfd wait{fd_, POLLIN, 0};
            ::poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            throw FileError("cannot read " + shown(path_) + ": " + std::strerror(errno));
        }
    }
    return {};
}

StateSource InputFile::source() const { return {path_, bytes_, XXH3_64bits_digest(hash_->state)}; }

// ---- several files ---------------------------------------------------------------------------------------------

InputFiles::InputFiles(std::vector<std::string> paths) : paths_(std::move(paths)), opened_(paths_.size()) {
    bool known = true;
    for (size_t i = 0; i < paths_.size(); ++i) {
        auto file = std::make_unique<InputFile>(paths_[i]);
        bool regular = file->size() > 0;
        known = known && regular;
        total_ += file->size();
        if (!regular) opened_[i] = std::move(file);  // a pipe can be opened once
    }
    if (!known) total_ = 0;
}

void InputFiles::open_next() {
    if (now_) done_.push_back(now_->source());
    now_ = opened_[at_] ? std::move(opened_[at_]) : std::make_unique<InputFile>(paths_[at_]);
    ++at_;
}

void InputFiles::skip(const std::vector<StateSource>& read, const ShouldStop& stop) {
    auto refuse = [](const std::string& path, const std::string& what) {
        throw UsageError(shown(path) + ": " + what + "; --restart begins anew");
    };
    for (size_t i = 0; i < read.size(); ++i) {
        if (i == paths_.size()) {
            throw UsageError("the state was saved after " + std::to_string(read.size()) + " files, here are " +
                             std::to_string(paths_.size()) + "; name the same ones, or --restart");
        }
        open_next();
        uint64_t left = read[i].bytes;
        while (left > 0) {
            std::string_view bytes = now_->next(stop, static_cast<size_t>(left));
            if (bytes.empty()) break;
            left -= bytes.size();
        }
        if (stop && stop()) return;
        if (left > 0 || now_->source().hash != read[i].hash) {
            refuse(paths_[i],
                   "its first " + std::to_string(read[i].bytes) + " bytes are not those that were read then");
        }
        if (i + 1 < read.size() && !now_->next(stop).empty()) refuse(paths_[i], "it is longer than it was then");
    }
}

std::optional<InputFiles::Piece> InputFiles::next(const ShouldStop& stop) {
    bool begins = false;
    if (!now_ || now_->at_end()) {
        if (at_ == paths_.size() || (stop && stop())) return {};
        open_next();
        begins = true;
    }
    const std::string* path = &paths_[at_ - 1];
    std::string_view bytes = now_->next(stop);
    if (!bytes.empty() || begins) return Piece{bytes, begins, path};
    return now_->at_end() && at_ < paths_.size() ? next(stop) : std::optional<Piece>();
}

uint64_t InputFiles::read_bytes() const {
    uint64_t sum = now_ ? now_->source().bytes : 0;
    for (const StateSource& s : done_) sum += s.bytes;
    return sum;
}

std::vector<StateSource> InputFiles::sources() const {
    std::vector<StateSource> all = done_;
    if (now_) all.push_back(now_->source());
    return all;
}

// ---- tokens ----------------------------------------------------------------------------------------------------

TokenFeed::TokenFeed(Session& session, FeedProgress progress) : session_(session), progress_(std::move(progress)) {}

FeedProgress TokenFeed::counted() {
    if (!progress_) return {};
    return [this](int64_t fed) { return goes_on_ = progress_(fed_ + fed); };
}

bool TokenFeed::feed(size_t n) {
    if (n == 0) return true;
    int64_t fed = session_.feed(std::span(waiting_).first(n), counted());
    fed_ += fed;
    waiting_.erase(waiting_.begin(), waiting_.begin() + fed);
    return goes_on_;
}

bool TokenFeed::add(std::span<const int32_t> ids) {
    waiting_.insert(waiting_.end(), ids.begin(), ids.end());
    int64_t chunk = session_.engine().backend().prefill_chunk();
    int64_t held = session_.pending() ? 1 : 0;
    int64_t until_border = chunk - session_.position() % chunk - held;
    int64_t beyond = static_cast<int64_t>(waiting_.size()) - until_border;
    if (beyond <= 0) return true;
    int64_t whole = (beyond - 1) / chunk * chunk;
    return feed(static_cast<size_t>(std::max<int64_t>(until_border, 0) + whole));
}

bool TokenFeed::feed_all() { return feed(waiting_.size()); }

bool TokenFeed::feed_holding_last() {
    if (waiting_.empty()) return true;
    int64_t n = session_.feed_holding_last(waiting_, counted());
    fed_ += n;
    waiting_.erase(waiting_.begin(), waiting_.begin() + n);
    return goes_on_;
}

}  // namespace samba
