// The selective scan of a prefill: one pass over a run's rows, the state in registers.
//
// 16 states: a third of a block's warps scan, four lanes a channel with four states each; the others prepare the next
// tile of 32 rows for them (softplus, input) and finish the last one (sums over lanes, skip, gate), so that neither
// waits for the other's latencies. A block takes 16 to 32 channels, so that the blocks of a long run fill the device
// once. The bound is one exponential a state and row; next to it come the ways to memory, shared and global, which are
// one: rows are read by neighbours, and B and C stay in their type. Any other number of states: a warp a channel.
#include <algorithm>
#include <climits>
#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kTileTokens = 32, kLanes = 4;  // lanes that scan a channel
constexpr int kPreparers = 8;                // threads a channel that prepare it: a token and four channels each
constexpr int kMinChannels = 16, kMaxChannels = 32;

// A tile in shared memory; there are two: one is scanned, the other prepared.
template <class T>
struct ScanTile {
    float2 steps[kTileTokens][kMaxChannels];     // dt log2(e), dt u
    float y[kTileTokens][kMaxChannels][kLanes];  // sums over the states of a lane, at place_of(channel)
    T bc[kTileTokens][kLanes][8];                // B, C of the lane's four states
};
template <class T>
__device__ __forceinline__ ScanTile<T>& tile_of(int which) {
    return dynamic_shared<ScanTile<T>>()[which];
}
// So that both who write and who read y meet all banks.
__device__ __forceinline__ int place_of(int channel) { return channel ^ (channel >> 3 & 3); }

// From a row of a tile to that of the next one; strides fit 32 bits, and that is one instruction.
template <class T>
__device__ __forceinline__ void advance(T*& p, int64_t stride) {
    p += static_cast<int64_t>(static_cast<int>(stride)) * kTileTokens;
}

// Four neighbouring values of which n are there (with `vectors` none or all); the others become `none`.
template <class T>
__device__ __forceinline__ void load_some(const T* p, int n, bool vectors, T (&v)[4], T none) {
    if (vectors && n > 0) return load_four(p, v);
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = i < n ? p[i] : none;
}

__device__ __forceinline__ void store_four(float* p, const float (&v)[4]) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ __forceinline__ void store_four(bfloat* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
}
__device__ __forceinline__ void store_four(half* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]));
}
template <class T>
__device__ __forceinline__ void store_four(T* p, const T (&v)[4]) {
    static_assert(sizeof(T) == 2);
    *reinterpret_cast<uint2*>(p) = *reinterpret_cast<const uint2*>(v);
}

// A preparing thread's share of a tile: four channels of a token, and four or eight values of B and C.
template <class T>
struct RawTile {
    static constexpr int kMaxBc = kTileTokens * 8 / (kMinChannels * kPreparers);
    float dt[4];
    T u[4], z[4], bc[kMaxBc][4];

    __device__ __forceinline__ void store(ScanTile<T>& tile, int token, int local, const float (&bias)[4], int thread,
                                          int n_threads) const {
        float steps[8];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            steps[2 * i] = softplus_log2(dt[i] + bias[i]);
            steps[2 * i + 1] = steps[2 * i] * kLn2 * to_float(u[i]);
        }
        auto* to = reinterpret_cast<float4*>(&tile.steps[token][local]);
        to[0] = make_float4(steps[0], steps[1], steps[2], steps[3]);
        to[1] = make_float4(steps[4], steps[5], steps[6], steps[7]);
#pragma unroll
        for (int i = 0; i < kMaxBc; i++) {
            const int e = thread + i * n_threads, part = e % 8;  // states 4 (part mod 4) …, of B or of C
            if (e < kTileTokens * 8) store_four(&tile.bc[e / 8][part % 4][part / 4 * 4], bc[i]);
        }
    }
};

// Where a preparing thread's values stand, a tile after the other.
template <class T>
struct RawRows {
    const float* dt;
    const T *u, *z, *bc[RawTile<T>::kMaxBc];
    int n_channels, token, bc_token[RawTile<T>::kMaxBc];

