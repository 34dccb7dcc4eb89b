// The selective scan of a prefill: one pass over a run's rows, the state in registers.
//
// 16 states: half of a block's warps scan, eight lanes a channel with two states each; the other half prepares the next
// tile of 32 rows for them (softplus, input) and finishes the last one (skip, gate), so that neither waits for the
// other's latencies. A block takes 16 to 32 channels, so that the blocks of a long run fill the device once. The sums
// over states are taken eight rows at a time: after three exchanges lane l has row l's. The bound is one exponential a
// state and row. Any other number of states: a warp a channel.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kTileTokens = 32, kPad = kTileTokens + 4, kLanes = 8;
constexpr int kMinChannels = 16, kMaxChannels = 32;

// Shared memory of a block of n channels, of which there are two: one is scanned, one prepared. All f32.
struct Shared {
    float *rate, *input;  // (channels, kPad): dt log2(e), dt u
    float* y;             // (channels, kPad): sums over states
    float* bc;            // (token, lane, 4): B, B, C, C of the lane's states

    static constexpr int kBc = kTileTokens * 32;
    __device__ Shared(float* base, int n, int which) {
        rate = base + which * (3 * n * kPad + kBc), input = rate + n * kPad, y = input + n * kPad, bc = y + n * kPad;
    }
};
size_t shared_bytes(int n) { return 2 * sizeof(float) * (3 * n * kPad + Shared::kBc); }

// A preparing thread's share of a tile: four (token, channel) pairs, and a few of B and C.
template <class T>
struct RawTile {
    static constexpr int kMaxBc = kTileTokens * 32 / (kMinChannels * kLanes);
    float dt[4];
    T u[4], z[4], bc[kMaxBc];

    // token0, channel: the thread's first pair; its others are 8, 16, 24 tokens on.
    __device__ __forceinline__ void load(const ScanArgs& a, const DeviceRun& run, int first, int token0, int channel,
                                         int thread, int n_threads) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int t = first + token0 + 8 * i;
            const int64_t row = run.first_row + t;
            const bool valid = t < run.n_rows && channel < a.d_inner;
            dt[i] = valid ? a.dt[row * a.dt_stride + channel] : -INFINITY;  // softplus 0: the state stays
            u[i] = valid ? static_cast<const T*>(a.u)[row * a.u_stride + channel] : from_float<T>(0.0f);
            z[i] = valid ? static_cast<const T*>(a.z)[row * a.z_stride + channel] : from_float<T>(0.0f);
        }
#pragma unroll
        for (int i = 0; i < kMaxBc; i++) {
            const int e = thread + i * n_threads, t = first + e / 32;
            bc[i] = e < Shared::kBc && t < run.n_rows
                        ? static_cast<const T*>(a.dbc)[(run.first_row + t) * a.dbc_stride + a.dt_rank + e % 32]
                        : from_float<T>(0.0f);
        }
    }

    __device__ __forceinline__ void store(const Shared& s, int token0, int local, float bias, int thread,
                                          int n_threads) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = local * kPad + token0 + 8 * i;
            const float step = softplus(dt[i] + bias);
            s.rate[at] = step * kLog2e;
            s.input[at] = step * to_float(u[i]);
        }
#pragma unroll
        for (int i = 0; i < kMaxBc; i++) {
            const int e = thread + i * n_threads, n = e % 16;
            if (e < Shared::kBc) s.bc[e / 32 * 32 + n / 2 * 4 + e % 32 / 16 * 2 + n % 2] = to_float(bc[i]);
        }
    }
};

// Lane l of eight gets the sum of all lanes' y[l].
__device__ __forceinline__ float sum_transposed(float (&y)[8], int lane) {
#pragma unroll
    for (int d = 4; d > 0; d /= 2) {
        const bool upper = lane & d;
#pragma unroll
        for (int i = 0; i < d; i++) {
            const float give = upper ? y[i] : y[i + d], keep = upper ? y[i + d] : y[i];
            y[i] = keep + __shfl_xor_sync(0xffffffffu, give, d);
        }
    }
    return y[0];
}

// Eight rows from `first` of the tile on. With kPlanes the state is written after each row of the last planes.
template <bool kPlanes>
__device__ __forceinline__ void scan_eight(const ScanArgs& a, const Shared& s, const DeviceRun& run, int tile,
                                           int first, int local, int lane, int channel, const float (&A)[2],
                                           float (&state)[2]) {
    float rate[8], input[8], y[8];
    load8(s.rate + local * kPad + first, rate);
    load8(s.input + local * kPad + first, input);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float4 bc = *reinterpret_cast<const float4*>(s.bc + (first + j) * 32 + lane * 4);
        state[0] = fmaf(exp2_fast(rate[j] * A[0]), state[0], input[j] * bc.x);
        state[1] = fmaf(exp2_fast(rate[j] * A[1]), state[1], input[j] * bc.y);
        y[j] = fmaf(bc.w, state[1], bc.z * state[0]);
        if constexpr (kPlanes) {
            const int t = tile + first + j;
            if (t < run.n_rows && t >= run.n_rows - a.state.n_planes && channel < a.d_inner) {
                float* to = plane_after(a.state, run.slot, run.position + t) + channel * 16 + lane * 2;
                *reinterpret_cast<float2*>(to) = make_float2(state[0], state[1]);
            }
        }
    }
    s.y[local * kPad + first + lane] = sum_transposed(y, lane);
}

