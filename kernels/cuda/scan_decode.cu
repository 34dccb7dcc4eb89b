// The selective scan of a few rows (decode): four lanes a channel have four of its 16 states each (of another number of
// states eight lanes take turns); every token's state is read from one plane and written to the next. They also share
// the channel's row of W_dt, where dt is not given: what is constant is loaded before the kernel waits for the one
// before it.
#include <type_traits>

#include "kernels/cuda/early_run.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 128;

// Four neighbouring values that an earlier kernel has written.
template <class T>
__device__ __forceinline__ void load_written(const T* p, T (&v)[4]) {
    using Vector = std::conditional_t<sizeof(T) == 4, uint4, uint2>;
    *reinterpret_cast<Vector*>(v) = __ldcg(reinterpret_cast<const Vector*>(p));
}

// One, as bits: of 16-bit types __ldcg is not volatile, and might be asked for before the kernel's wait.
template <class T>
__device__ __forceinline__ T load_written(const T* p) {
    using Bits = std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>;
    const Bits bits = __ldcg(reinterpret_cast<const Bits*>(p));
    return *reinterpret_cast<const T*>(&bits);
}

// dt before the softplus as a product has left it. Raw: what a row's is made of, for who asks for it early.
template <int kLanes, int kKeptColumns>
struct GivenDt {
    using Raw = float;
    __device__ __forceinline__ GivenDt(const ScanArgs&, int, int) {}
    __device__ __forceinline__ Raw load(const ScanArgs& a, int64_t row, int channel) const {
        return __ldcg(a.dt + row * a.dt_stride + channel);
    }
    __device__ __forceinline__ float of(const ScanArgs&, int64_t, Raw dt) const { return dt; }
    __device__ __forceinline__ float operator()(const ScanArgs& a, int64_t row, int channel) const {
        return a.dt[row * a.dt_stride + channel];
    }
};

// dt = W_dt dt_raw + bias: a lane takes groups of eight columns, every kLanes-th; those of the first
// kKeptColumns are kept.
template <class W, int kLanes, int kKeptColumns>
struct ProjectedDt {
    static constexpr int kKept = kKeptColumns / 8 / kLanes;
    struct Raw {
        uint4 x[kKept];
    };
    uint4 kept[kKept];
    const W* w;
    float bias;
    int lane;

    __device__ __forceinline__ ProjectedDt(const ScanArgs& a, int channel, int own_lane) : lane(own_lane) {
        w = static_cast<const W*>(a.dt_weight) + static_cast<int64_t>(channel) * a.dt_rank;
        bias = a.dt_bias != nullptr ? a.dt_bias[channel] : 0.0f;
#pragma unroll
        for (int i = 0; i < kKept; i++) {
            const int k = 8 * (lane + kLanes * i);
            if (k < a.dt_rank) kept[i] = load_stream(w + k);
        }
    }
    __device__ __forceinline__ float operator()(const ScanArgs& a, int64_t row, int) const {
        return sum(a, row_of(a, row), [&](const bfloat* x, int, int k) { return x + k; });
    }
    __device__ __forceinline__ Raw load(const ScanArgs& a, int64_t row, int) const {
        Raw raw = {};
#pragma unroll
        for (int i = 0; i < kKept; i++) {
            const int k = 8 * (lane + kLanes * i);
            if (k < a.dt_rank) raw.x[i] = __ldcg(reinterpret_cast<const uint4*>(row_of(a, row) + k));
        }
        return raw;
    }
    __device__ __forceinline__ float of(const ScanArgs& a, int64_t row, const Raw& raw) const {
        return sum(a, row_of(a, row),
                   [&](const bfloat*, int i, int) { return reinterpret_cast<const bfloat*>(&raw.x[i]); });
    }

  private:
    static __device__ __forceinline__ const bfloat* row_of(const ScanArgs& a, int64_t row) {
        return static_cast<const bfloat*>(a.dbc) + row * a.dbc_stride;
    }
    // at(x, i, k): where the row's values from k on are that what is kept at i is multiplied with.
    template <class At>
    __device__ __forceinline__ float sum(const ScanArgs& a, const bfloat* x, At&& at) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kKept; i++) {
            const int k = 8 * (lane + kLanes * i);
            if (k < a.dt_rank) sum += dot(reinterpret_cast<const W*>(&kept[i]), at(x, i, k));
        }
        for (int k = 8 * (lane + kLanes * kKept); k < a.dt_rank; k += 8 * kLanes) sum += dot(w + k, x + k);
#pragma unroll
        for (int d = kLanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
        return sum + bias;
    }
    static __device__ __forceinline__ float dot(const W* w, const bfloat* x) {
        float a[8], b[8], sum = 0;
        load8(w, a);
        load8(x, b);
#pragma unroll
        for (int i = 0; i < 8; i++) sum = fmaf(a[i], b[i], sum);
        return sum;
    }
};

