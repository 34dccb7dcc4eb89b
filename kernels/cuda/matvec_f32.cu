// Products of a few rows with F32 weights, of f32 or bf16 activations: FMA in f32. A warp takes two rows of the weight;
// a lane's columns are added in ascending order, then the lanes, whatever the number of rows.
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {
namespace {

constexpr int kWarps = 8, kRowsPerWarp = 2;

struct Args {
    const float* w;
    int rows, cols;
    const void* x;
    int64_t x_stride;
    int n_rows;
    void* y;
    int64_t y_stride;
    DType y_type;
    bool add, vectors;  // vectors: everything is aligned to four values
    const float* bias;
};

__device__ __forceinline__ float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ float4 load4(const bfloat* p) {
    const uint2 v = *reinterpret_cast<const uint2*>(p);
    return make_float4(low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y));
}

template <class X, int R>
__global__ void __launch_bounds__(kWarps * 32) matvec_f32_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const int lane = threadIdx.x & 31;
    const int first = (blockIdx.x * kWarps + threadIdx.x / 32) * kRowsPerWarp;
    if (first >= a.rows) return;
    float sum[kRowsPerWarp][R] = {};
    const float* w[kRowsPerWarp];
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; i++) w[i] = a.w + static_cast<int64_t>(min(first + i, a.rows - 1)) * a.cols;
    const X* x[R];
#pragma unroll
    for (int r = 0; r < R; r++) x[r] = static_cast<const X*>(a.x) + min(r, a.n_rows - 1) * a.x_stride;
    if (a.vectors) {
#pragma unroll 2
        for (int k = lane * 4; k < a.cols; k += 128) {
            float4 v[kRowsPerWarp];
#pragma unroll
            for (int i = 0; i < kRowsPerWarp; i++) v[i] = load4(w[i] + k);
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float4 u = load4(x[r] + k);
#pragma unroll
                for (int i = 0; i < kRowsPerWarp; i++) {
                    sum[i][r] = fmaf(v[i].w, u.w, fmaf(v[i].z, u.z, fmaf(v[i].y, u.y, fmaf(v[i].x, u.x, sum[i][r]))));
                }
            }
        }
    } else {
        for (int k = lane; k < a.cols; k += 32) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float u = to_float(x[r][k]);
#pragma unroll
                for (int i = 0; i < kRowsPerWarp; i++) sum[i][r] = fmaf(w[i][k], u, sum[i][r]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; i++) {
#pragma unroll
        for (int r = 0; r < R; r++) {
            float v = warp_sum(sum[i][r]);
            if (lane != 0 || first + i >= a.rows || r >= a.n_rows) continue;
            if (a.bias != nullptr) v += a.bias[first + i];
            const int64_t to = r * a.y_stride + first + i;
            if (a.add) v += load_as(a.y_type, a.y, to);
            store_as(a.y_type, a.y, to, v);
        }
    }
}

template <class X>
void launch_rows(const Gpu& gpu, const Args& a) {
    constexpr int kRows = kWarps * kRowsPerWarp;
    const dim3 grid((a.rows + kRows - 1) / kRows), block(kWarps * 32);
    if (a.n_rows == 1) return launch(gpu, grid, block, 0, matvec_f32_kernel<X, 1>, a);
    if (a.n_rows == 2) return launch(gpu, grid, block, 0, matvec_f32_kernel<X, 2>, a);
    if (a.n_rows <= 4) return launch(gpu, grid, block, 0, matvec_f32_kernel<X, 4>, a);
    launch(gpu, grid, block, 0, matvec_f32_kernel<X, 8>, a);
}

}  // namespace

void matvec_f32(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    const View x = p.x, y = p.y;
    const bool f32 = x.type == DType::kF32;
    const uintptr_t align = f32 ? 16 : 8;
    const bool vectors = w.cols % 4 == 0 && x.stride % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % align == 0;
    const Args a{reinterpret_cast<const float*>(w.data),
                 w.rows,
                 w.cols,
                 x.data,
                 x.stride,
                 static_cast<int>(x.rows),
                 y.data,
                 y.stride,
                 y.type,
                 p.add,
                 vectors,
                 p.bias};
    f32 ? launch_rows<float>(gpu, a) : launch_rows<bfloat>(gpu, a);
}

}  // namespace samba::cuda
