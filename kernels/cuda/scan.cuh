// What the scans share.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

inline constexpr float kLog2e = 1.4426950408889634f;

struct ScanArgs {
    const DeviceRun* runs;
    const void *u, *z, *dbc;
    const float* dt;  // before the softplus; where dt_bias is given, before that
    int64_t u_stride, z_stride, dbc_stride, dt_stride;
    const float *A, *D;
    int d_inner, d_state, dt_rank;
    PlaneState state;
    void* y;
    int64_t y_stride;
    const void* dt_weight;  // or dt is computed: W_dt (d_inner, dt_rank) of 16-bit values
    const float* dt_bias;   // or null
};

inline ScanArgs scan_args(const Tables& tables, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                          View y) {
    return {tables.now,  in.u.data,     in.z.data, in.dbc.data, dt.f32(),  in.u.stride,
            in.z.stride, in.dbc.stride, dt.stride, w.A.f32(),   w.D.f32(), static_cast<int>(in.u.cols),
            in.d_state,  in.dt_rank,    state,     y.data,      y.stride,  nullptr,
            nullptr};
}

// log(1 + exp(x))
__device__ __forceinline__ float softplus(float x) { return x > 20.0f ? x : log1pf(__expf(x)); }

}  // namespace samba::cuda
