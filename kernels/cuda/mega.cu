// What Mega needs beside the others, each value alone: its keys and queries, gates, the gated residual. And the
// selective scan without a gate, for its moving average.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256, kScanWarps = 4;

struct KeyArgs {
    const float *scale, *shift, *bias_q, *bias_k, *cos, *sin;
    int64_t rope_stride, z_stride, q_stride, k_stride;
    int dim;
    bool round_f16, round_bf16;  // of values kept in f32
};

__device__ __forceinline__ float rounded(const KeyArgs& a, float v) {
    if (a.round_f16) return to_float(from_float<half>(v));
    return a.round_bf16 ? to_float(from_float<bfloat>(v)) : v;
}

// bias turned by the row's angles, in half-split pairs.
__device__ __forceinline__ float turned(const float* bias, const float* cos, const float* sin, int i, int half_dim) {
    const int pair = i < half_dim ? i : i - half_dim;
    const float first = bias[pair], second = bias[pair + half_dim];
    return i < half_dim ? first * cos[pair] - second * sin[pair] : second * cos[pair] + first * sin[pair];
}

template <class T, class Q>
__global__ void __launch_bounds__(kThreads)
    mega_keys_kernel(const __grid_constant__ KeyArgs a, const T* z, Q* q, Q* k) {
    grid_dependents();
    grid_wait();
    const int64_t row = blockIdx.x;
    const float *cos = a.cos + row * a.rope_stride, *sin = a.sin + row * a.rope_stride;
    const float root = sqrtf(static_cast<float>(a.dim));
    for (int i = threadIdx.x; i < a.dim; i += kThreads) {
        const float v = silu(to_float(z[row * a.z_stride + i]));
        Q *to_q = q + row * a.q_stride + i, *to_k = k + row * a.k_stride + i;
        to_q[0] = from_float<Q>(rounded(a, v * a.scale[i] + a.shift[i]));
        to_k[0] = from_float<Q>(rounded(a, v * a.scale[a.dim + i] + a.shift[a.dim + i]));
        to_q[a.dim] = from_float<Q>(rounded(a, turned(a.bias_q, cos, sin, i, a.dim / 2) * root));
        to_k[a.dim] = from_float<Q>(rounded(a, turned(a.bias_k, cos, sin, i, a.dim / 2)));
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) silu_kernel(T* y, int64_t stride, int cols) {
    grid_dependents();
    grid_wait();
    const int c = blockIdx.y * kThreads + threadIdx.x;
    if (c >= cols) return;
    T* at = y + blockIdx.x * stride + c;
    *at = from_float<T>(silu(to_float(*at)));
}

template <class T, class G>
__global__ void __launch_bounds__(kThreads)
    mul_silu_kernel(T* y, int64_t stride, const G* gate, int64_t gate_stride, int cols) {
    grid_dependents();
    grid_wait();
    const int c = blockIdx.y * kThreads + threadIdx.x;
    if (c >= cols) return;
    T* at = y + blockIdx.x * stride + c;
    *at = from_float<T>(to_float(*at) * silu(to_float(gate[blockIdx.x * gate_stride + c])));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gated_residual_kernel(const T* u, int64_t u_stride, const T* h0, int64_t h0_stride, const T* h, int64_t h_stride,
                          float* x, int64_t x_stride, int cols) {
    grid_dependents();
    grid_wait();
    const int64_t row = blockIdx.x;
    const int c = blockIdx.y * kThreads + threadIdx.x;
    if (c >= cols) return;
    const float gate = 1.0f / (1.0f + __expf(-to_float(u[row * u_stride + c])));
    const float made = silu(to_float(h0[row * h0_stride + c]) + to_float(h[row * h_stride + c]));
    float* at = x + row * x_stride + c;
    *at = fmaf(gate, made - *at, *at);
}

// A warp a channel, the states over its lanes.
template <class T, int kPerLane>
__global__ void __launch_bounds__(kScanWarps * 32) scan_ungated_kernel(const __grid_constant__ ScanArgs a) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    const int lane = threadIdx.x & 31, channel = blockIdx.x * kScanWarps + threadIdx.x / 32;
    if (channel >= a.d_inner) return;
    float A[kPerLane], state[kPerLane];
    const float* before = plane_after(a.state, run.slot, run.position - 1) + channel * a.d_state;
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
        const int n = lane + 32 * i;
        A[i] = n < a.d_state ? a.A[channel * a.d_state + n] : 0.0f;
        state[i] = n < a.d_state ? before[n] : 0.0f;
    }
    for (int t = 0; t < run.n_rows; t++) {
        const int64_t row = run.first_row + t;
        const float dt = softplus(a.dt[row * a.dt_stride + channel]);
        const float u = to_float(static_cast<const T*>(a.u)[row * a.u_stride + channel]);
        const T* B = static_cast<const T*>(a.dbc) + row * a.dbc_stride + a.dt_rank;
        const T* C = B + a.d_state;
        float y = 0;
#pragma unroll
        for (int i = 0; i < kPerLane; i++) {
            const int n = lane + 32 * i;
            if (n >= a.d_state) continue;
            state[i] = fmaf(exp2_fast(dt * kLog2e * A[i]), state[i], dt * u * to_float(B[n]));
            y = fmaf(to_float(C[n]), state[i], y);
            if (t >= run.n_rows - a.state.n_planes) {
                plane_after(a.state, run.slot, run.position + t)[channel * a.d_state + n] = state[i];
            }
        }
        y = warp_sum(y);
        if (lane == 0) static_cast<T*>(a.y)[row * a.y_stride + channel] = from_float<T>(fmaf(a.D[channel], u, y));
    }
}

