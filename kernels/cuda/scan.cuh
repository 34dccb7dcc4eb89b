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
    bool vectors;           // four values at a time (scan.cu)
    int n_rows;             // of the step
};

inline ScanArgs scan_args(const Tables& tables, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                          View y) {
    return {tables.now,  in.u.data,     in.z.data,
            in.dbc.data, dt.f32(),      in.u.stride,
            in.z.stride, in.dbc.stride, dt.stride,
            w.A.f32(),   w.D.f32(),     static_cast<int>(in.u.cols),
            in.d_state,  in.dt_rank,    state,
            y.data,      y.stride,      nullptr,
            nullptr,     false,         static_cast<int>(in.u.rows)};
}

// Whether rows of it can be read four values at a time; B and C, if dbc's can.
inline bool four_aligned(View v) {
    const auto four = static_cast<uintptr_t>(4 * row_bytes(v.type, 1));
    return v.stride % 4 == 0 && v.cols % 4 == 0 && reinterpret_cast<uintptr_t>(v.data) % four == 0;
}
inline bool in_fours(const Scan& in, const ScanArgs& a) {
    return a.d_state == 16 && a.dt_rank % 4 == 0 && four_aligned(in.dbc.columns(0, a.dt_rank)) &&
           in.dbc.stride % 4 == 0;
}

// Four neighbouring values, whose address is a multiple of four.
__device__ __forceinline__ void load_four(const float* p, float (&v)[4]) {
    const auto f = *reinterpret_cast<const float4*>(p);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}
template <class T>
__device__ __forceinline__ void load_four(const T* p, T (&v)[4]) {
    static_assert(sizeof(T) == 2);
    const auto two = *reinterpret_cast<const uint2*>(p);
    *reinterpret_cast<uint32_t*>(v) = two.x, *reinterpret_cast<uint32_t*>(v + 2) = two.y;
}
// log(1 + exp(x)). Of small e = exp(x) the logarithm by 2 atanh(e / (2 + e)), whose series is good to 3e-9 there.
__device__ __forceinline__ float softplus(float x) {
    const float e = __expf(x), t = __fdividef(e, 2.0f + e), t2 = t * t;
    const float series = 2.0f * t * fmaf(t2, fmaf(t2, fmaf(t2, 1.0f / 7, 1.0f / 5), 1.0f / 3), 1.0f);
    const float log = e < 0.25f ? series : __logf(1.0f + e);
    return x > 20.0f ? x : log;
}

}  // namespace samba::cuda
