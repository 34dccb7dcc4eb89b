// Decode attention: a block takes 64 rows of a slot's ring (a few times 64 where the ring is long) for one kv head and
// all queries that read it, and appends the run's own rows that lie there. The last block of a run and kv head to end
// combines the blocks' sums, in the order of the ring; a block without a visible key counts for nothing.
#include <algorithm>
#include <climits>
#include <type_traits>

#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {
namespace {

constexpr int kMaxSplits = 64;

int ring_blocks(int64_t ring_rows) { return std::max(1, static_cast<int>((ring_rows + kKeyBlock - 1) / kKeyBlock)); }
int blocks_per_split(int64_t ring_rows) { return (ring_blocks(ring_rows) + kMaxSplits - 1) / kMaxSplits; }

struct Args {
    const DeviceRun* runs;  // of the launch's first run on
    const void *q, *k, *v;
    int64_t stride;  // of q, k and v
    RingArgs ring;
    int n_heads, group, head_dim, blocks_per_split, first_row;
    bool one_buffer;
    float scale;
    float* partial;  // (rows, n_heads, splits, head_dim + 2): sums, maximum, sum of weights
    int* done;       // (runs, kv heads): blocks that have ended; zero between launches
    void* y;
    int64_t y_stride;
    DType y_type;
    bool round_f16, round_bf16;  // of results kept in f32
};

// Which positions the ring's rows hold once the run's rows are in it, and who sees them.
struct Place {
    int64_t last;  // the run's last position
    int newest, n_rows, window, run_rows;

