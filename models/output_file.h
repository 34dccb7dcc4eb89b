// A file that appears only when it is whole: written beside its place under a temporary name, then renamed.
#pragma once
#include <cstdint>
#include <string>

namespace samba {

class OutputFile {
  public:
    // Throws UsageError when `path` exists and `force` is not set, FileError when nothing can be written there.
    OutputFile(const std::string& path, bool force);
    ~OutputFile();  // without finish(): the temporary file is removed
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    void write(const void* data, size_t bytes);
    void write_at(uint64_t offset, const void* data, size_t bytes);  // over what was written
    uint64_t written() const { return written_; }
    void finish();  // everything on the disk, then the rename

  private:
    std::string path_, temporary_;
    int fd_ = -1;
    bool force_;
    uint64_t written_ = 0;
    std::string buffer_;

    void check_place() const;
    void flush();
    void put(const char* data, size_t bytes, uint64_t offset);
    [[noreturn]] void fail(const char* what) const;
};

}  // namespace samba
