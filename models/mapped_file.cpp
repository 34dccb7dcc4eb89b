#include "models/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

}  // namespace

MappedFile::MappedFile(const std::string& path, Use use) {
    // Without O_NONBLOCK the open of a named pipe would wait for a writer.
    Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status;
    if (file.fd < 0 || ::fstat(file.fd, &status) != 0) {
        throw FileError("cannot open " + in_quotes(path) + ": " + std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) throw FileError(in_quotes(path) + " is not a regular file");
    if (status.st_size == 0) throw FileError(in_quotes(path) + " is empty");
    size_ = static_cast<size_t>(status.st_size);
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
    if (address == MAP_FAILED) throw FileError("cannot map " + in_quotes(path) + ": " + std::strerror(errno));
    memory_ = std::shared_ptr<void>(address, [size = size_](void* p) { ::munmap(p, size); });
    ::madvise(address, size_, use == Use::kOnce ? MADV_SEQUENTIAL : MADV_WILLNEED);
}

}  // namespace samba
