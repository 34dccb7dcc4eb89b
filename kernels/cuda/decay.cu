// The recurrence with decay (gated linear attention, retention), and the norm and gate of its heads.
//
// A block carries 32 values of a head over a run's rows, a lane a value; its eight warps share the keys, each with its
// part of the state in registers. Rows come eight at a time through shared memory; the warps' sums are added in their
// order. So a row's bits depend on the row and its state alone, in either kind of step.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kValues = 32, kWarps = 8, kThreads = kWarps * 32, kRows = 8;

struct Args {
    const DeviceRun* runs;
    const void *q, *k, *v;
    int64_t q_stride, k_stride, v_stride;
    const float *gates, *head_decay;  // one of them
    int64_t gates_stride;
    int key_dim, value_dim, n_tiles;
    PlaneState state;
    void* y;
    int64_t y_stride;
};

// exp(logsigmoid(x) / 16), logsigmoid(x) = min(x, 0) - log1p(exp(-|x|))
__device__ __forceinline__ float gate_decay(float x) {
    return expf((fminf(x, 0.0f) - log1pf(expf(-fabsf(x)))) / kGateDivisor);
}

// Shared memory of a block, all f32.
struct Shared {
    float *q, *k, *decay;  // (kRows, key_dim)
    float* sums;           // (kRows, kWarps, kValues)

    __device__ Shared(float* base, int key_dim)
        : q(base), k(q + kRows * key_dim), decay(k + kRows * key_dim), sums(decay + kRows * key_dim) {}
};
size_t shared_bytes(int key_dim) { return sizeof(float) * kRows * (3 * key_dim + kWarps * kValues); }

template <class T>
__device__ __forceinline__ void load_rows(const Args& a, const Shared& s, const DeviceRun& run, int first, int n,
                                          int head) {
    for (int e = threadIdx.x; e < n * a.key_dim; e += kThreads) {
        const int64_t row = run.first_row + first + e / a.key_dim, col = head * a.key_dim + e % a.key_dim;
        s.q[e] = to_float(static_cast<const T*>(a.q)[row * a.q_stride + col]);
        s.k[e] = to_float(static_cast<const T*>(a.k)[row * a.k_stride + col]);
        s.decay[e] = a.gates != nullptr ? gate_decay(a.gates[row * a.gates_stride + col]) : a.head_decay[head];
    }
}

// Warp w has the keys w, w + 8, …: kKeys of them or fewer.
template <class T, int kKeys>
__global__ void __launch_bounds__(kThreads) decay_scan_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    const Shared s(dynamic_shared<float>(), a.key_dim);
    const int head = blockIdx.x / a.n_tiles, lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const int first_value = blockIdx.x % a.n_tiles * kValues, value = first_value + lane;
    const bool real = value < a.value_dim;
    const int64_t at = static_cast<int64_t>(head) * a.key_dim * a.value_dim + value;
    const float scale = 1.0f / sqrtf(static_cast<float>(a.key_dim));
    const float* before = plane_after(a.state, run.slot, run.position - 1) + at;
    float state[kKeys];
