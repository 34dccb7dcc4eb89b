// The selective scan of a prefill: one pass over a run's rows, the state in registers.
//
// 16 states: a third of a block's warps scan, four lanes a channel with four states each; the others prepare the next
// tile of 32 rows for them (softplus, input) and finish the last one (skip, gate), so that neither waits for the
// other's latencies. A block takes 16 to 32 channels, so that the blocks of a long run fill the device once. The sums
// over states are taken eight rows at a time: after two exchanges lane l has two rows'. The bound is one exponential a
// state and row. Any other number of states: a warp a channel.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kTileTokens = 32, kPad = kTileTokens + 4;
constexpr int kLanes = 4, kPreparers = 8;  // threads a channel that scan it, that prepare it
constexpr int kMinChannels = 16, kMaxChannels = 32;

// Shared memory of a block of n channels, of which there are two: one is scanned, one prepared. All f32.
struct Shared {
    float *rate, *input;  // (channels, kPad): dt log2(e), dt u
    float* y;             // (channels, kPad): sums over states
    float* bc;            // (token, lane, 8): B, C of the lane's four states

    static constexpr int kBc = kTileTokens * 32;
    __device__ Shared(float* base, int n, int which) {
        rate = base + which * (3 * n * kPad + kBc), input = rate + n * kPad, y = input + n * kPad, bc = y + n * kPad;
    }
};
size_t shared_bytes(int n) { return 2 * sizeof(float) * (3 * n * kPad + Shared::kBc); }

// Four neighbouring values; of fewer than n the others are `none`.
template <class T>
__device__ __forceinline__ void load_some(const T* p, int n, bool vectors, T (&v)[4], T none) {
    if (vectors && n >= 4) return load_four(p, v);
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = i < n ? p[i] : none;
}

// A preparing thread's share of a tile: four channels of a token (a lane), and four or eight values of B and C.
template <class T>
struct RawTile {
    static constexpr int kMaxBc = kTileTokens * 8 / (kMinChannels * kPreparers);
    float dt[4];
    T u[4], z[4], bc[kMaxBc][4];

    __device__ __forceinline__ void load(const ScanArgs& a, const DeviceRun& run, int first, int channel, int thread,
                                         int n_threads) {
        const int t = first + thread % 32, n = t < run.n_rows ? a.d_inner - channel : 0;
        const int64_t row = run.first_row + t;
        load_some(a.dt + row * a.dt_stride + channel, n, a.vectors, dt, -INFINITY);  // softplus 0: the state stays
        load_some(static_cast<const T*>(a.u) + row * a.u_stride + channel, n, a.vectors, u, from_float<T>(0.0f));
        load_some(static_cast<const T*>(a.z) + row * a.z_stride + channel, n, a.vectors, z, from_float<T>(0.0f));
#pragma unroll
        for (int i = 0; i < kMaxBc; i++) {
            const int e = thread + i * n_threads, token = first + e / 8;
            const bool there = e < kTileTokens * 8 && token < run.n_rows;
            const T* from =
                static_cast<const T*>(a.dbc) + (run.first_row + token) * a.dbc_stride + a.dt_rank + e % 8 * 4;
            load_some(from, there ? 4 : 0, a.vectors, bc[i], from_float<T>(0.0f));
        }
    }

    __device__ __forceinline__ void store(const Shared& s, int local, const float (&bias)[4], int thread,
                                          int n_threads) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = (local + i) * kPad + thread % 32;
            const float step = softplus(dt[i] + bias[i]);
            s.rate[at] = step * kLog2e;
            s.input[at] = step * to_float(u[i]);
        }
#pragma unroll
        for (int i = 0; i < kMaxBc; i++) {
            const int e = thread + i * n_threads, part = e % 8;
            if (e >= kTileTokens * 8) continue;
            // States 4 (part mod 4) …, of B or of C.
            *reinterpret_cast<float4*>(s.bc + e / 8 * 32 + part % 4 * 8 + part / 4 * 4) =
                make_float4(to_float(bc[i][0]), to_float(bc[i][1]), to_float(bc[i][2]), to_float(bc[i][3]));
        }
    }
};

__device__ __forceinline__ void store_four(float* p, const float (&v)[4]) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ __forceinline__ void store_four(bfloat* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
}
__device__ __forceinline__ void store_four(half* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]));
}

// Lane l of four gets the sums of all lanes' y[2l] and y[2l + 1].
__device__ __forceinline__ float2 sum_transposed(float (&y)[8], int lane) {
#pragma unroll
    for (int d = 4; d > 1; d /= 2) {
        const bool upper = lane & (d / 2);
#pragma unroll
        for (int i = 0; i < d; i++) {
            const float give = upper ? y[i] : y[i + d], keep = upper ? y[i + d] : y[i];
            y[i] = keep + __shfl_xor_sync(0xffffffffu, give, d / 2);
        }
    }
    return make_float2(y[0], y[1]);
}

