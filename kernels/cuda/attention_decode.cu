// Decode attention: a block takes 64 or 128 rows of a slot's ring (a few times that where the ring is long) for one kv
// head and all queries that read it, and appends the run's own rows that lie there. The last block of a run and kv head
// to end combines the blocks' sums, in a fixed order; a block without a visible key counts for nothing.
#include <algorithm>
#include <climits>
#include <type_traits>

#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {
namespace {

constexpr int kMaxSplits = 64;

// A ring cut into blocks of so many rows, and those shared by the splits.
struct Cut {
    int blocks, per_split, splits;
    Cut(int64_t ring_rows, int keys)
        : blocks(std::max(1, static_cast<int>((ring_rows + keys - 1) / keys))),
          per_split((blocks + kMaxSplits - 1) / kMaxSplits),
          splits((blocks + per_split - 1) / per_split) {}
};
// Rows of a block on tensor cores: fewer where heads are so wide that shared memory would not hold them.
constexpr int tensor_keys(int head_dim) { return head_dim > 128 ? 64 : 128; }

struct Args {
    const DeviceRun* runs;  // of the launch's first run on
    const void *q, *k, *v;
    int64_t stride;  // of q, k and v
    RingArgs ring;
    int n_heads, group, head_dim, blocks_per_split, first_row;
    bool one_buffer;
    float scale;
    float* partial;  // (rows, n_heads, splits, head_dim): sums
    float2* stats;   // (rows, n_heads, splits): maximum, sum of weights
    int* done;       // (runs, kv heads): blocks that have ended; zero between launches
    void* y;
    int64_t y_stride;
    DType y_type;
    bool round_f16, round_bf16;  // of results kept in f32
};

// Which positions the ring's rows hold once the run's rows are in it, and who sees them.
struct Place {
    int last;  // the run's last position, as far as it matters
    int newest, n_rows, window, run_rows;

