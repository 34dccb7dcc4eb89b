// What a launcher needs to know of the device, and the check of every CUDA call.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>

namespace samba::cuda {

struct Gpu {
    cudaStream_t stream = nullptr;
    int n_multiprocessors = 0;
    size_t max_shared = 0;          // bytes of shared memory that a block may have
    bool dependent_launch = false;  // kernels start before the one before them ends (compute capability 9.0 and up)
    bool copy_engine = false;       // weights can come to shared memory in bulk (compiled for 9.0 and up)
    int max_cluster = 0;            // blocks with max_shared each that can be one cluster, a power of two; or 0
};

// Throws DeviceError "cuda: <what>: <reason>".
void check(cudaError_t status, const char* what);

}  // namespace samba::cuda