// Eight rows from `first` of the tile on. With kPlanes the state is written after each row of the last planes.
template <bool kPlanes>
__device__ __forceinline__ void scan_eight(const ScanArgs& a, const Shared& s, const DeviceRun& run, int tile,
                                           int first, int local, int lane, int channel, const float4& A,
                                           float4& state) {
    float rate[8], input[8], y[8];
    load8(s.rate + local * kPad + first, rate);
    load8(s.input + local * kPad + first, input);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float* bc = s.bc + (first + j) * 32 + lane * 8;
        const float4 B = *reinterpret_cast<const float4*>(bc), C = *reinterpret_cast<const float4*>(bc + 4);
        state.x = fmaf(exp2_fast(rate[j] * A.x), state.x, input[j] * B.x);
        state.y = fmaf(exp2_fast(rate[j] * A.y), state.y, input[j] * B.y);
        state.z = fmaf(exp2_fast(rate[j] * A.z), state.z, input[j] * B.z);
        state.w = fmaf(exp2_fast(rate[j] * A.w), state.w, input[j] * B.w);
        y[j] = fmaf(C.w, state.w, fmaf(C.z, state.z, fmaf(C.y, state.y, C.x * state.x)));
        if constexpr (kPlanes) {
            const int t = tile + first + j;
            if (t < run.n_rows && t >= run.n_rows - a.state.n_planes && channel < a.d_inner) {
                float* to = plane_after(a.state, run.slot, run.position + t) + channel * 16 + lane * 4;
                *reinterpret_cast<float4*>(to) = state;
            }
        }
    }
    *reinterpret_cast<float2*>(s.y + local * kPad + first + 2 * lane) = sum_transposed(y, lane);
}

// The scanning part of a block: tile after tile, each when it has been prepared.
__device__ __forceinline__ void scan_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int lane = threadIdx.x % kLanes, local = threadIdx.x / kLanes;
    const int channel = blockIdx.x * n_channels + local, safe = min(channel, a.d_inner - 1);
    const auto A = *reinterpret_cast<const float4*>(a.A + safe * 16 + lane * 4);
    const float* before = plane_after(a.state, run.slot, run.position - 1) + safe * 16 + lane * 4;
    float4 state = *reinterpret_cast<const float4*>(before);
    int which = 0;
    for (int tile = 0; tile < run.n_rows; tile += kTileTokens, which ^= 1) {
        __syncthreads();
        const Shared s(dynamic_shared<float>(), n_channels, which);
        const bool planes = tile + kTileTokens > run.n_rows - a.state.n_planes;
        if (planes) {
#pragma unroll 1
            for (int first = 0; first < kTileTokens; first += 8) {
                scan_eight<true>(a, s, run, tile, first, local, lane, channel, A, state);
            }
        } else {
#pragma unroll 2
            for (int first = 0; first < kTileTokens; first += 8) {
                scan_eight<false>(a, s, run, tile, first, local, lane, channel, A, state);
            }
        }
    }
    __syncthreads();
}

// The other part: while tile t is scanned, tile t + 1 is prepared, tile t - 1 finished, tile t + 2 on its way. A warp
// has four channels, a lane a token.
template <class T>
__device__ __forceinline__ void prepare_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int n_threads = n_channels * kPreparers, thread = threadIdx.x - n_channels * kLanes, lane = thread % 32;
    const int local = thread / 32 * 4, channel = blockIdx.x * n_channels + local;
    float D[4], bias[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool real = channel + i < a.d_inner;
        D[i] = real ? a.D[channel + i] : 0.0f;
        bias[i] = real && a.dt_bias != nullptr ? a.dt_bias[channel + i] : 0.0f;
    }
    RawTile<T> raw;
    T u[2][4], z[2][4];  // of the tile that is scanned, and of the one before it
    raw.load(a, run, 0, channel, thread, n_threads);
    int which = 0;
    for (int tile = 0; tile < run.n_rows + 2 * kTileTokens; tile += kTileTokens, which ^= 1) {
        const Shared s(dynamic_shared<float>(), n_channels, which);
        const int finished = tile - 2 * kTileTokens + lane;
        if (tile >= 2 * kTileTokens && finished < run.n_rows && channel < a.d_inner) {
            float y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                y[i] = fmaf(D[i], to_float(u[1][i]), s.y[(local + i) * kPad + lane]) * silu(to_float(z[1][i]));
            }
            T* to = static_cast<T*>(a.y) + (run.first_row + finished) * a.y_stride + channel;
            if (a.vectors) {
                store_four(to, y);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (channel + i < a.d_inner) to[i] = from_float<T>(y[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) u[1][i] = u[0][i], z[1][i] = z[0][i];
        if (tile < run.n_rows) {
            raw.store(s, local, bias, thread, n_threads);
#pragma unroll
            for (int i = 0; i < 4; i++) u[0][i] = raw.u[i], z[0][i] = raw.z[i];
            raw.load(a, run, tile + kTileTokens, channel, thread, n_threads);
        }
        if (tile < run.n_rows + kTileTokens) __syncthreads();
    }
}

// So few registers that the largest block fits.
template <class T>
__global__ void __maxnreg__(128) scan16_kernel(const __grid_constant__ ScanArgs a, int n_channels) {
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
    a.vectors = in_fours(in, a) && four_aligned(in.u) && four_aligned(in.z) && four_aligned(dt) && four_aligned(y);
    with_type(in.u.type, [&](auto t) {
        using T = decltype(t);
        if (a.d_state == 16) {
            const int n = channels_of(gpu, a.d_inner, step.n_runs);
            const dim3 grid((a.d_inner + n - 1) / n, step.n_runs);
            return launch(gpu, grid, dim3(n * (kLanes + kPreparers)), shared_bytes(n), scan16_kernel<T>, a, n);
        }
        const dim3 grid((a.d_inner + 3) / 4, step.n_runs);
        a.d_state <= 32 ? launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, 1>, a)
                        : launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, kMaxStates / 32>, a);
    });
}

}  // namespace samba::cuda
