// The planes of a recurrent state (kernels/state.h) as kernels find them.
#pragma once
#include "kernels/state.h"

namespace samba::cuda {

// 64-bit division is slow, and long: kept out of the kernels' way.
static __device__ __noinline__ int64_t plane_by_division(int64_t position, int n) { return (position % n + n) % n; }

// The state after the token of `position`; position -1: the fresh state.
__device__ __forceinline__ float* plane_after(const PlaneState& s, int slot, int64_t position) {
    const int n = s.n_planes;
    const int64_t plane = (n & (n - 1)) == 0 ? position & (n - 1) : plane_by_division(position, n);
    return s.base + slot * s.slot_stride + plane * s.plane_stride;
}

}  // namespace samba::cuda
