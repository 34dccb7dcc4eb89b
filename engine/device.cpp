#include "engine/device.h"

#include <charconv>

#include "kernels/cpu/backend.h"
#include "kernels/error.h"
#ifdef SAMBA_WITH_CUDA
#include "kernels/cuda/backend.h"
#endif

namespace samba {
namespace {

std::unique_ptr<Backend> open_cuda([[maybe_unused]] int index, [[maybe_unused]] const DeviceOptions& options) {
#ifdef SAMBA_WITH_CUDA
    return make_cuda_backend({.device = index, .f32_activations = options.f32_weights});
#else
    throw DeviceError("this build has no CUDA backend");
#endif
}

}  // namespace

std::unique_ptr<Backend> open_device(const std::string& device, const DeviceOptions& options,
                                     std::string& fallback_reason) {
    auto cpu = [&] { return make_cpu_backend({.threads = options.threads, .delay = options.run_ahead}); };
    if (device == "cpu") return cpu();
    if (device == "auto") {
        try {
            return open_cuda(0, options);
        } catch (const DeviceError& e) {
            fallback_reason = e.what();
            return cpu();
        }
    }
    int index = 0;
    if (device.starts_with("cuda:")) {
        const char* end = device.data() + device.size();
        auto [stop, error] = std::from_chars(device.data() + 5, end, index);
        if (error == std::errc{} && stop == end && index >= 0) return open_cuda(index, options);
    } else if (device == "cuda") {
        return open_cuda(0, options);
    }
    throw UsageError("--device " + device + ": expected auto, cpu, cuda or cuda:N");
}

}  // namespace samba
