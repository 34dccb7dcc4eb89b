// rmsnorm: a block a row.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// 1 / rms of a row, from the threads' sums of squares.
__device__ __forceinline__ float row_scale(float sum, int cols, float eps) {
    __shared__ float sums[kWarps];
    sum = warp_sum(sum);
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    float total = 0;
#pragma unroll
    for (int i = 0; i < kWarps; i++) total += sums[i];
    return 1.0f / sqrtf(total / static_cast<float>(cols) + eps);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rmsnorm_kernel(const float* x, int64_t x_stride, const float* weight, float eps, T* y, int64_t y_stride, int cols) {
    grid_dependents();
    grid_wait();
    const float* from = x + blockIdx.x * x_stride;
    float sum = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < cols; i += kThreads) sum = fmaf(from[i], from[i], sum);
    const float scale = row_scale(sum, cols, eps);
    T* to = y + blockIdx.x * y_stride;
#pragma unroll 8
    for (int i = threadIdx.x; i < cols; i += kThreads) to[i] = from_float<T>(from[i] * scale * weight[i]);
}

// Rows of at most kHeld columns, a multiple of 4 and aligned: a thread keeps its part, and has the weights early.
constexpr int kParts = 4, kHeld = kParts * 4 * kThreads;

__device__ __forceinline__ void store4(float* to, float4 v) { *reinterpret_cast<float4*>(to) = v; }
__device__ __forceinline__ void store4(bfloat* to, float4 v) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
}
__device__ __forceinline__ void store4(half* to, float4 v) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack_f16(v.x, v.y), pack_f16(v.z, v.w));
}

template <class T>
__global__ void __launch_bounds__(kThreads) rmsnorm_held_kernel(const float* x, int64_t x_stride, const float* weight,
                                                                float eps, T* y, int64_t y_stride, int cols) {
    grid_dependents();
    float4 v[kParts], w[kParts];
    const auto column = [](int i) { return 4 * static_cast<int>(threadIdx.x + i * kThreads); };
#pragma unroll
    for (int i = 0; i < kParts; i++) {
        if (column(i) < cols) w[i] = *reinterpret_cast<const float4*>(weight + column(i));
    }
    grid_wait();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kParts; i++) {
        v[i] = column(i) < cols ? *reinterpret_cast<const float4*>(x + blockIdx.x * x_stride + column(i))
                                : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (const float4& p : v) sum = fmaf(p.x, p.x, fmaf(p.y, p.y, fmaf(p.z, p.z, fmaf(p.w, p.w, sum))));
    const float scale = row_scale(sum, cols, eps);
#pragma unroll
    for (int i = 0; i < kParts; i++) {
        if (column(i) >= cols) continue;
        store4(y + blockIdx.x * y_stride + column(i), make_float4(v[i].x * scale * w[i].x, v[i].y * scale * w[i].y,
                                                                  v[i].z * scale * w[i].z, v[i].w * scale * w[i].w));
    }
}

bool aligned4(const void* p, int64_t stride) { return reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride % 4 == 0; }

}  // namespace

void rmsnorm(const Gpu& gpu, View x, const float* weight, float eps, View y) {
    with_type(y.type, [&](auto t) {
        using T = decltype(t);
        const bool held = x.cols <= kHeld && x.cols % 4 == 0 && aligned4(x.data, x.stride) && aligned4(weight, 0) &&
                          aligned4(y.data, y.stride);
        launch(gpu, dim3(x.rows), dim3(kThreads), 0, held ? rmsnorm_held_kernel<T> : rmsnorm_kernel<T>, x.f32(),
               x.stride, weight, eps, static_cast<T*>(y.data), y.stride, x.cols);
    });
}

}  // namespace samba::cuda
