// The CUDA backend. This header needs no CUDA: a program built without it still has make_cuda_backend, which says so.
#pragma once
#include <memory>

#include "kernels/backend.h"

namespace samba {

struct CudaOptions {
    int device = 0;
    bool f32_activations = false;  // with an F32 file: activations and products in f32, TF32 off
    bool graphs = true;            // false: every step is launched op by op
};

// Throws DeviceError when there is no such device, the driver is too old or cuBLASLt is missing, MemoryError when the
// device is full; the message is one line that a fallback to the CPU can give as its reason.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options = {});

}  // namespace samba