    __device__ __forceinline__ Place(const Args& a, const DeviceRun& run)
        : last(static_cast<int>(min(run.position + run.n_rows - 1, int64_t{INT_MAX - 1}))),
          newest(ring_row(run.position + run.n_rows - 1, a.ring.n_rows)),
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

// Where a query's split puts its sums and its maximum.
__device__ __forceinline__ int64_t partial_of(const Args& a, const DeviceRun& run, int kv_head, int query) {
    const int64_t row = run.first_row - a.first_row + query / a.group;
    return (row * a.n_heads + kv_head * a.group + query % a.group) * gridDim.x;
}

struct CombineShared {
    float weights[kCoreQueries][kMaxSplits];
};
constexpr size_t combine_bytes(int head_dim, int n_warps) {
    return sizeof(float) * static_cast<size_t>(n_warps * kCoreQueries * head_dim);
}

// y of a run's queries of one kv head from the splits, in an order that depends on their number alone; by all threads
// of the last block: a warp adds up every kWarps-th split. sums (kWarps, kCoreQueries, head_dim): room in shared
// memory.
template <int kWarps>
__device__ void combine(const Args& a, const DeviceRun& run, int kv_head, int n_queries, int n_splits,
                        CombineShared& shared, float* sums) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, head_dim = a.head_dim;
    for (int chunk = 0; chunk < n_queries; chunk += kCoreQueries) {
        const int n = min(kCoreQueries, n_queries - chunk);
        __syncthreads();
#pragma unroll 1
        for (int q = warp; q < n; q += kWarps) {
            const float2* from = a.stats + partial_of(a, run, kv_head, chunk + q);
            const float2 none = make_float2(kNoKey, 0.0f);
            const float2 s0 = lane < n_splits ? __ldcg(from + lane) : none,
                         s1 = lane + 32 < n_splits ? __ldcg(from + lane + 32) : none;
            const float max = warp_max(fmaxf(s0.x, s1.x));
            const float w0 = s0.x == kNoKey ? 0.0f : exp2_fast(s0.x - max),
                        w1 = s1.x == kNoKey ? 0.0f : exp2_fast(s1.x - max);
            const float total = warp_sum(w0 * s0.y + w1 * s1.y), scale = total > 0 ? 1.0f / total : 0.0f;
            shared.weights[q][lane] = w0 * scale, shared.weights[q][lane + 32] = w1 * scale;
        }
        __syncthreads();
        const int columns = head_dim / 4;
#pragma unroll 2
        for (int i = lane; i < n * columns; i += 32) {
            const int q = i / columns, column = i % columns;
            const auto* from =
                reinterpret_cast<const float4*>(a.partial + partial_of(a, run, kv_head, chunk + q) * head_dim) + column;
            float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
            for (int j = 0; j < kMaxSplits / kWarps; j++) {  // without a loop: all loads are under way at once
                const int s = warp + kWarps * j;
                if (s >= n_splits) continue;
                const float4 v = __ldcg(from + s * columns);
                const float w = shared.weights[q][s];
                sum.x = fmaf(w, v.x, sum.x), sum.y = fmaf(w, v.y, sum.y);
                sum.z = fmaf(w, v.z, sum.z), sum.w = fmaf(w, v.w, sum.w);
            }
            *reinterpret_cast<float4*>(sums + warp * kCoreQueries * head_dim + 4 * i) = sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < n * head_dim; i += kWarps * 32) {
            const int q = i / head_dim, d = i % head_dim, query = chunk + q;
            float v = 0;
#pragma unroll
            for (int way = 0; way < kWarps; way++) v += sums[way * kCoreQueries * head_dim + i];
            if (a.round_f16) v = to_float(from_float<half>(v));
            if (a.round_bf16) v = to_float(from_float<bfloat>(v));
            const int64_t row = run.first_row + query / a.group;
            const int head = kv_head * a.group + query % a.group;
            store_as(a.y_type, a.y, row * a.y_stride + head * head_dim + d, v);
        }
    }
}

// The last block of a run and kv head combines them all.
template <int kWarps>
__device__ void finish(const Args& a, const DeviceRun& run, int kv_head, int n_queries) {
    __shared__ CombineShared shared;
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
    combine<kWarps>(a, run, kv_head, n_queries, gridDim.x, shared, dynamic_shared<float>());
}

template <class R, class Q, int kDims>
__global__ void __launch_bounds__(kCoreThreads) decode_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = typename R::Value;
    const AttentionShared<S> s(dynamic_shared(), a.head_dim, a.one_buffer);
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int kv_head = blockIdx.y, n_queries = a.group * run.n_rows;
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
            const int64_t at = partial_of(a, run, kv_head, chunk + q) + blockIdx.x;
            float* out = a.partial + at * a.head_dim;
#pragma unroll
            for (int i = 0; i < kDims; i++) {
                const int d = threadIdx.x + kCoreThreads * i;
                if (d < a.head_dim) out[d] = acc[i][q];
            }
            if (threadIdx.x == 0) a.stats[at] = make_float2(s.max[q], s.sum[q]);
        }
    }
    finish<kCoreThreads / 32>(a, run, kv_head, n_queries);
}

// Sixteen queries, a block of keys and values in shared memory, the weights that they make, and what the warps tell
// each other. A warp has 16 of the keys.
template <class S, int kDim>
struct TensorShared {
    static constexpr int kQueries = 16, kKeys = tensor_keys(kDim), kWarps = kKeys / 16, kThreads = 32 * kWarps;
    static constexpr int kStride = kDim + 8, kWeights = kKeys + 8;  // rows start in different banks
    S k[kKeys * kStride], v[kKeys * kStride], q[kQueries * kStride], p[kQueries * kWeights];
    float max[kWarps][kQueries], sum[kWarps][kQueries];
};

__device__ __forceinline__ void mma(half, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
}
__device__ __forceinline__ void mma(bfloat, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
}
__device__ __forceinline__ uint32_t pack(half, float a, float b) { return pack_f16(a, b); }
__device__ __forceinline__ uint32_t pack(bfloat, float a, float b) { return pack_bf16(a, b); }

