// What the kernels of the short convolution share: conv.cu, conv_proj.cu.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

// The raw values before the current one of a channel, oldest first: W - 1 of them, W known, or up to kMaxConvWidth - 1.
template <int W>
struct ConvWindow {
    static constexpr int kRoom = W > 0 ? W - 1 : kMaxConvWidth - 1;
    float v[kRoom > 0 ? kRoom : 1];

    __device__ __forceinline__ void load(const float* from, int n, int64_t stride) {
#pragma unroll
        for (int j = 0; j < kRoom; j++) v[j] = j < n ? from[j * stride] : 0.0f;
    }
    __device__ __forceinline__ void store(float* to, int n) const {
#pragma unroll
        for (int j = 0; j < kRoom; j++) {
            if (j < n) to[j] = v[j];
        }
    }
    // silu(bias + sum of taps times values), the oldest first; `u` becomes the newest.
    __device__ __forceinline__ float step(const float* taps, float bias, int n, float u) {
        float sum = bias;
#pragma unroll
        for (int j = 0; j < kRoom; j++) {
            if (j < n) sum = fmaf(taps[j], v[j], sum);
        }
        sum = fmaf(taps[n], u, sum);
#pragma unroll
        for (int j = 0; j < kRoom; j++) {
            if (j + 1 < n) v[j] = v[j + 1];
            if (j + 1 == n) v[j] = u;
        }
        return silu(sum);
    }
};

}  // namespace samba::cuda
