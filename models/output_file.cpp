#include "models/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {
constexpr size_t kBufferBytes = 1 << 20;
}

OutputFile::OutputFile(const std::string& path, bool force)
    : path_(path), temporary_(path + ".tmp-" + std::to_string(::getpid())), force_(force) {
    check_place();
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) {
        throw FileError("cannot create " + in_quotes(temporary_) + ": " + std::strerror(errno));
    }
}

OutputFile::~OutputFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
}

void OutputFile::check_place() const {
    struct stat status;
    if (::stat(path_.c_str(), &status) != 0) return;
    if (!S_ISREG(status.st_mode)) throw FileError("cannot write " + in_quotes(path_) + ": it is not a regular file");
    if (!force_) throw UsageError(in_quotes(path_) + " exists already (--force replaces it)");
}

void OutputFile::fail(const char* what) const {
    throw FileError(std::string("cannot ") + what + " " + in_quotes(path_) + ": " + std::strerror(errno));
}

void OutputFile::put(const char* data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t n = ::pwrite(fd_, data, bytes, static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail("write");
        data += n;
        offset += static_cast<uint64_t>(n);
        bytes -= static_cast<size_t>(n);
    }
}

void OutputFile::flush() {
    put(buffer_.data(), buffer_.size(), written_ - buffer_.size());
    buffer_.clear();
}

void OutputFile::write(const void* data, size_t bytes) {
    if (buffer_.size() + bytes > kBufferBytes) flush();
    written_ += bytes;
    if (bytes >= kBufferBytes) {
        put(static_cast<const char*>(data), bytes, written_ - bytes);
    } else {
        buffer_.append(static_cast<const char*>(data), bytes);
    }
}

void OutputFile::write_at(uint64_t offset, const void* data, size_t bytes) {
    flush();
    put(static_cast<const char*>(data), bytes, offset);
}

void OutputFile::finish() {
    flush();
    if (::fsync(fd_) != 0) fail("write");
    check_place();
    int fd = fd_;
    fd_ = -1;
    bool closed = ::close(fd) == 0;
    if (!closed || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
        int error = errno;
        ::unlink(temporary_.c_str());
        errno = error;
        fail("write");
    }
    // The rename itself on the disk; a file system that cannot do this is no reason to fail.
    size_t slash = path_.rfind('/');
    std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
    int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        ::fsync(directory);
        ::close(directory);
    }
}

}  // namespace samba