    __device__ __forceinline__ Place(const Args& a, const DeviceRun& run)
        : last(run.position + run.n_rows - 1),
          newest(ring_row(last, a.ring.n_rows)),
          n_rows(static_cast<int>(a.ring.n_rows)),
          window(a.ring.window == 0 ? INT_MAX : static_cast<int>(a.ring.window)),
          run_rows(run.n_rows) {}
    // How many tokens before the run's last one the row's token is; negative: none.
    __device__ __forceinline__ int age(int row) const {
        const int back = row <= newest ? newest - row : newest - row + n_rows;
        return row < n_rows && back <= last ? back : -1;
    }
    // By the run's row `query`.
    __device__ __forceinline__ bool visible(int query, int age) const {
        const int distance = age - (run_rows - 1 - query);
        return age >= 0 && distance >= 0 && distance < window;
    }
    __device__ __forceinline__ bool needed(int age) const {  // by any of the run's rows
        return age >= 0 && (age < run_rows || visible(0, age));
    }
};

// 64 ring rows of keys or values to shared memory; rows of the run itself come from the step and go to the ring.
template <class R, class Q>
__device__ __forceinline__ void load_rows(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                          int first, bool values, bool append, typename R::Value* to, int stride) {
    const void* own = values ? a.v : a.k;
    char* ring = values ? a.ring.v : a.ring.k;
    using S = typename R::Value;
    const int parts = a.head_dim / 8, row_step = kCoreThreads / parts, column_step = kCoreThreads % parts;
    int row = threadIdx.x / parts, part = threadIdx.x % parts;
    while (row < kKeyBlock) {
        const int age = place.age(first + row), column = part * 8;
        char* at = ring + a.ring.offset(run.slot, kv_head, first + row);
        S* out = to + row * stride + column;
        if (age >= 0 && age < place.run_rows) {
            const int64_t own_row = run.first_row + (place.run_rows - 1 - age);
            R::store(static_cast<const Q*>(own) + own_row * a.stride + kv_head * a.head_dim, column,
                     append ? at : nullptr, out);
        } else if (!place.visible(0, age)) {
#pragma unroll
            for (int j = 0; j < 8; j++) out[j] = from_float<S>(0.0f);
        } else if constexpr (R::kPlain) {
            const S* from = reinterpret_cast<const S*>(at) + column;
            cp_async<16>(out, from);
            if constexpr (sizeof(S) == 4) cp_async<16>(out + 4, from + 4);
        } else {
            R::load(at, column, out);
        }
        row += row_step, part += column_step;
        if (part >= parts) part -= parts, row++;
    }
    cp_async_commit();
}

// y of a run's queries of one kv head from the splits, in order; by all threads of the last block.
__device__ void combine(const Args& a, const DeviceRun& run, int kv_head, int n_queries, int n_splits, float* weights) {
    const int lane = threadIdx.x & 31, size = a.head_dim + 2;
    const auto partial_of = [&](int query) {
        const int64_t row = run.first_row - a.first_row + query / a.group;
        return a.partial + (row * a.n_heads + kv_head * a.group + query % a.group) * n_splits * size;
    };
    float* totals = weights + kCoreQueries * kMaxSplits;
    for (int chunk = 0; chunk < n_queries; chunk += kCoreQueries) {
        const int n = min(kCoreQueries, n_queries - chunk);
        __syncthreads();
        for (int q = threadIdx.x / 32; q < n; q += kCoreThreads / 32) {
            const float* from = partial_of(chunk + q) + a.head_dim;
            const bool second = lane + 32 < n_splits;
            const float m0 = lane < n_splits ? __ldcg(from + lane * size) : kNoKey,
                        m1 = second ? __ldcg(from + (lane + 32) * size) : kNoKey,
                        s0 = lane < n_splits ? __ldcg(from + lane * size + 1) : 0.0f,
                        s1 = second ? __ldcg(from + (lane + 32) * size + 1) : 0.0f;
            const float max = warp_max(fmaxf(m0, m1));
            const float w0 = m0 == kNoKey ? 0.0f : exp2_fast(m0 - max), w1 = m1 == kNoKey ? 0.0f : exp2_fast(m1 - max);
            const float total = warp_sum(w0 * s0 + w1 * s1);
            weights[q * kMaxSplits + lane] = w0, weights[q * kMaxSplits + lane + 32] = w1;
            if (lane == 0) totals[q] = total > 0 ? 1.0f / total : 0.0f;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < n * a.head_dim; i += kCoreThreads) {
            const int q = i / a.head_dim, d = i % a.head_dim, query = chunk + q;
            const float* from = partial_of(query) + d;
            float v = 0;
#pragma unroll 16
            for (int s = 0; s < n_splits; s++) v = fmaf(weights[q * kMaxSplits + s], __ldcg(from + s * size), v);
            v *= totals[q];
            if (a.round_f16) v = to_float(from_float<half>(v));
            if (a.round_bf16) v = to_float(from_float<bfloat>(v));
            const int64_t row = run.first_row + query / a.group;
            const int head = kv_head * a.group + query % a.group;
            store_as(a.y_type, a.y, row * a.y_stride + head * a.head_dim + d, v);
        }
    }
}

// The last block of a run and kv head combines them all.
__device__ void finish(const Args& a, const DeviceRun& run, int kv_head, int n_queries) {
    __shared__ float weights[kCoreQueries * (kMaxSplits + 1)];
    __shared__ bool is_last;
    __threadfence();
    __syncthreads();
    int* done = a.done + blockIdx.z * gridDim.y + blockIdx.y;
    if (threadIdx.x == 0) {
        is_last = atomicAdd(done, 1) == static_cast<int>(gridDim.x) - 1;
        if (is_last) *done = 0;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    combine(a, run, kv_head, n_queries, gridDim.x, weights);
}

template <class R, class Q, int kDims>
__global__ void __launch_bounds__(kCoreThreads) decode_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = typename R::Value;
    const AttentionShared<S> s(dynamic_shared(), a.head_dim, a.one_buffer);
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int kv_head = blockIdx.y, n_queries = a.group * run.n_rows, per_row = a.n_heads * gridDim.x;
    const int first_block = blockIdx.x * a.blocks_per_split;
    for (int chunk = 0; chunk < n_queries; chunk += kCoreQueries) {
        __syncthreads();
        for (int i = threadIdx.x; i < kCoreQueries * a.head_dim; i += kCoreThreads) {
            const int query = min(chunk + i / a.head_dim, n_queries - 1), d = i % a.head_dim;
            const int64_t row = run.first_row + query / a.group;
            const int head = kv_head * a.group + query % a.group;
            s.q[i] = to_float(static_cast<const Q*>(a.q)[row * a.stride + head * a.head_dim + d]);
        }
        if (threadIdx.x < kCoreQueries) s.max[threadIdx.x] = kNoKey, s.sum[threadIdx.x] = 0.0f;
        float acc[kDims][8] = {};
        for (int b = first_block; b < first_block + a.blocks_per_split; b++) {
            const int first = b * kKeyBlock;
            const bool any = threadIdx.x < kKeyBlock && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) continue;
            if (chunk == 0 || a.blocks_per_split > 1 || a.one_buffer) {
#pragma unroll 1
                for (int i = 0; i < (a.one_buffer ? 1 : 2); i++) {
                    load_rows<R, Q>(a, run, place, kv_head, first, i != 0, chunk == 0, i != 0 ? s.v : s.k, s.stride);
                }
            }
            cp_async_wait<0>();
            __syncthreads();
            attention_scores(s, a.head_dim, a.scale, [&](int q, int key) {
                return place.visible((chunk + q) / a.group, place.age(first + key));
            });
            __syncthreads();
            if (a.one_buffer) load_rows<R, Q>(a, run, place, kv_head, first, true, chunk == 0, s.v, s.stride);
            attention_soften(s);
            cp_async_wait<0>();
            __syncthreads();
            attention_weigh<S, kDims>(s, a.head_dim, acc);
        }
        __syncthreads();
        for (int q = 0; q < kCoreQueries && chunk + q < n_queries; q++) {
            const int64_t row = run.first_row - a.first_row + (chunk + q) / a.group;
            const int head = kv_head * a.group + (chunk + q) % a.group;
            float* out = a.partial + (row * per_row + head * gridDim.x + blockIdx.x) * (a.head_dim + 2);
#pragma unroll
            for (int i = 0; i < kDims; i++) {
                const int d = threadIdx.x + kCoreThreads * i;
                if (d < a.head_dim) out[d] = acc[i][q];
            }
            if (threadIdx.x == 0) out[a.head_dim] = s.max[q], out[a.head_dim + 1] = s.sum[q];
        }
    }
    finish(a, run, kv_head, n_queries);
}

