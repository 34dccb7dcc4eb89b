// One way to launch a kernel: its arguments converted to the parameters' types, its errors checked.
//
// Where the device can, kernels are launched "programmatically dependent": a kernel starts when all blocks of the one
// before it run, and calls grid_wait() (ptx.cuh) before it touches anything but weights. Every kernel calls it.
#pragma once
#include <cuda_runtime.h>

#include "kernels/cuda/gpu.h"

namespace samba::cuda {

// The block's dynamic shared memory.
template <class T = unsigned char>
__device__ __forceinline__ T* dynamic_shared() {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    return reinterpret_cast<T*>(dynamic_shared_memory);
}

inline constexpr size_t kDefaultShared = 36 << 10;  // 48 KB, less what kernels declare themselves

template <class... P, class... A>
void launch(const Gpu& gpu, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), const A&... args) {
    if (shared > kDefaultShared) {
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared)),
              "shared memory of a kernel");
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = gpu.stream;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = gpu.dependent_launch ? 1 : 0;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), "kernel launch");
}

}  // namespace samba::cuda