dim3 grid_of(View v) { return dim3(v.rows, (v.cols + kThreads - 1) / kThreads); }

}  // namespace

void mega_keys(const Gpu& gpu, View z, const MegaKeys& w, const RopeTable& rope, DType type, View q, View k) {
    KeyArgs a = {};
    a.scale = w.scale.f32(), a.shift = w.shift.f32(), a.bias_q = w.bias_q.f32(), a.bias_k = w.bias_k.f32();
    a.cos = rope.cos.f32(), a.sin = rope.sin.f32(), a.rope_stride = rope.cos.stride;
    a.z_stride = z.stride, a.q_stride = q.stride, a.k_stride = k.stride;
    a.dim = static_cast<int>(z.cols);
    a.round_f16 = q.type == DType::kF32 && type == DType::kF16;
    a.round_bf16 = q.type == DType::kF32 && type == DType::kBF16;
    with_type(z.type, [&](auto from) {
        with_type(q.type, [&](auto to) {
            using T = decltype(from);
            using Q = decltype(to);
            launch(gpu, dim3(z.rows), dim3(kThreads), 0, mega_keys_kernel<T, Q>, a, static_cast<const T*>(z.data),
                   static_cast<Q*>(q.data), static_cast<Q*>(k.data));
        });
    });
}

void silu(const Gpu& gpu, View y) {
    with_type(y.type, [&](auto t) {
        using T = decltype(t);
        launch(gpu, grid_of(y), dim3(kThreads), 0, silu_kernel<T>, static_cast<T*>(y.data), y.stride, y.cols);
    });
}

void mul_silu(const Gpu& gpu, View y, View gate) {
    with_type(y.type, [&](auto t) {
        with_type(gate.type, [&](auto g) {
            using T = decltype(t);
            using G = decltype(g);
            launch(gpu, grid_of(y), dim3(kThreads), 0, mul_silu_kernel<T, G>, static_cast<T*>(y.data), y.stride,
                   static_cast<const G*>(gate.data), gate.stride, y.cols);
        });
    });
}

void gated_residual(const Gpu& gpu, View u, View h0, View h, View x) {
    with_type(u.type, [&](auto t) {
        using T = decltype(t);
        launch(gpu, grid_of(x), dim3(kThreads), 0, gated_residual_kernel<T>, static_cast<const T*>(u.data), u.stride,
               static_cast<const T*>(h0.data), h0.stride, static_cast<const T*>(h.data), h.stride, x.f32(), x.stride,
               x.cols);
    });
}

void scan_ungated(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                  const ScanWeights& w, PlaneState state, View y) {
    const ScanArgs a = scan_args(tables, in, dt, w, state, y);
    const dim3 grid((a.d_inner + kScanWarps - 1) / kScanWarps, step.n_runs);
    with_type(in.u.type, [&](auto t) {
        using T = decltype(t);
        a.d_state <= 32 ? launch(gpu, grid, dim3(kScanWarps * 32), 0, scan_ungated_kernel<T, 1>, a)
                        : launch(gpu, grid, dim3(kScanWarps * 32), 0, scan_ungated_kernel<T, kMaxStates / 32>, a);
    });
}

}  // namespace samba::cuda