// Sixteen queries in shared memory, and what they make of 64 keys.
template <class S>
struct TensorShared {
    static constexpr int kQueries = 16, kWeights = kKeyBlock + 8;  // rows start in different banks
    S *k, *v, *q, *p;                                              // p (16, kWeights)
    float *scores, *max, *sum, *change;                            // scores (16, kWeights)
    int stride;

    __device__ TensorShared(unsigned char* base, int head_dim) : stride(head_dim + 8) {
        k = reinterpret_cast<S*>(base);
        v = k + kKeyBlock * stride;
        q = v + kKeyBlock * stride;
        p = q + kQueries * stride;
        scores = reinterpret_cast<float*>(p + kQueries * kWeights);
        max = scores + kQueries * kWeights, sum = max + kQueries, change = sum + kQueries;
    }
    static size_t bytes(int head_dim) {
        return sizeof(S) * ((2 * kKeyBlock + kQueries) * (head_dim + 8) + kQueries * kWeights) +
               sizeof(float) * (kQueries * kWeights + 3 * kQueries);
    }
};

__device__ __forceinline__ void mma(half, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
}
__device__ __forceinline__ void mma(bfloat, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
}

// scores[q][key]: a warp takes 16 keys.
template <class S, class Visible>
__device__ __forceinline__ void tensor_scores(const TensorShared<S>& s, int head_dim, float scale,
                                              const Visible& visible) {
    const int lane = threadIdx.x & 31, first = threadIdx.x / 32 * 16, inner = lane % 8;
    float c[2][4] = {};
    for (int i = 0; i < head_dim; i += 16) {
        uint32_t q[4], k[4];
        ldmatrix_x4(q, s.q + (inner + (lane / 8 & 1) * 8) * s.stride + i + lane / 16 * 8);
        ldmatrix_x4(k, s.k + (first + lane / 16 * 8 + inner) * s.stride + i + (lane / 8 & 1) * 8);
        mma(S(), c[0], q, k[0], k[1]);
        mma(S(), c[1], q, k[2], k[3]);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int query = lane / 4 + (j & 2) * 4, key = first + j / 4 * 8 + lane % 4 * 2 + (j & 1);
        s.scores[query * s.kWeights + key] = visible(query, key) ? c[j / 4][j & 3] * scale : kNoKey;
    }
}

