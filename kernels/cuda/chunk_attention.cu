// Attention of one head within chunks (Mega). A block has eight queries of a run and 256 columns of the values, a
// thread a column; keys come in tiles of 32 absolute positions, with a running softmax. A row's bits depend on the row
// and its keys alone: what it does not see weighs nothing and rescales nothing.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kQueries = 8, kKeys = 32, kThreads = kQueries * kKeys;
constexpr float kNoScore = -1e30f;

struct Args {
    const DeviceRun* runs;
    const void *q, *k, *v;
    int64_t q_stride, k_stride, v_stride;
    ChunkRing ring;
    float scale;
    bool round_f16, round_bf16;  // of an output kept in f32
    void* y;
    int64_t y_stride;
};

struct Shared {
    float* q;              // (kQueries, key_dim)
    float* k;              // (kKeys, key_dim + 1)
    float* p;              // (kQueries, kKeys)
    float *rescale, *sum;  // (kQueries)

    __device__ Shared(float* base, int dim)
        : q(base),
          k(q + kQueries * dim),
          p(k + kKeys * (dim + 1)),
          rescale(p + kQueries * kKeys),
          sum(rescale + kQueries) {}
};
size_t shared_bytes(int dim) {
    return sizeof(float) * static_cast<size_t>(kQueries * dim + kKeys * (dim + 1) + kQueries * kKeys + 2 * kQueries);
}

// The values of position `at`: from the ring what came before the run, the others from the step, rounded as the ring
// would.
template <class R, class Q>
struct Row {
    const Q* own = nullptr;
    const R* ring = nullptr;

    __device__ Row(const DeviceRun& run, int64_t at, const void* step, int64_t stride, const char* base,
                   const ChunkRing& r, int64_t cols) {
        if (at >= run.position) {
            own = static_cast<const Q*>(step) + (run.first_row + (at - run.position)) * stride;
        } else {
            ring = reinterpret_cast<const R*>(base + run.slot * r.slot_stride) + at % r.n_rows * cols;
        }
    }
    __device__ float operator[](int64_t i) const {
        return own != nullptr ? to_float(from_float<R>(to_float(own[i]))) : to_float(ring[i]);
    }
};

template <class R, class Q>
__global__ void __launch_bounds__(kThreads) chunk_attention_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.z];
    const int first_row = blockIdx.x * kQueries, dim = a.ring.key_dim;
    if (first_row >= run.n_rows) return;
    const int n_queries = min(kQueries, run.n_rows - first_row);
    const Shared s(dynamic_shared<float>(), dim);
    for (int i = threadIdx.x; i < kQueries * dim; i += kThreads) {
        const int64_t row = run.first_row + first_row + min(i / dim, n_queries - 1);
        s.q[i] = to_float(static_cast<const Q*>(a.q)[row * a.q_stride + i % dim]);
    }
    // As a scorer: a warp a query, a lane a key. As an adder: a column.
    const int query = threadIdx.x / kKeys, lane = threadIdx.x % kKeys;
    const int64_t first = run.position + first_row, newest = first + n_queries - 1;
    const int64_t position = first + query, oldest = first - first % a.ring.chunk;
    const int64_t own_oldest = position - position % a.ring.chunk;
    const int64_t column = blockIdx.y * static_cast<int64_t>(kThreads) + threadIdx.x;
    float max = kNoScore, sum = 0, acc[kQueries] = {};
    for (int64_t tile = oldest / kKeys * kKeys; tile <= newest; tile += kKeys) {
        const int from = static_cast<int>(oldest > tile ? oldest - tile : 0);
        const int to = static_cast<int>(newest - tile + 1 < kKeys ? newest - tile + 1 : kKeys);
        __syncthreads();
        for (int key = from + query; key < to; key += kQueries) {  // a warp a key
            const Row<R, Q> row(run, tile + key, a.k, a.k_stride, a.ring.k, a.ring, dim);
            for (int i = lane; i < dim; i += kKeys) s.k[key * (dim + 1) + i] = row[i];
        }
        __syncthreads();
        const int64_t at = tile + lane;
        const bool seen = query < n_queries && at >= own_oldest && at <= position;
        float score = kNoScore;
        if (seen) {
            float dot = 0;
            for (int i = 0; i < dim; i++) dot = fmaf(s.q[query * dim + i], s.k[lane * (dim + 1) + i], dot);
            score = dot * a.scale;
        }
        const float new_max = fmaxf(max, warp_max(score)), weight = seen ? __expf(score - new_max) : 0.0f;
        const float rescale = __expf(max - new_max);
        sum = sum * rescale + warp_sum(weight);
        max = new_max;
        s.p[query * kKeys + lane] = weight;
        if (lane == 0) s.rescale[query] = rescale, s.sum[query] = sum;
        __syncthreads();
        if (column >= a.ring.value_dim) continue;
#pragma unroll
        for (int q = 0; q < kQueries; q++) acc[q] *= s.rescale[q];
        for (int key = from; key < to; key++) {
            const Row<R, Q> row(run, tile + key, a.v, a.v_stride, a.ring.v, a.ring, a.ring.value_dim);
            const float v = row[column];
#pragma unroll
            for (int q = 0; q < kQueries; q++) acc[q] = fmaf(s.p[q * kKeys + key], v, acc[q]);
        }
    }
    if (column >= a.ring.value_dim) return;
