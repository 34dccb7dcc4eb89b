// What a launcher needs to know of the device, and the check of every CUDA call.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>

namespace samba::cuda {

struct Gpu {
    cudaStream_t stream = nullptr;
    int n_multiprocessors = 0;
    size_t max_shared = 0;  // bytes of shared memory that a block may have
    // Compute capability 9.0 and up, of the device and of the kernels that were compiled for it: kernels start before
    // the one before them ends, blocks form clusters, weights come to shared memory in bulk (kNine in ptx.cuh).
    bool nine = false;
    int max_cluster = 0;     // blocks with max_shared each that can be one cluster, a power of two; or 0
    int n_clusters[3] = {};  // [i], i > 0: of 1 << i such blocks, how many run at once
};

// Throws DeviceError "cuda: <what>: <reason>".
void check(cudaError_t status, const char* what);

}  // namespace samba::cuda