// Scores become weights relative to the running maximum; a warp takes four queries.
template <class S>
__device__ __forceinline__ void tensor_soften(const TensorShared<S>& s) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int q = threadIdx.x / 32 * 4 + j;
        const float first = s.scores[q * s.kWeights + lane], second = s.scores[q * s.kWeights + lane + 32];
        const float old = s.max[q], max = fmaxf(old, warp_max(fmaxf(first, second)));
        const bool none = max == kNoKey;
        const float a = none ? 0.0f : exp2_fast(first - max), b = none ? 0.0f : exp2_fast(second - max);
        s.p[q * s.kWeights + lane] = from_float<S>(a), s.p[q * s.kWeights + lane + 32] = from_float<S>(b);
        const float sum = warp_sum(a + b);
        __syncwarp();
        if (lane == 0) {
            const float change = none ? 0.0f : exp2_fast(old - max);
            s.change[q] = change;
            s.sum[q] = fmaf(s.sum[q], change, sum);
            s.max[q] = max;
        }
    }
}

// The same for 16-bit queries and heads of 64 kHead values, on tensor cores: 16 queries are an instruction's rows.
template <class R, int kHead>
__global__ void __launch_bounds__(kCoreThreads) tensor_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = typename R::Value;
    constexpr int kDim = 64 * kHead, kOwn = kDim / 4;  // dimensions of a warp
    const TensorShared<S> s(dynamic_shared(), kDim);
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int kv_head = blockIdx.y, n_queries = a.group * run.n_rows, per_row = a.n_heads * gridDim.x;
    const int first_block = blockIdx.x * a.blocks_per_split;
    const int lane = threadIdx.x & 31, own = threadIdx.x / 32 * kOwn;
    for (int chunk = 0; chunk < n_queries; chunk += s.kQueries) {
        __syncthreads();
        for (int i = threadIdx.x; i < s.kQueries * kDim / 8; i += kCoreThreads) {
            const int q = i / (kDim / 8), d = i % (kDim / 8) * 8, query = min(chunk + q, n_queries - 1);
            const int64_t row = run.first_row + query / a.group;
            const int head = kv_head * a.group + query % a.group;
            *reinterpret_cast<uint4*>(s.q + q * s.stride + d) =
                *reinterpret_cast<const uint4*>(static_cast<const S*>(a.q) + row * a.stride + head * kDim + d);
        }
        if (threadIdx.x < s.kQueries) s.max[threadIdx.x] = kNoKey, s.sum[threadIdx.x] = 0.0f;
        float acc[kOwn / 8][4] = {};
        for (int b = first_block; b < first_block + a.blocks_per_split; b++) {
            const int first = b * kKeyBlock;
            const bool any = threadIdx.x < kKeyBlock && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) continue;
            if (chunk == 0 || a.blocks_per_split > 1) {
#pragma unroll 1
                for (int i = 0; i < 2; i++) {
                    load_rows<R, S>(a, run, place, kv_head, first, i != 0, chunk == 0, i != 0 ? s.v : s.k, s.stride);
                }
                cp_async_wait<0>();
            }
            __syncthreads();
            tensor_scores(s, kDim, a.scale, [&](int q, int key) {
                return place.visible(min(chunk + q, n_queries - 1) / a.group, place.age(first + key));
            });
            __syncthreads();
            tensor_soften(s);
            __syncthreads();
            const float low = s.change[lane / 4], high = s.change[lane / 4 + 8];
#pragma unroll
            for (auto& c : acc) c[0] *= low, c[1] *= low, c[2] *= high, c[3] *= high;
#pragma unroll
            for (int key = 0; key < kKeyBlock; key += 16) {
                uint32_t p[4], v[4];
                ldmatrix_x4(p, s.p + (lane % 8 + (lane / 8 & 1) * 8) * s.kWeights + key + lane / 16 * 8);
#pragma unroll
                for (int n = 0; n < kOwn / 8; n += 2) {
                    ldmatrix_x4_trans(
                        v, s.v + (key + (lane / 8 & 1) * 8 + lane % 8) * s.stride + own + n * 8 + lane / 16 * 8);
                    mma(S(), acc[n], p, v[0], v[1]);
                    mma(S(), acc[n + 1], p, v[2], v[3]);
                }
            }
        }
        __syncthreads();