template <class T, class Dt>
__global__ void __launch_bounds__(kThreads) scan_decode_kernel(const __grid_constant__ ScanArgs a) {
    grid_dependents();
    constexpr int kLanes = 8;
    const int lane = threadIdx.x % kLanes, c = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
    const int channel = min(c, a.d_inner - 1);  // lanes beyond the end only take part in the sums
    const Dt dt_of(a, channel, lane);
    const float* A = a.A + channel * a.d_state;
    const float D = a.D[channel], A0 = lane < a.d_state ? A[lane] : 0.0f,
                A1 = lane + kLanes < a.d_state ? A[lane + kLanes] : 0.0f;
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    for (int t = 0; t < run.n_rows; t++) {
        const int64_t row = run.first_row + t;
        const float u = to_float(static_cast<const T*>(a.u)[row * a.u_stride + channel]);
        const float z = to_float(static_cast<const T*>(a.z)[row * a.z_stride + channel]);
        const T* B = static_cast<const T*>(a.dbc) + row * a.dbc_stride + a.dt_rank;
        const T* C = B + a.d_state;
        const float* from = plane_after(a.state, run.slot, run.position + t - 1) + channel * a.d_state;
        float* to = plane_after(a.state, run.slot, run.position + t) + channel * a.d_state;
        const float rate = softplus_log2(dt_of(a, row, channel)), input = rate * kLn2 * u;
        float y = 0;
#pragma unroll 2
        for (int n = lane; n < a.d_state; n += kLanes) {
            const float A_n = n == lane ? A0 : n == lane + kLanes ? A1 : A[n];
            const float s = fmaf(exp2_fast(rate * A_n), from[n], input * to_float(B[n]));
            if (c < a.d_inner) to[n] = s;
            y = fmaf(to_float(C[n]), s, y);
        }
#pragma unroll
        for (int d = kLanes / 2; d > 0; d /= 2) y += __shfl_xor_sync(0xffffffffu, y, d);
        if (lane == 0 && c < a.d_inner) {
            y = fmaf(D, u, y) * silu(z);
            static_cast<T*>(a.y)[row * a.y_stride + channel] = from_float<T>(y);
        }
    }
}

// A lane's four of 16 states in the next row, and their part of y.
template <class T>
__device__ __forceinline__ float next_states(const T (&B)[4], const T (&C)[4], const float4& A, float rate, float input,
                                             float4& s) {
    s.x = fmaf(exp2_fast(rate * A.x), s.x, input * to_float(B[0]));
    s.y = fmaf(exp2_fast(rate * A.y), s.y, input * to_float(B[1]));
    s.z = fmaf(exp2_fast(rate * A.z), s.z, input * to_float(B[2]));
    s.w = fmaf(exp2_fast(rate * A.w), s.w, input * to_float(B[3]));
    return fmaf(to_float(C[3]), s.w, fmaf(to_float(C[2]), s.z, fmaf(to_float(C[1]), s.y, to_float(C[0]) * s.x)));
}

// 16 states, four a lane.
template <class T, class Dt>
__global__ void __launch_bounds__(kThreads, 6) scan16_decode_kernel(const __grid_constant__ ScanArgs a) {
    grid_dependents();
    constexpr int kLanes = 4;
    const int lane = threadIdx.x % kLanes, c = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
    const int channel = min(c, a.d_inner - 1), own = channel * 16 + lane * 4;
    const Dt dt_of(a, channel, lane);
    const float D = a.D[channel];
    const auto A = *reinterpret_cast<const float4*>(a.A + own);
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    for (int t = 0; t < run.n_rows; t++) {
        const int64_t row = run.first_row + t;
        const float u = to_float(static_cast<const T*>(a.u)[row * a.u_stride + channel]);
        const float z = to_float(static_cast<const T*>(a.z)[row * a.z_stride + channel]);
        const T* bc = static_cast<const T*>(a.dbc) + row * a.dbc_stride + a.dt_rank + lane * 4;
        T B[4], C[4];
        load_four(bc, B);
        load_four(bc + 16, C);
        const float rate = softplus_log2(dt_of(a, row, channel)), input = rate * kLn2 * u;
        float4 s = *reinterpret_cast<const float4*>(plane_after(a.state, run.slot, run.position + t - 1) + own);
        float y = next_states(B, C, A, rate, input, s);
        if (c < a.d_inner) {
            *reinterpret_cast<float4*>(plane_after(a.state, run.slot, run.position + t) + own) = s;
        }
        y += __shfl_xor_sync(0xffffffffu, y, 1);
        y += __shfl_xor_sync(0xffffffffu, y, 2);
        if (lane == 0 && c < a.d_inner) {
            static_cast<T*>(a.y)[row * a.y_stride + channel] = from_float<T>(fmaf(D, u, y) * silu(z));
        }
    }
}