#pragma unroll
    for (int q = 0; q < kQueries; q++) {
        if (q >= n_queries) break;
        float v = acc[q] / s.sum[q];
        if (a.round_f16) v = to_float(from_float<half>(v));
        if (a.round_bf16) v = to_float(from_float<bfloat>(v));
        static_cast<Q*>(a.y)[(run.first_row + first_row + q) * a.y_stride + column] = from_float<Q>(v);
    }
}

// Rows of the run that no later row of it overwrites, into the ring.
template <class R, class Q>
__global__ void __launch_bounds__(kThreads) append_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    const int64_t t = blockIdx.x;
    if (t >= run.n_rows || t < run.n_rows - a.ring.n_rows) return;
    const int64_t row = run.first_row + t, at = (run.position + t) % a.ring.n_rows,
                  slot = run.slot * a.ring.slot_stride;
    R* k = reinterpret_cast<R*>(a.ring.k + slot) + at * a.ring.key_dim;
    R* v = reinterpret_cast<R*>(a.ring.v + slot) + at * a.ring.value_dim;
    const Q *from_k = static_cast<const Q*>(a.k) + row * a.k_stride,
            *from_v = static_cast<const Q*>(a.v) + row * a.v_stride;
    for (int i = threadIdx.x; i < a.ring.key_dim; i += kThreads) k[i] = from_float<R>(to_float(from_k[i]));
    for (int64_t i = threadIdx.x; i < a.ring.value_dim; i += kThreads) v[i] = from_float<R>(to_float(from_v[i]));
}

}  // namespace

void chunk_attention(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const ChunkRing& ring,
                     float scale, View y) {
    Args a = {};
    a.runs = tables.now;
    a.q = in.q.data, a.k = in.k.data, a.v = in.v.data;
    a.q_stride = in.q.stride, a.k_stride = in.k.stride, a.v_stride = in.v.stride;
    a.ring = ring;
    a.scale = scale;
    a.round_f16 = y.type == DType::kF32 && ring.type == DType::kF16;
    a.round_bf16 = y.type == DType::kF32 && ring.type == DType::kBF16;
    a.y = y.data, a.y_stride = y.stride;
    const dim3 grid((step.max_run_rows + kQueries - 1) / kQueries, (ring.value_dim + kThreads - 1) / kThreads,
                    step.n_runs);
    with_type(ring.type, [&](auto r) {
        with_type(in.q.type, [&](auto t) {
            using R = decltype(r);
            using Q = decltype(t);
            launch(gpu, grid, dim3(kThreads), shared_bytes(ring.key_dim), chunk_attention_kernel<R, Q>, a);
            launch(gpu, dim3(step.max_run_rows, step.n_runs), dim3(kThreads), 0, append_kernel<R, Q>, a);
        });
    });
}

}  // namespace samba::cuda
