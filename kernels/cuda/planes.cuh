// The planes of a recurrent state (kernels/state.h) as kernels find them.
#pragma once
#include "kernels/state.h"

namespace samba::cuda {

// The state after the token of `position`; position -1: the fresh state.
__device__ __forceinline__ float* plane_after(const PlaneState& s, int slot, int64_t position) {
    const int n = s.n_planes;
    const int64_t plane = (n & (n - 1)) == 0 ? position & (n - 1) : (position % n + n) % n;  // 64-bit division is slow
    return s.base + slot * s.slot_stride + plane * s.plane_stride;
}

}  // namespace samba::cuda
