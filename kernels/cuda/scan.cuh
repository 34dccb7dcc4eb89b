// What the scans share.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

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
    bool vectors;           // B and C can be read four at a time
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

// scan16.cu: 16 states of channels that can be read four at a time, as y be written; `vectors`: B and C, too.
void scan16_prefill(const Gpu& gpu, const ScanArgs& a, DType type, int n_runs);

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
// softplus(x) log2(e) = log2(1 + exp(x)), as exp2 wants it. Of small e = exp(x), whose 1 + e loses digits, by a
// polynomial in e, good to 1e-8 up to a quarter.
__device__ __forceinline__ float softplus_log2(float x) {
    const float scaled = x * kLog2e, e = exp2_fast(scaled);
    const float series =
        fmaf(e, fmaf(e, fmaf(e, fmaf(e, fmaf(e, -0.13291913f, 0.2619552f), -0.35742956f), 0.480714f), -0.72134364f),
             1.442695f);
    const float log = e < 0.25f ? e * series : log2_fast(1.0f + e);
    return x > 20.0f ? scaled : log;
}
__device__ __forceinline__ float softplus(float x) { return softplus_log2(x) * kLn2; }

}  // namespace samba::cuda