// The same of a single run, whose rows are the step's: its state is loaded before the wait (early_run.cuh), and a row's
// inputs are all on their way before any is used, those of the first row before all else. (Of many runs the blocks come
// one after another, and would each look at the table twice: there more of them fit beside one another.)
template <class T, class Dt>
__global__ void __launch_bounds__(kThreads, 1) scan16_single_kernel(const __grid_constant__ ScanArgs a) {
    grid_dependents();
    constexpr int kLanes = 4;
    const int lane = threadIdx.x % kLanes, c = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
    const int channel = min(c, a.d_inner - 1), own = channel * 16 + lane * 4;
    const Dt dt_of(a, channel, lane);
    const float D = a.D[channel];
    const auto A = *reinterpret_cast<const float4*>(a.A + own);
    const auto state = [&](const DeviceRun& r) {
        return __ldcg(reinterpret_cast<const float4*>(plane_after(a.state, r.slot, r.position - 1) + own));
    };
    struct {
        alignas(16) T B[4];
        alignas(16) T C[4];
        T u, z;
        typename Dt::Raw dt;
    } in;
    const T *u_at = static_cast<const T*>(a.u) + channel, *z_at = static_cast<const T*>(a.z) + channel;
    const T* bc_at = static_cast<const T*>(a.dbc) + a.dt_rank + lane * 4;
    const auto load = [&](int64_t row) {
        in.dt = dt_of.load(a, row, channel);
        load_written(bc_at + row * a.dbc_stride, in.B), load_written(bc_at + row * a.dbc_stride + 16, in.C);
        in.u = load_written(u_at + row * a.u_stride), in.z = load_written(z_at + row * a.z_stride);
    };
    const DeviceRun early = load_run(a.runs);
    float4 s = state(early);
    touch(u_at), touch(z_at), touch(bc_at);
    grid_wait();
    load(0);
    const DeviceRun run = load_run(a.runs);
#pragma unroll 1
    for (int row = 0; row < a.n_rows; row++) {
        if (row > 0) load(row);
        const float u = to_float(in.u), z = to_float(in.z);
        const float rate = softplus_log2(dt_of.of(a, row, in.dt)), input = rate * kLn2 * u;
        // The table is looked at when all of that is on its way.
        if (row == 0 && !same_place(run, early)) s = state(run);
        float y = next_states(in.B, in.C, A, rate, input, s);
        if (c < a.d_inner) {
            *reinterpret_cast<float4*>(plane_after(a.state, run.slot, run.position + row) + own) = s;
        }
        y += __shfl_xor_sync(0xffffffffu, y, 1);
        y += __shfl_xor_sync(0xffffffffu, y, 2);
        if (lane == 0 && c < a.d_inner) {
            static_cast<T*>(a.y)[row * a.y_stride + channel] = from_float<T>(fmaf(D, u, y) * silu(z));
        }
    }
}

template <class T, template <int, int> class Dt>
void launch_scan(const Gpu& gpu, const StepShape& step, const Scan& in, const ScanArgs& a) {
    const bool fours = in_fours(in, a);
    const int channels = kThreads / (fours ? 4 : 8);
    const dim3 grid((a.d_inner + channels - 1) / channels, step.n_runs);
    const auto kernel = !fours             ? scan_decode_kernel<T, Dt<8, 192>>
                        : step.n_runs == 1 ? scan16_single_kernel<T, Dt<4, 192>>
                                           : scan16_decode_kernel<T, Dt<4, 128>>;
    launch(gpu, grid, dim3(kThreads), 0, kernel, a);
}

template <int kLanes, int kKeptColumns>
using Bf16Dt = ProjectedDt<bfloat, kLanes, kKeptColumns>;
template <int kLanes, int kKeptColumns>
using F16Dt = ProjectedDt<half, kLanes, kKeptColumns>;

}  // namespace

void scan_decode(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, View dt,
                 const ScanWeights& w, PlaneState state, View y) {
    const ScanArgs a = scan_args(tables, in, dt, w, state, y);
    with_type(in.u.type, [&](auto t) { launch_scan<decltype(t), GivenDt>(gpu, step, in, a); });
}

void dt_scan_decode(const Gpu& gpu, const StepShape& step, const Tables& tables, const Scan& in, const ScanWeights& w,
                    PlaneState state, View y) {
    ScanArgs a = scan_args(tables, in, View(), w, state, y);
    a.dt_weight = w.dt_proj.parts.front().data;
    a.dt_bias = w.dt_proj.bias;
    w.dt_proj.parts.front().type == DType::kBF16 ? launch_scan<bfloat, Bf16Dt>(gpu, step, in, a)
                                                 : launch_scan<bfloat, F16Dt>(gpu, step, in, a);
}

}  // namespace samba::cuda