// The scanning half of a block: tile after tile, each when it has been prepared.
__device__ __forceinline__ void scan_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int lane = threadIdx.x % kLanes, local = threadIdx.x / kLanes;
    const int channel = blockIdx.x * n_channels + local, safe = min(channel, a.d_inner - 1);
    const float A[2] = {a.A[safe * 16 + lane * 2], a.A[safe * 16 + lane * 2 + 1]};
    const float* before = plane_after(a.state, run.slot, run.position - 1) + safe * 16 + lane * 2;
    float state[2] = {before[0], before[1]};
    int which = 0;
    for (int tile = 0; tile < run.n_rows; tile += kTileTokens, which ^= 1) {
        __syncthreads();
        const Shared s(dynamic_shared<float>(), n_channels, which);
        const bool planes = tile + kTileTokens > run.n_rows - a.state.n_planes;
#pragma unroll 1
        for (int first = 0; first < kTileTokens; first += 8) {
            if (planes) {
                scan_eight<true>(a, s, run, tile, first, local, lane, channel, A, state);
            } else {
                scan_eight<false>(a, s, run, tile, first, local, lane, channel, A, state);
            }
        }
    }
    __syncthreads();
}

// The other half: while tile t is scanned, tile t + 1 is prepared, tile t - 1 finished, tile t + 2 on its way.
template <class T>
__device__ __forceinline__ void prepare_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int n_threads = n_channels * kLanes, thread = threadIdx.x - n_threads;
    // A warp has eight channels of four tokens: so its writes hit all banks.
    const int warp = thread / 32, groups = n_channels / 8;
    const int token0 = warp / groups * 4 + thread % 32 / 8, local = warp % groups * 8 + thread % 8;
    const int channel = blockIdx.x * n_channels + local;
    const bool real = channel < a.d_inner;
    const float D = real ? a.D[channel] : 0.0f, bias = real && a.dt_bias != nullptr ? a.dt_bias[channel] : 0.0f;
    RawTile<T> raw;
    T u[2][4], z[2][4];  // of the tile that is scanned, and of the one before it
    raw.load(a, run, 0, token0, channel, thread, n_threads);
    int which = 0;
    for (int tile = 0; tile < run.n_rows + 2 * kTileTokens; tile += kTileTokens, which ^= 1) {
        const Shared s(dynamic_shared<float>(), n_channels, which);
        const int finished = tile - 2 * kTileTokens;
        if (finished >= 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int t = token0 + 8 * i;
                if (finished + t >= run.n_rows || !real) continue;
                const float y = fmaf(D, to_float(u[1][i]), s.y[local * kPad + t]) * silu(to_float(z[1][i]));
                static_cast<T*>(a.y)[(run.first_row + finished + t) * a.y_stride + channel] = from_float<T>(y);
            }
        }
        if (tile < run.n_rows) {
            raw.store(s, token0, local, bias, thread, n_threads);
#pragma unroll
            for (int i = 0; i < 4; i++) u[1][i] = u[0][i], z[1][i] = z[0][i], u[0][i] = raw.u[i], z[0][i] = raw.z[i];
            raw.load(a, run, tile + kTileTokens, token0, channel, thread, n_threads);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) u[1][i] = u[0][i], z[1][i] = z[0][i];
        }
        if (tile < run.n_rows + kTileTokens) __syncthreads();
    }
}

// So few registers that two blocks of 24 channels fit a multiprocessor.
template <class T>
__global__ void __maxnreg__(80) scan16_kernel(const __grid_constant__ ScanArgs a, int n_channels) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    if (static_cast<int>(threadIdx.x) < n_channels * kLanes) {
        scan_tiles(a, run, n_channels);
    } else {
        prepare_tiles<T>(a, run, n_channels);
    }
}

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

// Channels of a block, a multiple of 8: as many as let the blocks of all runs fill the device a whole number of times.
int channels_of(const Gpu& gpu, int d_inner, int n_runs) {
    for (int waves = 1;; waves++) {
        const int blocks = std::max(1, gpu.n_multiprocessors * waves / n_runs);
        const int n = ((d_inner + blocks - 1) / blocks + 7) / 8 * 8;
        if (n <= kMaxChannels) return std::max(n, kMinChannels);
    }
}

}  // namespace

void scan_prefill(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                  const float* dt_bias, const ScanWeights& w, PlaneState state, View y) {
    ScanArgs a = scan_args(tables, in, dt, w, state, y);
    a.dt_bias = dt_bias;
    with_type(in.u.type, [&](auto t) {
        using T = decltype(t);
        if (a.d_state == 16) {
            const int n = channels_of(gpu, a.d_inner, step.n_runs);
            const dim3 grid((a.d_inner + n - 1) / n, step.n_runs);
            return launch(gpu, grid, dim3(2 * n * kLanes), shared_bytes(n), scan16_kernel<T>, a, n);
        }
        const dim3 grid((a.d_inner + 3) / 4, step.n_runs);
        a.d_state <= 32 ? launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, 1>, a)
                        : launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, kMaxStates / 32>, a);
    });
}

}  // namespace samba::cuda