// Rows of keys and of values from the ring, but for the run's own rows; zeros where nobody sees them.
template <class R, int kDim, class S = typename R::Value>
__device__ __forceinline__ void load_ring(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                          int first, TensorShared<S, kDim>& s) {
    constexpr int kParts = kDim / 8, kRowStep = TensorShared<S, kDim>::kThreads / kParts;
    const int column = threadIdx.x % kParts * 8;
    int64_t at = a.ring.offset(run.slot, kv_head, first + threadIdx.x / kParts);
#pragma unroll 2
    for (int row = threadIdx.x / kParts; row < s.kKeys; row += kRowStep, at += kRowStep * a.ring.row_bytes) {
        const int age = place.age(first + row), to = row * s.kStride + column;
        if (age >= 0 && age < place.run_rows) continue;
        const bool visible = place.visible(0, age);
        if constexpr (R::kPlain) {
            cp_async<16>(s.k + to, a.ring.k + at + column * 2, visible);
            cp_async<16>(s.v + to, a.ring.v + at + column * 2, visible);
        } else if (visible) {
            R::load(a.ring.k + at, column, s.k + to);
            R::load(a.ring.v + at, column, s.v + to);
        } else {
            *reinterpret_cast<uint4*>(s.k + to) = *reinterpret_cast<uint4*>(s.v + to) = make_uint4(0, 0, 0, 0);
        }
    }
}

// The run's own rows among the block's: from the step to shared memory, and to the ring.
template <class R, int kDim, class S = typename R::Value>
__device__ __forceinline__ void load_own(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                         int first, bool append, TensorShared<S, kDim>& s) {
    constexpr int kParts = kDim / 8;
#pragma unroll 1
    for (int i = threadIdx.x; i < run.n_rows * kParts * 2; i += s.kThreads) {
        const int age = i / (kParts * 2), column = i % kParts * 8;
        const bool values = i / kParts & 1;
        const int ring_at = place.newest >= age ? place.newest - age : place.newest - age + place.n_rows;
        const int row = ring_at - first;
        if (row < 0 || row >= s.kKeys) continue;
        const S* from = static_cast<const S*>(values ? a.v : a.k) + kv_head * kDim +
                        (run.first_row + (run.n_rows - 1 - age)) * a.stride;
        char* ring = (values ? a.ring.v : a.ring.k) + a.ring.offset(run.slot, kv_head, ring_at);
        R::store(from, column, append ? ring : nullptr, (values ? s.v : s.k) + row * s.kStride + column);
    }
}

// The block's first rows on their way to L2 while the kernel before still runs. The table may not be this step's yet:
// then its slot is another one, and nothing but time is lost.
__device__ __forceinline__ void send_for_ring(const Args& a, const char* ring, int first, int keys) {
    const int slot = __ldcg(&a.runs[blockIdx.z].slot), rows = min(keys, static_cast<int>(a.ring.n_rows) - first);
    if (rows > 0) {
        prefetch_l2(ring + a.ring.offset(slot, blockIdx.y, first), static_cast<uint32_t>(rows * a.ring.row_bytes));
    }
}

// What a lane knows of its two queries, g and g + 8: which ages they see, and their softmax so far.
struct TwoQueries {
    int least_age[2];
    uint32_t n_ages[2];
    float max[2] = {kNoKey, kNoKey}, sum[2] = {0, 0};

    __device__ __forceinline__ TwoQueries(const Args& a, const Place& place, int first, int n_queries) {
        const int g = (threadIdx.x & 31) / 4;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            least_age[r] = place.run_rows - 1 - min(first + g + 8 * r, n_queries - 1) / a.group;
            n_ages[r] = static_cast<uint32_t>(min(place.window, place.last - least_age[r] + 1));
        }
    }
};

// The weights of a warp's 16 keys, relative to the maximum over all keys so far; change: what earlier sums are worth.
template <class S, int kDim>
__device__ __forceinline__ void weigh_keys(const Args& a, const Place& place, int first, TensorShared<S, kDim>& s,
                                           TwoQueries& two, float (&change)[2]) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, own = warp * 16, inner = lane % 8;
    float c[2][4] = {};
#pragma unroll
    for (int i = 0; i < kDim; i += 16) {
        uint32_t q[4], k[4];
        ldmatrix_x4(q, s.q + (inner + (lane / 8 & 1) * 8) * s.kStride + i + lane / 16 * 8);
        ldmatrix_x4(k, s.k + (own + lane / 16 * 8 + inner) * s.kStride + i + (lane / 8 & 1) * 8);
        mma(S(), c[0], q, k[0], k[1]);
        mma(S(), c[1], q, k[2], k[3]);
    }
    float max[2] = {kNoKey, kNoKey};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int row = first + own + j / 2 * 8 + lane % 4 * 2 + (j & 1);
        const int back = place.newest - row, age = back < 0 ? back + place.n_rows : back;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float& score = c[j / 2][2 * r + (j & 1)];
            const bool visible = row < place.n_rows && static_cast<uint32_t>(age - two.least_age[r]) < two.n_ages[r];
            score = visible ? score * a.scale : kNoKey;
            max[r] = fmaxf(max[r], score);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        max[r] = fmaxf(max[r], __shfl_xor_sync(0xffffffffu, max[r], 1));
        max[r] = fmaxf(max[r], __shfl_xor_sync(0xffffffffu, max[r], 2));
        if (lane % 4 == 0) s.max[warp][lane / 4 + 8 * r] = max[r];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int q = lane / 4 + 8 * r;
        float now = two.max[r];
