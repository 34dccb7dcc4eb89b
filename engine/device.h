// Which device runs the model: `--device auto|cpu|cuda[:N]`.
#pragma once
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace samba {

struct DeviceOptions {
    int threads = 0;
    int run_ahead = 0;         // CPU, tests: receive is that many steps late
    bool f32_weights = false;  // an F32 file: activations and ring are f32, TF32 off (docs/architecture.md, rule 2)
};

// `auto` takes a GPU when there is one that works, else the CPU, and says why in `fallback_reason`. Throws UsageError
// (no such device name) or DeviceError.
std::unique_ptr<Backend> open_device(const std::string& device, const DeviceOptions& options,
                                     std::string& fallback_reason);

}  // namespace samba