#pragma unroll
        for (int half_rows = 0; half_rows < 2; half_rows++) {
            const int q = lane / 4 + 8 * half_rows;
            if (chunk + q >= n_queries) continue;
            const int64_t row = run.first_row - a.first_row + (chunk + q) / a.group;
            const int head = kv_head * a.group + (chunk + q) % a.group;
            float* out = a.partial + (row * per_row + head * gridDim.x + blockIdx.x) * (kDim + 2);
#pragma unroll
            for (int n = 0; n < kOwn / 8; n++) {
                *reinterpret_cast<float2*>(out + own + n * 8 + lane % 4 * 2) =
                    make_float2(acc[n][2 * half_rows], acc[n][2 * half_rows + 1]);
            }
            if (threadIdx.x < 32 && lane % 4 == 0) out[kDim] = s.max[q], out[kDim + 1] = s.sum[q];
        }
    }
    finish(a, run, kv_head, n_queries);
}

}  // namespace

int decode_splits(int64_t ring_rows) {
    const int each = blocks_per_split(ring_rows);
    return (ring_blocks(ring_rows) + each - 1) / each;
}

int64_t decode_partial_values(int64_t ring_rows, int n_heads, int head_dim) {
    return int64_t{n_heads} * decode_splits(ring_rows) * (head_dim + 2);
}

void attention_decode(const Gpu& gpu, const Tables& tables, const RunGroup& group, const Qkv& in, const Ring& ring,
                      View y, float* partial, int* done) {
    const int head_dim = ring.head_dim, n_heads = static_cast<int>(in.q.cols) / head_dim;
    const int n_splits = decode_splits(ring.n_rows);
    const bool f32 = y.type == DType::kF32;
    with_ring(ring.type, [&](auto format) {
        using R = decltype(format);
        using S = AttentionShared<typename R::Value>;
        with_type(in.q.type, [&](auto t) {
            using Q = decltype(t);
            using Own = std::conditional_t<std::is_same_v<Q, float>, float, typename R::Value>;
            if constexpr (std::is_same_v<Q, Own>) {  // q, k and v are f32 or of the ring's own type
                const bool one_buffer =
                    S::bytes(head_dim, false) + sizeof(float) * kCoreQueries * (kMaxSplits + 2) > kPortableShared;
                const Args a{tables.now + group.first_run,
                             in.q.data,
                             in.k.data,
                             in.v.data,
                             in.q.stride,
                             ring_args(ring),
                             n_heads,
                             n_heads / ring.n_kv_heads,
                             head_dim,
                             blocks_per_split(ring.n_rows),
                             group.first_row,
                             one_buffer,
                             attention_scale(head_dim),
                             partial,
                             done,
                             y.data,
                             y.stride,
                             y.type,
                             f32 && (ring.type == DType::kF16 || ring.type == DType::kQ8_0),
                             f32 && ring.type == DType::kBF16};
                const dim3 grid(n_splits, ring.n_kv_heads, group.n_runs);
                const bool vectors = in.q.stride % 8 == 0 && reinterpret_cast<uintptr_t>(in.q.data) % 16 == 0;
                if constexpr (!std::is_same_v<Q, float>) {
                    const auto tensor = [&](auto kernel) {
                        launch(gpu, grid, dim3(kCoreThreads), TensorShared<Q>::bytes(head_dim), kernel, a);
                    };
                    if (vectors && head_dim == 64) return tensor(tensor_kernel<R, 1>);
                    if (vectors && head_dim == 128) return tensor(tensor_kernel<R, 2>);
                    if (vectors && head_dim == 256) return tensor(tensor_kernel<R, 4>);
                }
                const auto kernel = head_dim <= kCoreThreads ? decode_kernel<R, Q, 1> : decode_kernel<R, Q, 2>;
                launch(gpu, grid, dim3(kCoreThreads), S::bytes(head_dim, one_buffer), kernel, a);
            } else {
                throw Error("cuda: queries of a type that is neither f32 nor the ring's");
            }
        });
    });
}

}  // namespace samba::cuda
