// Weights widened to bf16 rows, part of a matrix at a time, for the large products of a prefill.
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {
namespace {

constexpr int kWarps = 4;  // a group each

template <class F>
__global__ void __launch_bounds__(kWarps * 32)
    dequantize_kernel(const __grid_constant__ DeviceWeight w, int n_groups, int first_tile, int n_rows, bfloat* to,
                      int64_t stride) {
    grid_dependents();
    grid_wait();
    const int lane = threadIdx.x & 31, group = blockIdx.y * kWarps + threadIdx.x / 32, g = lane / 4, t = lane & 3;
    if (group >= n_groups) return;
    const int64_t at = static_cast<int64_t>(first_tile + blockIdx.x) * n_groups + group;
    const auto raw = load_raw<F>(w.data + at * kFormatBytes<F>, lane);
#pragma unroll
    for (int b = 0; b < F::kBlocks; b++) {
        const int block = (group * F::kBlocks + b) * 32;
        if (block >= w.cols) continue;
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            const int row = blockIdx.x * kTile + g + 8 * upper;
            if (row >= n_rows) continue;
            float v[8];
            dequantize8<F>(raw, b, upper, v);
            bfloat* out = to + row * stride + block;
            if constexpr (F::kSplit) {
                *reinterpret_cast<uint2*>(out + 4 * t) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
                *reinterpret_cast<uint2*>(out + 16 + 4 * t) = make_uint2(pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
            } else {
                store8(out + 8 * t, v);
            }
        }
    }
}

template <class F>
void launch_dequantize(const Gpu& gpu, const DeviceWeight& w, int64_t first, View to) {
    constexpr int kColumns = F::kBlocks * 32;
    const int n_groups = (w.cols + kColumns - 1) / kColumns;
    const dim3 grid((to.rows + kTile - 1) / kTile, (n_groups + kWarps - 1) / kWarps);
    launch(gpu, grid, dim3(kWarps * 32), 0, dequantize_kernel<F>, w, n_groups, first / kTile, to.rows,
           static_cast<bfloat*>(to.data), to.stride);
}

}  // namespace

void dequantize(const Gpu& gpu, DType type, const DeviceWeight& w, int64_t first, View to) {
    switch (type) {
        case DType::kQ8_0:
            return launch_dequantize<Q8_0>(gpu, w, first, to);
        case DType::kQ4_0:
            return launch_dequantize<Q4_0>(gpu, w, first, to);
        case DType::kQ4_K:
            return launch_dequantize<Q4_K>(gpu, w, first, to);
        case DType::kQ5_K:
            return launch_dequantize<Q5_K>(gpu, w, first, to);
        case DType::kQ6_K:
            return launch_dequantize<Q6_K>(gpu, w, first, to);
        default: {
            const int64_t stride = padded_columns(w.cols);
            View rows(const_cast<unsigned char*>(w.data + first * stride * 2), to.rows, w.cols, type);
            rows.stride = stride;
            return convert(gpu, rows, to);
        }
    }
}

}  // namespace samba::cuda
