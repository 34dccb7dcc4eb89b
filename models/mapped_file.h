// A file mapped into memory, read-only and shared, so that processes and restarts share the page cache.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace samba {

class MappedFile {
  public:
    enum class Use { kRandom, kOnce };  // weights that stay; a checkpoint that is read through once

    MappedFile() = default;
    // Throws FileError: missing, unreadable, a directory or a pipe, empty.
    MappedFile(const std::string& path, Use use);

    std::span<const unsigned char> bytes() const { return {static_cast<const unsigned char*>(memory_.get()), size_}; }
    const std::shared_ptr<void>& memory() const { return memory_; }  // keeps the mapping

  private:
    std::shared_ptr<void> memory_;
    size_t size_ = 0;
};

}  // namespace samba
