// Any bytes as the pickle of a checkpoint: an error, never a crash.
#include <cstddef>
#include <cstdint>

#include "kernels/error.h"
#include "models/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        samba::Pickle pickle({reinterpret_cast<const char*>(data), size}, "fuzz");
    } catch (const samba::Error&) {
    }
    return 0;
}
