// How a long job (convert, quantize, export) tells what it does and is told to stop.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "kernels/error.h"

namespace samba {

// Called on the caller's thread before each tensor and once at the end (with an empty name): bytes written, of all.
using ProgressFn = std::function<void(const std::string& tensor, uint64_t done, uint64_t total)>;

// Thrown when the options' `cancel` became true; the temporary file is gone by then. The program exits with 130.
struct Cancelled : Error {
    using Error::Error;
};

}  // namespace samba
