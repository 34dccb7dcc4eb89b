// Memory with one owner. The deleter knows which backend it came from.
#pragma once
#include <cstddef>
#include <memory>

namespace samba {

class Buffer {
  public:
    Buffer() = default;
    Buffer(std::shared_ptr<void> memory, size_t bytes) : memory_(std::move(memory)), bytes_(bytes) {}
    Buffer(Buffer&&) = default;
    Buffer& operator=(Buffer&&) = default;

    char* data() const { return static_cast<char*>(memory_.get()); }
    size_t bytes() const { return bytes_; }

  private:
    std::shared_ptr<void> memory_;
    size_t bytes_ = 0;
};

}  // namespace samba
