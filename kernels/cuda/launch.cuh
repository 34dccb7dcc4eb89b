// One way to launch a kernel: its arguments converted to the parameters' types, its errors checked.
//
// Where the device can, kernels are launched "programmatically dependent": a kernel starts when all blocks of the one
// before it run, and calls grid_wait() (ptx.cuh) before it touches anything but weights, and what early_run.cuh
// lets it read. Every kernel calls it.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/gpu.h"

namespace samba::cuda {

// The block's dynamic shared memory.
template <class T = unsigned char>
__device__ __forceinline__ T* dynamic_shared() {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    return reinterpret_cast<T*>(dynamic_shared_memory);
}

inline constexpr size_t kDefaultShared = 12 << 10;  // 48 KB, less what kernels declare themselves
inline constexpr int kPortableCluster = 8;          // blocks of a cluster that every device with clusters can launch

// cluster: how many neighbouring blocks of the grid form a cluster (up to gpu.max_cluster); 0: there are none.
template <class... P, class... A>
void launch_clusters(const Gpu& gpu, int cluster, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...),
                     const A&... args) {
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (shared > kDefaultShared) {
        check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
              "shared memory of a kernel");
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = gpu.stream;
    cudaLaunchAttribute attributes[2] = {};
    config.attrs = attributes;
    if (gpu.nine) {
        cudaLaunchAttribute& a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        a.val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 0) {
        cudaLaunchAttribute& a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeClusterDimension;
        a.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
        if (cluster > kPortableCluster) {
            check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
                  "a kernel's clusters");
        }
    }
    check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), "kernel launch");
}

// Blocks that all run at once are to be spread over the multiprocessors, where the first ones to be free would
// otherwise take as many as they have room for: so each asks for as much shared memory as leaves no room for one too
// many.
inline size_t evenly_spread(const Gpu& gpu, const dim3& grid, size_t shared) {
    const size_t blocks = size_t{grid.x} * grid.y * grid.z, n = static_cast<size_t>(gpu.n_multiprocessors);
    const size_t together = (blocks + n - 1) / n;
    return together <= 3 ? std::max(shared, (gpu.max_shared + (1 << 10)) / (together + 1)) : shared;
}

template <class... P, class... A>
void launch(const Gpu& gpu, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), const A&... args) {
    launch_clusters(gpu, 0, grid, block, shared, kernel, args...);
}

}  // namespace samba::cuda
