// Reading as a stream: bytes from files and pipes, tokens into a session.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"
#include "engine/session_file.h"

namespace samba {

// Asked while a read blocks and between chunks; true ends the job in order.
using ShouldStop = std::function<bool()>;

// What had to be changed in a text to make it one (docs/cli.md, input text), to be told once.
struct TextChanges {
    int64_t invalid_bytes = 0, replaced_spaces = 0, forced_cuts = 0;
};

// A file, a pipe or standard input ("-"), read from its begin; knows how much of it was read and its hash.
class InputFile {
  public:
    explicit InputFile(const std::string& path);  // throws FileError: missing, unreadable, a folder
    ~InputFile();
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    // The next bytes, as they come, at most `most` or 64 KiB; none at the end, or when a signal came and `stop` says
    // so. Throws FileError.
    std::string_view next(const ShouldStop& stop = {}, size_t most = SIZE_MAX);
    bool at_end() const { return at_end_; }
    uint64_t size() const { return size_; }  // of a regular file; else 0: not known
    // The bytes handed out so far.
    StateSource source() const;

  private:
    struct Hash;
    std::string path_;
    int fd_ = -1;
    uint64_t size_ = 0, bytes_ = 0;
    bool at_end_ = false;
    std::unique_ptr<Hash> hash_;
    std::vector<char> piece_;
};

// Several of them, one after another. All are opened, or tried, before the first is read.
class InputFiles {
  public:
    explicit InputFiles(std::vector<std::string> paths);  // throws FileError

    // Passes over what was read before; its bytes must be the same. Throws UsageError naming the file.
    void skip(const std::vector<StateSource>& read, const ShouldStop& stop);

    struct Piece {
        std::string_view bytes;
        bool begins = false;  // the first piece of its file, perhaps without bytes
        const std::string* path = nullptr;
    };
    // The next piece; none after the last file, or when `stop` says so.
    std::optional<Piece> next(const ShouldStop& stop);

    size_t count() const { return paths_.size(); }
    uint64_t total_bytes() const { return total_; }  // 0: not known
    uint64_t read_bytes() const;
    std::vector<StateSource> sources() const;  // what was read, in order

  private:
    std::vector<std::string> paths_;
    std::vector<std::unique_ptr<InputFile>> opened_;  // pipes, from the begin
    std::unique_ptr<InputFile> now_;
    size_t at_ = 0;  // of the next file to open
    uint64_t total_ = 0;
    std::vector<StateSource> done_;

    void open_next();
};

// Tokens on their way into a session: they are fed in whole prefill chunks, whatever portions they come in.
class TokenFeed {
  public:
    explicit TokenFeed(Session& session, FeedProgress progress = {});

    // Each of these is false when `progress` (called between chunks with the tokens fed in all) said stop.
    bool add(std::span<const int32_t> ids);  // feeds the chunks that are full; at least one token waits
    bool feed_all();
    bool feed_holding_last();  // the last token becomes the session's pending one

    int64_t fed() const { return fed_; }  // so far
    bool stopped() const { return progress_ && !progress_(fed_); }

  private:
    Session& session_;
    FeedProgress progress_;
    std::vector<int32_t> waiting_;
    int64_t fed_ = 0;
    bool goes_on_ = true;

    bool feed(size_t n);
    FeedProgress counted();
};

}  // namespace samba