    __device__ __forceinline__ RawRows(const ScanArgs& a, const DeviceRun& run, int token_, int channel, int thread,
                                       int n_threads) {
        n_channels = min(4, a.d_inner - channel), token = token_;
        const int64_t row = run.first_row + token;
        dt = a.dt + row * a.dt_stride + channel;
        u = static_cast<const T*>(a.u) + row * a.u_stride + channel;
        z = static_cast<const T*>(a.z) + row * a.z_stride + channel;
#pragma unroll
        for (int i = 0; i < RawTile<T>::kMaxBc; i++) {
            const int e = thread + i * n_threads;
            bc_token[i] = e < kTileTokens * 8 ? e / 8 : INT_MAX;
            bc[i] = static_cast<const T*>(a.dbc) + (run.first_row + e / 8) * a.dbc_stride + a.dt_rank + e % 8 * 4;
        }
    }
    // The next tile, of which n_rows rows and those that follow it are left.
    __device__ __forceinline__ void load(const ScanArgs& a, int n_rows, RawTile<T>& raw) {
        const int n = token < n_rows ? n_channels : 0;
        load_some(dt, n, a.vectors, raw.dt, -INFINITY);  // softplus 0: the state stays
        load_some(u, n, a.vectors, raw.u, from_float<T>(0.0f));
        load_some(z, n, a.vectors, raw.z, from_float<T>(0.0f));
        advance(dt, a.dt_stride), advance(u, a.u_stride), advance(z, a.z_stride);
#pragma unroll
        for (int i = 0; i < RawTile<T>::kMaxBc; i++) {
            load_some(bc[i], bc_token[i] < n_rows ? 4 : 0, a.vectors, raw.bc[i], from_float<T>(0.0f));
            advance(bc[i], a.dbc_stride);
        }
    }
};

template <class T>
__device__ __forceinline__ void store_some(T* p, int n, bool vectors, const float (&v)[4]) {
    if (vectors) return store_four(p, v);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < n) p[i] = from_float<T>(v[i]);
    }
}

// B and C of a row and a lane's four states, as they lie in shared memory.
template <class T>
struct LaneBc {
    uint4 words;
    __device__ __forceinline__ void load(const T* p) { words = *reinterpret_cast<const uint4*>(p); }
    __device__ __forceinline__ float B(int n) const { return half_of(n < 2 ? words.x : words.y, n); }
    __device__ __forceinline__ float C(int n) const { return half_of(n < 2 ? words.z : words.w, n); }

  private:
    static __device__ __forceinline__ float half_of(uint32_t w, int n) {
        if constexpr (std::is_same_v<T, half>) return n & 1 ? high_f16(w) : low_f16(w);
        return n & 1 ? high_bf16(w) : low_bf16(w);
    }
};
template <>
struct LaneBc<float> {
    float v[8];
    __device__ __forceinline__ void load(const float* p) { load8(p, v); }
    __device__ __forceinline__ float B(int n) const { return v[n]; }
    __device__ __forceinline__ float C(int n) const { return v[4 + n]; }
};

// What a scanning lane needs of four rows.
template <class T>
struct FourRows {
    float2 steps[4];
    LaneBc<T> bc[4];

    __device__ __forceinline__ void load(const ScanTile<T>& tile, int first, int local, int lane) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            steps[j] = tile.steps[first + j][local];
            bc[j].load(tile.bc[first + j][lane]);
        }
    }
    // Row j: the next states, and what they add to y.
    __device__ __forceinline__ float next(int j, const float (&A)[4], float (&state)[4]) const {
        float y = 0;
#pragma unroll
        for (int n = 0; n < 4; n++) {
            state[n] = fmaf(exp2_fast(steps[j].x * A[n]), state[n], steps[j].y * bc[j].B(n));
            y = n == 0 ? bc[j].C(0) * state[0] : fmaf(bc[j].C(n), state[n], y);
        }
        return y;
    }
};