#pragma unroll
        for (int w = 0; w < s.kWarps; w++) now = fmaxf(now, s.max[w][q]);
        const float base = now == kNoKey ? 0.0f : now;  // without a key all weights are 0
        change[r] = exp2_fast(two.max[r] - base);
        two.max[r] = now;
        float total = 0;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float x = exp2_fast(c[n][2 * r] - base), y = exp2_fast(c[n][2 * r + 1] - base);
            total += x + y;
            *reinterpret_cast<uint32_t*>(s.p + q * s.kWeights + own + n * 8 + lane % 4 * 2) = pack(S(), x, y);
        }
        two.sum[r] = fmaf(two.sum[r], change[r], total);
    }
}

// acc (16 queries, the warp's dimensions) += p v
template <class S, int kDim, int kTiles>
__device__ __forceinline__ void weigh_values(const TensorShared<S, kDim>& s, int own, float (&acc)[kTiles][4]) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int key = 0; key < s.kKeys; key += 32) {
        uint32_t p[2][4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            ldmatrix_x4(p[h], s.p + (lane % 8 + (lane / 8 & 1) * 8) * s.kWeights + key + 16 * h + lane / 16 * 8);
        }
#pragma unroll
        for (int n = 0; n < kTiles; n++) {
            uint32_t v[4];
            ldmatrix_x4_trans(v, s.v + (key + lane) * s.kStride + own + n * 8);
            mma(S(), acc[n], p[0], v[0], v[1]);
            mma(S(), acc[n], p[1], v[2], v[3]);
        }
    }
}

// The same for 16-bit queries and heads of kDim values, on tensor cores: 16 queries are an instruction's rows.
template <class R, int kDim>
__global__ void __launch_bounds__(TensorShared<half, kDim>::kThreads) tensor_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    using S = typename R::Value;
    auto& s = *reinterpret_cast<TensorShared<S, kDim>*>(dynamic_shared());
    constexpr int kOwn = kDim / s.kWarps, kTiles = kOwn / 8;  // dimensions of a warp
    const int kv_head = blockIdx.y, first_row = blockIdx.x * a.blocks_per_split * s.kKeys;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, own = warp * kOwn;
    if (R::kPlain && threadIdx.x < 2) send_for_ring(a, threadIdx.x == 0 ? a.ring.k : a.ring.v, first_row, s.kKeys);
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int n_queries = a.group * run.n_rows;
#pragma unroll 1
    for (int chunk = 0; chunk < n_queries; chunk += s.kQueries) {
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < s.kQueries * kDim / 8; i += s.kThreads) {
            const int q = i / (kDim / 8), d = i % (kDim / 8) * 8, query = min(chunk + q, n_queries - 1);
            const int row = query / a.group, head = kv_head * a.group + query - row * a.group;
            cp_async<16>(s.q + q * s.kStride + d,
                         static_cast<const S*>(a.q) + (run.first_row + row) * a.stride + head * kDim + d);
        }
        TwoQueries two(a, place, chunk, n_queries);
        float acc[kTiles][4] = {};
#pragma unroll 1
        for (int b = 0; b < a.blocks_per_split; b++) {
            const int first = first_row + b * s.kKeys;
            const bool any = threadIdx.x < s.kKeys && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) continue;
            if (chunk == 0 || a.blocks_per_split > 1) {
                load_ring<R, kDim>(a, run, place, kv_head, first, s);
                load_own<R, kDim>(a, run, place, kv_head, first, chunk == 0, s);
            }
            cp_async_commit();
            cp_async_wait<0>();
            __syncthreads();
            float change[2];
            weigh_keys(a, place, first, s, two, change);
            __syncthreads();
#pragma unroll
            for (auto& c : acc) c[0] *= change[0], c[1] *= change[0], c[2] *= change[1], c[3] *= change[1];
            weigh_values(s, own, acc);
        }
        cp_async_commit();  // where all blocks were skipped, the queries are still on their way
        cp_async_wait<0>();
