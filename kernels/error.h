// One root of exceptions for everything that a user or the machine can get wrong; caught once, in app/main.cpp.
// The message is one line: what, where, expected and found, what to do.
#pragma once
#include <stdexcept>
#include <string>

namespace samba {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct UsageError : Error {  // the command line or a request asks for something that is not there: exit 2
    using Error::Error;
};
struct FileError : Error {  // a file is missing, broken, or of another kind than expected
    using Error::Error;
};
struct DeviceError : Error {  // no such device, or it failed
    using Error::Error;
};
struct MemoryError : Error {  // more memory needed than there is
    using Error::Error;
};

}  // namespace samba
