// The selective scan of a prefill: the entrance, and any number of states with a warp a channel; 16 states of channels
// that can be read four at a time are scan16.cu's.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

template <class T, int kPerLane>
__global__ void __launch_bounds__(128) scan_any_kernel(const __grid_constant__ ScanArgs a) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    const int lane = threadIdx.x & 31, channel = blockIdx.x * 4 + threadIdx.x / 32;
    if (channel >= a.d_inner) return;
    const float bias = a.dt_bias != nullptr ? a.dt_bias[channel] : 0.0f;
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
        const float dt = softplus(a.dt[row * a.dt_stride + channel] + bias);
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
        if (lane == 0) {
            const float z = to_float(static_cast<const T*>(a.z)[row * a.z_stride + channel]);
            static_cast<T*>(a.y)[row * a.y_stride + channel] = from_float<T>(fmaf(a.D[channel], u, y) * silu(z));
        }
    }
}

}  // namespace

void scan_prefill(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                  const float* dt_bias, const ScanWeights& w, PlaneState state, View y) {
    ScanArgs a = scan_args(tables, in, dt, w, state, y);
    a.dt_bias = dt_bias;
    a.vectors = in_fours(in, a);
    const bool fours = four_aligned(in.u) && four_aligned(in.z) && four_aligned(dt) && four_aligned(y);
    if (a.d_state == 16 && fours) return scan16_prefill(gpu, a, in.u.type, step.n_runs);
    const dim3 grid((a.d_inner + 3) / 4, step.n_runs);
    with_type(in.u.type, [&](auto t) {
        using T = decltype(t);
        a.d_state <= 32 ? launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, 1>, a)
                        : launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, kMaxStates / 32>, a);
    });
}

}  // namespace samba::cuda
