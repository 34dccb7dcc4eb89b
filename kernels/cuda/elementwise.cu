// Ops that treat every value alone.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256;

template <class X, class Y>
__global__ void convert_kernel(const X* x, int64_t x_stride, int x_cols, Y* y, int64_t y_stride, int y_cols) {
    grid_dependents();
    grid_wait();
    const int64_t row = blockIdx.x;
    for (int c = blockIdx.y * kThreads + threadIdx.x; c < y_cols; c += gridDim.y * kThreads) {
        y[row * y_stride + c] = from_float<Y>(c < x_cols ? to_float(x[row * x_stride + c]) : 0.0f);
    }
}

template <class T>
__global__ void add_bias_kernel(const float* bias, T* y, int64_t stride, int cols) {
    grid_dependents();
    grid_wait();
    T* to = y + blockIdx.x * stride;
    for (int c = threadIdx.x; c < cols; c += kThreads) to[c] = from_float<T>(to_float(to[c]) + bias[c]);
}

template <class T>
__global__ void silu_mul_kernel(const T* x, int64_t x_stride, T* h, int64_t h_stride, int cols) {
    grid_dependents();
    grid_wait();
    const int c = (blockIdx.y * kThreads + threadIdx.x) * 8;
    if (c >= cols) return;
    const T* from = x + blockIdx.x * x_stride + c;
    float gate[8], up[8];
    load8(from, gate);
    load8(from + cols, up);
#pragma unroll
    for (int i = 0; i < 8; i++) gate[i] = silu(gate[i]) * up[i];
    store8(h + blockIdx.x * h_stride + c, gate);
}

// The same where the rows are not aligned.
template <class T>
__global__ void silu_mul_odd_kernel(const T* x, int64_t x_stride, T* h, int64_t h_stride, int cols) {
    grid_dependents();
    grid_wait();
    const T* from = x + blockIdx.x * x_stride;
    for (int c = threadIdx.x; c < cols; c += kThreads) {
        h[blockIdx.x * h_stride + c] = from_float<T>(silu(to_float(from[c])) * to_float(from[cols + c]));
    }
}

__global__ void gather_kernel(const float* x, int64_t x_stride, const __grid_constant__ RowList rows, float* y,
                              int64_t y_stride, int cols) {
    grid_dependents();
    grid_wait();
    const float* from = x + rows.row[blockIdx.x] * x_stride;
    for (int c = threadIdx.x; c < cols; c += kThreads) y[blockIdx.x * y_stride + c] = from[c];
}

bool aligned8(View v) { return v.stride % 8 == 0 && reinterpret_cast<uintptr_t>(v.data) % 16 == 0; }

}  // namespace

int check_kernels() {
    cudaFuncAttributes attributes;
    if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(gather_kernel)) == cudaSuccess) {
        return attributes.ptxVersion;
    }
    cudaGetLastError();
    throw DeviceError(
        "cuda: this program was not built for the device: name its architecture in SAMBA_CUDA_ARCHITECTURES");
}

void convert(const Gpu& gpu, View x, View y) {
    with_type(x.type, [&](auto from) {
        with_type(y.type, [&](auto to) {
            using X = decltype(from);
            using Y = decltype(to);
            const dim3 grid(x.rows, (y.cols + 4 * kThreads - 1) / (4 * kThreads));
            launch(gpu, grid, dim3(kThreads), 0, convert_kernel<X, Y>, static_cast<const X*>(x.data), x.stride, x.cols,
                   static_cast<Y*>(y.data), y.stride, y.cols);
        });
    });
}

void add_bias(const Gpu& gpu, const float* bias, View y) {
    with_type(y.type, [&](auto t) {
        using T = decltype(t);
        launch(gpu, dim3(y.rows), dim3(kThreads), 0, add_bias_kernel<T>, bias, static_cast<T*>(y.data), y.stride,
               y.cols);
    });
}

void silu_mul(const Gpu& gpu, View gate_up, View h) {
    with_type(h.type, [&](auto t) {
        using T = decltype(t);
        const auto* from = static_cast<const T*>(gate_up.data);
        auto* to = static_cast<T*>(h.data);
        if (aligned8(gate_up) && aligned8(h) && h.cols % 8 == 0) {
            const dim3 grid(h.rows, (h.cols / 8 + kThreads - 1) / kThreads);
            launch(gpu, grid, dim3(kThreads), 0, silu_mul_kernel<T>, from, gate_up.stride, to, h.stride, h.cols);
        } else {
            launch(gpu, dim3(h.rows), dim3(kThreads), 0, silu_mul_odd_kernel<T>, from, gate_up.stride, to, h.stride,
                   h.cols);
        }
    });
}

void gather_rows(const Gpu& gpu, View x, const RowList& rows, View y) {
    launch(gpu, dim3(y.rows), dim3(kThreads), 0, gather_kernel, x.f32(), x.stride, rows, y.f32(), y.stride, x.cols);
}

}  // namespace samba::cuda
