// rmsnorm: a block a row.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    rmsnorm_kernel(const float* x, int64_t x_stride, const float* weight, float eps, T* y, int64_t y_stride, int cols) {
    __shared__ float sums[kThreads / 32];
    grid_dependents();
    grid_wait();
    const float* from = x + blockIdx.x * x_stride;
    float sum = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < cols; i += kThreads) sum = fmaf(from[i], from[i], sum);
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    float total = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; i++) total += sums[i];
    const float scale = 1.0f / sqrtf(total / static_cast<float>(cols) + eps);
    T* to = y + blockIdx.x * y_stride;
#pragma unroll 8
    for (int i = threadIdx.x; i < cols; i += kThreads) to[i] = from_float<T>(from[i] * scale * weight[i]);
}

}  // namespace

void rmsnorm(const Gpu& gpu, View x, const float* weight, float eps, View y) {
    with_type(y.type, [&](auto t) {
        using T = decltype(t);
        launch(gpu, dim3(x.rows), dim3(kThreads), 0, rmsnorm_kernel<T>, x.f32(), x.stride, weight, eps,
               static_cast<T*>(y.data), y.stride, x.cols);
    });
}

}  // namespace samba::cuda