#pragma unroll
        for (int r = 0; r < 2; r++) {
            two.sum[r] += __shfl_xor_sync(0xffffffffu, two.sum[r], 1);
            two.sum[r] += __shfl_xor_sync(0xffffffffu, two.sum[r], 2);
            if (lane % 4 == 0) s.sum[warp][lane / 4 + 8 * r] = two.sum[r];
        }
        __syncthreads();
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int q = lane / 4 + 8 * r;
            if (chunk + q >= n_queries) continue;
            const int64_t at = partial_of(a, run, kv_head, chunk + q) + blockIdx.x;
            float* out = a.partial + at * kDim + own + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < kTiles; n++) {
                *reinterpret_cast<float2*>(out + n * 8) = make_float2(acc[n][2 * r], acc[n][2 * r + 1]);
            }
            if (warp == 0 && lane % 4 == 0) {
                float sum = 0;
#pragma unroll
                for (int w = 0; w < s.kWarps; w++) sum += s.sum[w][q];
                a.stats[at] = make_float2(two.max[r], sum);
            }
        }
    }
    finish<TensorShared<S, kDim>::kWarps>(a, run, kv_head, n_queries);
}

}  // namespace

int decode_splits(int64_t ring_rows) {
    return std::max(Cut(ring_rows, kKeyBlock).splits, Cut(ring_rows, tensor_keys(64)).splits);
}

int64_t decode_partial_values(int64_t ring_rows, int n_heads, int head_dim) {
    return int64_t{n_heads} * decode_splits(ring_rows) * (head_dim + 2);
}

void attention_decode(const Gpu& gpu, const Tables& tables, const RunGroup& group, const Qkv& in, const Ring& ring,
                      View y, float* partial, int* done) {
    const int head_dim = ring.head_dim, n_heads = static_cast<int>(in.q.cols) / head_dim;
    const bool vectors = in.q.stride % 8 == 0 && reinterpret_cast<uintptr_t>(in.q.data) % 16 == 0;
    const bool tensor = vectors && in.q.type != DType::kF32 && (head_dim == 64 || head_dim == 128 || head_dim == 256);
    const Cut cut(ring.n_rows, tensor ? tensor_keys(head_dim) : kKeyBlock);
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
                const Args a{
                    tables.now + group.first_run,
                    in.q.data,
                    in.k.data,
                    in.v.data,
                    in.q.stride,
                    ring_args(ring),
                    n_heads,
                    n_heads / ring.n_kv_heads,
                    head_dim,
                    cut.per_split,
                    group.first_row,
                    one_buffer,
                    attention_scale(head_dim),
                    partial,
                    reinterpret_cast<float2*>(partial + int64_t{group.n_rows} * n_heads * cut.splits * head_dim),
                    done,
                    y.data,
                    y.stride,
                    y.type,
                    f32 && (ring.type == DType::kF16 || ring.type == DType::kQ8_0),
                    f32 && ring.type == DType::kBF16};
                const dim3 grid(cut.splits, ring.n_kv_heads, group.n_runs);
                if constexpr (!std::is_same_v<Q, float>) {
                    const auto start = [&]<int kDim>(std::integral_constant<int, kDim>) {
                        using Shared = TensorShared<Q, kDim>;
                        const size_t shared = std::max(sizeof(Shared), combine_bytes(kDim, Shared::kWarps));
                        launch(gpu, grid, dim3(Shared::kThreads), shared, tensor_kernel<R, kDim>, a);
                    };
                    if (tensor && head_dim == 64) return start(std::integral_constant<int, 64>());
                    if (tensor && head_dim == 128) return start(std::integral_constant<int, 128>());
                    if (tensor) return start(std::integral_constant<int, 256>());
                }
                const auto kernel = head_dim <= kCoreThreads ? decode_kernel<R, Q, 1> : decode_kernel<R, Q, 2>;
                const size_t shared =
                    std::max(S::bytes(head_dim, one_buffer), combine_bytes(head_dim, kCoreThreads / 32));
                launch(gpu, grid, dim3(kCoreThreads), shared, kernel, a);
            } else {
                throw Error("cuda: queries of a type that is neither f32 nor the ring's");
            }
        });
    });
}

}  // namespace samba::cuda
