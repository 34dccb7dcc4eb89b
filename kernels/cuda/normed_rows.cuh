// Rows of activations that are normalised on their way into a product: x times the norm's weight as bf16, and the parts
// of each row's sum of squares; the product's sums are multiplied with 1 / rms at its end.
//
// Who makes them: the product that makes x, beside x (hand_on; 2 to 16 rows); where none has, each block of the product
// for itself, or of many values a kernel of its own. The sum of squares is always made in the same order, of four
// neighbours in one chain, of 16 columns (a tile of the maker's), of 128 (a warp's), of all columns of a warp, of all
// warps: so a row has the same bits whoever makes it, in any company.
#pragma once
#include "kernels/cuda/matvec_args.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quant_layout.h"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

// Neighbouring rows start in different halves of the banks.
__host__ __device__ inline int normed_stride(int cols) { return (cols + 63) / 64 * 64 + 32; }

__device__ __forceinline__ float square_of_four(const float4& v) {
    return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w)));
}
// Of a warp's 128 columns.
__device__ __forceinline__ float sum_of_squares(float of_four) {
#pragma unroll
    for (int d = 1; d < 32; d *= 2) of_four += __shfl_xor_sync(0xffffffffu, of_four, d);
    return of_four;
}
// A row's sum of a warp; blocks of half as many warps leave the other half zero.
__device__ __forceinline__ void store_squares(float* of_row, int warp, float sum) {
    of_row[warp] = sum;
    if (blockDim.x < 32 * kMaxWarps) of_row[warp + kMaxWarps / 2] = 0;
}
// 1 / rms of a row, from its warps' sums of squares; of warps that there are not they are zero.
__device__ __forceinline__ float row_scale(const MatvecArgs& a, const float* squares, int r) {
    const auto* from = reinterpret_cast<const float4*>(squares + r * kMaxWarps);
    float4 v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = from[i];
    float sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = (v[i].x + v[i].y) + (v[i].z + v[i].w);
    return rsqrtf(fmaf((sum[0] + sum[1]) + (sum[2] + sum[3]), a.per_column, a.eps));
}

// The maker's part, by the 16 threads that have a tile's outputs v of row r (0 beyond its end); n: their columns.
__device__ __forceinline__ void hand_on(const MatvecArgs& a, int r, int n, float v, float weight) {
    const int cols = a.w.rows, stride = normed_stride(cols);
    auto* rows = reinterpret_cast<bfloat*>(a.next);
    if (n < cols) rows[r * stride + n] = from_float<bfloat>(v * weight);
    const unsigned tile = 0xffffu << (threadIdx.x & 16);
    float4 four = {v, 0, 0, 0};
    four.y = __shfl_down_sync(tile, v, 1), four.z = __shfl_down_sync(tile, v, 2), four.w = __shfl_down_sync(tile, v, 3);
    float square = square_of_four(four);  // right in every fourth lane
    square += __shfl_xor_sync(tile, square, 4);
    square += __shfl_xor_sync(tile, square, 8);
    if (n % kTile == 0 && n < cols) {  // slots beyond the last tile have none
        reinterpret_cast<float*>(rows + a.n_rows * stride)[r * ((cols + kTile - 1) / kTile) + n / kTile] = square;
    }
}
// Warp w's sum of a row of so many tiles, whose squares those are.
__device__ __forceinline__ float squares_of_tiles(const float* tiles, int n_tiles, int warp) {
    constexpr int kOfWarp = 128 / kTile;
    const int n_warps = blockDim.x / 32;
    float sum = 0;
    for (int first = kOfWarp * warp; warp < n_warps && first < n_tiles; first += kOfWarp * n_warps) {
        float v[kOfWarp];
#pragma unroll
        for (int i = 0; i < kOfWarp; i++) v[i] = first + i < n_tiles ? tiles[first + i] : 0.0f;
        sum += ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    return sum;
}

// Rows of `bytes` (a multiple of 16, as strides and addresses) to shared memory, once a kernel, by the copy engine:
// what threads load themselves waits behind the weights that they have sent for. `meanwhile` is done while they come.
template <class F>
__device__ __forceinline__ void bring_in_bulk(const void* from, int64_t stride, int bytes, int n_rows,
                                              unsigned char* to, int to_stride, F&& meanwhile) {
    __shared__ uint64_t arrived;
    if (threadIdx.x < 32) {
        if (threadIdx.x == 0) init_copies(&arrived), arrive_and_expect(&arrived, bytes * n_rows);
        __syncwarp();
        const int r = threadIdx.x;
        if (r < n_rows) {
            copy_bulk<false>(to + r * to_stride, static_cast<const unsigned char*>(from) + r * stride, bytes, &arrived);
        }
    }
    meanwhile();
    __syncthreads();  // the barrier is there
    wait_for_copies(&arrived, 0);
}

// Of prepared rows: the parts of their sums of squares.
__device__ __forceinline__ void copy_squares(const MatvecArgs& a, const float* parts, float* squares) {
    const int i = threadIdx.x;
    if (a.norm == nullptr || i >= a.n_rows * kMaxWarps) return;
    if (a.by_maker) {
        const int n_tiles = (a.w.cols + kTile - 1) / kTile;
        squares[i] = squares_of_tiles(parts + i / kMaxWarps * n_tiles, n_tiles, i % kMaxWarps);
    } else {
        squares[i] = parts[i];
    }
}
// And all of it: the activations (`bytes`), to shared memory.
__device__ __forceinline__ void copy_prepared(const MatvecArgs& a, int bytes, unsigned char* shared, float* squares) {
    const auto* parts = reinterpret_cast<const float*>(a.prepared + bytes);
    if constexpr (kNine) {
        return bring_in_bulk(a.prepared, 0, bytes, 1, shared, 0, [&] { copy_squares(a, parts, squares); });
    }
    const auto* from = reinterpret_cast<const uint4*>(a.prepared);
    const int n = bytes / static_cast<int>(sizeof(uint4));
#pragma unroll 6
    for (int i = threadIdx.x; i < n; i += blockDim.x) reinterpret_cast<uint4*>(shared)[i] = from[i];
    copy_squares(a, parts, squares);
}

}  // namespace samba::cuda