// One tile, from row `first_row` of the run on. With kPlanes the state is written after each row of the last planes.
// The rows after those that are scanned are asked for before y is written: the compiler does not know that y lies
// elsewhere.
template <bool kPlanes, class T>
__device__ __forceinline__ void scan_tile(const ScanArgs& a, ScanTile<T>& tile, const DeviceRun& run, int first_row,
                                          int local, int lane, int channel, const float (&A)[4], float (&state)[4]) {
    FourRows<T> rows, after;
    after.load(tile, 0, local, lane);
#pragma unroll(kPlanes ? 1 : kTileTokens / 4)
    for (int first = 0; first < kTileTokens; first += 4) {
        rows = after;
        if (first + 4 < kTileTokens) after.load(tile, first + 4, local, lane);
        float y[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            y[j] = rows.next(j, A, state);
            const int t = first_row + first + j;
            if (kPlanes && t < run.n_rows && t >= run.n_rows - a.state.n_planes && channel < a.d_inner) {
                store_four(plane_after(a.state, run.slot, run.position + t) + channel * 16 + lane * 4, state);
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) tile.y[first + j][place_of(local)][lane] = y[j];
    }
}

// The scanning part of a block: tile after tile, each when it has been prepared.
template <class T>
__device__ __forceinline__ void scan_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int lane = threadIdx.x % kLanes, local = threadIdx.x / kLanes;
    const int channel = blockIdx.x * n_channels + local, safe = min(channel, a.d_inner - 1);
    float A[4], state[4];
    load_four(a.A + safe * 16 + lane * 4, A);
    load_four(plane_after(a.state, run.slot, run.position - 1) + safe * 16 + lane * 4, state);
    int which = 0;
    for (int row = 0; row < run.n_rows; row += kTileTokens, which ^= 1) {
        __syncthreads();
        ScanTile<T>& tile = tile_of<T>(which);
        row + kTileTokens > run.n_rows - a.state.n_planes
            ? scan_tile<true>(a, tile, run, row, local, lane, channel, A, state)
            : scan_tile<false>(a, tile, run, row, local, lane, channel, A, state);
    }
    __syncthreads();
}

// The other part: while tile t is scanned, tile t + 1 is prepared, tile t - 1 finished, tiles t + 2 and t + 3 on their
// way.
template <class T>
__device__ __forceinline__ void prepare_tiles(const ScanArgs& a, const DeviceRun& run, int n_channels) {
    const int n_threads = n_channels * kPreparers, thread = threadIdx.x - n_channels * kLanes;
    const int token = thread / (n_channels / 4), local = thread % (n_channels / 4) * 4;
    const int channel = blockIdx.x * n_channels + local;
    float D[4], bias[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool real = channel + i < a.d_inner;
        D[i] = real ? a.D[channel + i] : 0.0f;
        bias[i] = real && a.dt_bias != nullptr ? a.dt_bias[channel + i] : 0.0f;
    }
    struct {
        RawTile<T> raw;  // of a tile to prepare
        T u[4], z[4];    // of a tile to finish
    } even, odd;
    RawRows<T> rows(a, run, token, channel, thread, n_threads);
    T* y_to = static_cast<T*>(a.y) + (run.first_row + token) * a.y_stride + channel;
    rows.load(a, run.n_rows, even.raw);
    rows.load(a, run.n_rows - kTileTokens, odd.raw);
    const auto turn = [&](auto& own, ScanTile<T>& tile, int row) {
        if (row >= 2 * kTileTokens) {
            if (row - 2 * kTileTokens + token < run.n_rows && channel < a.d_inner) {
                float y[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float lanes[kLanes];
                    load_four(tile.y[token][place_of(local + i)], lanes);
                    const float sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
                    y[i] = fmaf(D[i], to_float(own.u[i]), sum) * silu(to_float(own.z[i]));
                }
                store_some(y_to, a.d_inner - channel, a.vectors, y);
            }
            advance(y_to, a.y_stride);
        }
        if (row < run.n_rows) {
            own.raw.store(tile, token, local, bias, thread, n_threads);
#pragma unroll
            for (int i = 0; i < 4; i++) own.u[i] = own.raw.u[i], own.z[i] = own.raw.z[i];
            rows.load(a, run.n_rows - row - 2 * kTileTokens, own.raw);
        }
        if (row < run.n_rows + kTileTokens) __syncthreads();
    };
    for (int row = 0; row < run.n_rows + 2 * kTileTokens; row += 2 * kTileTokens) {
        turn(even, tile_of<T>(0), row);
        turn(odd, tile_of<T>(1), row + kTileTokens);
    }
}

// So few registers that two blocks of 24 channels fit beside each other.
template <class T>
__global__ void __maxnreg__(112) scan16_kernel(const __grid_constant__ ScanArgs a, int n_channels) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    if (static_cast<int>(threadIdx.x) < n_channels * kLanes) {
        scan_tiles<T>(a, run, n_channels);
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
            return launch(gpu, grid, dim3(n * (kLanes + kPreparers)), 2 * sizeof(ScanTile<T>), scan16_kernel<T>, a, n);
        }
        const dim3 grid((a.d_inner + 3) / 4, step.n_runs);
        a.d_state <= 32 ? launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, 1>, a)
                        : launch(gpu, grid, dim3(128), 0, scan_any_kernel<T, kMaxStates / 32>, a);
    });
}

}  // namespace samba::cuda