#pragma unroll
    for (int i = 0; i < kKeys; i++) {
        const int key = warp + i * kWarps;
        state[i] = key < a.key_dim && real ? before[static_cast<int64_t>(key) * a.value_dim] : 0.0f;
    }
    for (int first = 0; first < run.n_rows; first += kRows) {
        const int n = min(kRows, run.n_rows - first);
        load_rows<T>(a, s, run, first, n, head);
        __syncthreads();
        for (int t = 0; t < n; t++) {
            const float *q = s.q + t * a.key_dim, *k = s.k + t * a.key_dim, *decay = s.decay + t * a.key_dim;
            const int64_t row = run.first_row + first + t;
            const float v = real ? to_float(static_cast<const T*>(
                                       a.v)[row * a.v_stride + static_cast<int64_t>(head) * a.value_dim + value])
                                 : 0.0f;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < kKeys; i++) {
                const int key = warp + i * kWarps;
                if (key >= a.key_dim) break;
                state[i] = fmaf(k[key], v, decay[key] * state[i]);
                sum = fmaf(q[key], state[i], sum);
            }
            s.sums[(t * kWarps + warp) * kValues + lane] = sum;
            if (first + t < run.n_rows - a.state.n_planes || !real) continue;
            float* plane = plane_after(a.state, run.slot, run.position + first + t) + at;
#pragma unroll
            for (int i = 0; i < kKeys; i++) {
                const int key = warp + i * kWarps;
                if (key < a.key_dim) plane[static_cast<int64_t>(key) * a.value_dim] = state[i];
            }
        }
        __syncthreads();
        if (warp < n && real) {  // a warp a row
            float sum = 0;
#pragma unroll
            for (int w = 0; w < kWarps; w++) sum += s.sums[(warp * kWarps + w) * kValues + lane];
            const int64_t row = run.first_row + first + warp;
            static_cast<T*>(a.y)[row * a.y_stride + static_cast<int64_t>(head) * a.value_dim + value] =
                from_float<T>(sum * scale);
        }
    }
}

// A warp a head of a row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    head_norm_gate_kernel(T* y, int64_t y_stride, const T* gate, int64_t gate_stride, const float* weight, float eps,
                          int dim, int n_heads) {
    grid_dependents();
    grid_wait();
    const int lane = threadIdx.x & 31, head = blockIdx.y * kWarps + threadIdx.x / 32;
    if (head >= n_heads) return;
    T* x = y + blockIdx.x * y_stride + static_cast<int64_t>(head) * dim;
    const T* g = gate + blockIdx.x * gate_stride + static_cast<int64_t>(head) * dim;
    float sum = 0;
    for (int i = lane; i < dim; i += 32) sum = fmaf(to_float(x[i]), to_float(x[i]), sum);
    const float scale = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(dim) + eps);
    for (int i = lane; i < dim; i += 32)
        x[i] = from_float<T>(to_float(x[i]) * scale * weight[i] * silu(to_float(g[i])));
}

}  // namespace

void decay_scan(const Gpu& gpu, const StepShape& step, const Tables& tables, const Decayed& in, PlaneState state,
                View y) {
    Args a = {};
    a.runs = tables.now;
    a.q = in.q.data, a.k = in.k.data, a.v = in.v.data;
    a.q_stride = in.q.stride, a.k_stride = in.k.stride, a.v_stride = in.v.stride;
    a.gates = in.gates.f32(), a.gates_stride = in.gates.stride;
    if (in.head_decay != nullptr) a.head_decay = in.head_decay->f32();
    a.key_dim = in.key_dim, a.value_dim = in.value_dim;
    a.n_tiles = (in.value_dim + kValues - 1) / kValues;
    a.state = state;
    a.y = y.data, a.y_stride = y.stride;
    const dim3 grid(in.n_heads * a.n_tiles, step.n_runs);
    with_type(in.q.type, [&](auto t) {
        using T = decltype(t);
        auto run = [&](auto kernel) { launch(gpu, grid, dim3(kThreads), shared_bytes(in.key_dim), kernel, a); };
        in.key_dim <= 32    ? run(decay_scan_kernel<T, 4>)
        : in.key_dim <= 192 ? run(decay_scan_kernel<T, 24>)
        : in.key_dim <= 256 ? run(decay_scan_kernel<T, 32>)
                            : run(decay_scan_kernel<T, kMaxKeyDim / kWarps>);
    });
}

void head_norm_gate(const Gpu& gpu, View y, const Norm& norm, View gate) {
    const int dim = static_cast<int>(norm.weight.cols), n_heads = static_cast<int>(y.cols) / dim;
    with_type(y.type, [&](auto t) {
        using T = decltype(t);
        launch(gpu, dim3(y.rows, (n_heads + kWarps - 1) / kWarps), dim3(kThreads), 0, head_norm_gate_kernel<T>,
               static_cast<T*>(y.data), y.stride, static_cast<const T*>(gate.data), gate.stride, norm.weight.f32(),
               norm.eps, dim, n_heads);
    });
}

}  // namespace samba::cuda
