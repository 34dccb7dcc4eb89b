// Decode attention: a block takes 64 or 128 rows of a slot's ring (a few times that where the ring is long) for one kv
// head and all queries that read it, and appends the run's own rows that lie there. A second kernel combines the
// blocks' sums (attention_combine.cu); a block without a visible key counts for nothing.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention_blocks.cuh"
#include "kernels/cuda/early_run.cuh"

namespace samba::cuda {
namespace {

using namespace decode;

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
}

// Sixteen queries, a block of keys and values in shared memory, and what the warps tell each other. A warp has 16 of
// the keys. The weights that they make take the keys' place: so three blocks of heads of 128 fit beside one another.
template <class S, int kDim>
struct TensorShared {
    static constexpr int kQueries = 16, kKeys = tensor_keys(kDim), kWarps = kKeys / 16, kThreads = 32 * kWarps;
    static constexpr int kStride = kDim + 8, kWeights = kKeys + 8;  // rows start in different banks
    S k[kKeys * kStride], v[kKeys * kStride], q[kQueries * kStride];
    float max[kWarps][kQueries], sum[kWarps][kQueries];

    static_assert(kQueries * kWeights <= kKeys * kStride);
    __device__ __forceinline__ S* weights() { return k; }
    __device__ __forceinline__ const S* weights() const { return k; }
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

// Some queries, of a run whose first row this is.
template <int kDim, class S>
__device__ __forceinline__ void load_queries(const Args& a, int first_row, int kv_head, int first, int n_queries,
                                             TensorShared<S, kDim>& s) {
#pragma unroll 1
    for (int i = threadIdx.x; i < s.kQueries * kDim / 8; i += s.kThreads) {
        const int q = i / (kDim / 8), d = i % (kDim / 8) * 8, query = min(first + q, n_queries - 1);
        const int row = query / a.group, head = kv_head * a.group + query - row * a.group;
        cp_async<16>(s.q + q * s.kStride + d,
                     static_cast<const S*>(a.q) + (first_row + row) * a.stride + head * kDim + d);
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
        const int ring_at = place.row_of(age);
        const int row = ring_at - first;
        if (row < 0 || row >= s.kKeys) continue;
        const S* from = static_cast<const S*>(values ? a.v : a.k) + kv_head * kDim +
                        (run.first_row + (run.n_rows - 1 - age)) * a.stride;
        char* ring = (values ? a.ring.v : a.ring.k) + a.ring.offset(run.slot, kv_head, ring_at);
        R::store(from, column, append ? ring : nullptr, (values ? s.v : s.k) + row * s.kStride + column);
    }
}

// The same of a single run, eight values a thread: read before it is known which rows of the ring they become.
template <int kDim, class S>
struct OwnPart {
    static constexpr int kParts = kDim / 8;
    bool whole, there, values;  // whole: there are enough threads for all of them
    int age, column;
    uint4 v;

    __device__ __forceinline__ OwnPart(const Args& a, int kv_head, bool wanted)
        : whole(wanted && a.n_rows * kParts * 2 <= TensorShared<S, kDim>::kThreads),
          values(threadIdx.x / kParts & 1),
          age(threadIdx.x / (kParts * 2)),
          column(threadIdx.x % kParts * 8) {
        there = whole && age < a.n_rows;
        if (!there) return;
        const int64_t row = a.first_row + a.n_rows - 1 - age;
        v = *reinterpret_cast<const uint4*>(static_cast<const S*>(values ? a.v : a.k) + kv_head * kDim +
                                            row * a.stride + column);
    }
    __device__ __forceinline__ void put(const Args& a, const DeviceRun& run, const Place& place, int kv_head, int first,
                                        TensorShared<S, kDim>& s) const {
        if (!there) return;
        const int ring_at = place.row_of(age);
        const int row = ring_at - first;
        if (row < 0 || row >= s.kKeys) return;
        char* ring = (values ? a.ring.v : a.ring.k) + a.ring.offset(run.slot, kv_head, ring_at) + column * sizeof(S);
        *reinterpret_cast<uint4*>(ring) = v;
        *reinterpret_cast<uint4*>((values ? s.v : s.k) + row * s.kStride + column) = v;
    }
};

// The block's first rows on their way to L2 while the kernel before still runs. The table may not be this step's yet:
// then nothing but time is lost.
__device__ __forceinline__ void send_for_ring(const Args& a, const char* ring, int first, int keys) {
    const int slot = __ldcg(&a.runs[blockIdx.z].slot), rows = min(keys, static_cast<int>(a.ring.n_rows) - first);
    if (rows > 0) {
        prefetch_l2(ring + a.ring.offset(slot, blockIdx.y, first), static_cast<uint32_t>(rows * a.ring.row_bytes));
    }
}

// Of later blocks the rings would drive out of L2 what those before them are about to read.
template <class Shared>
__device__ __forceinline__ bool in_first_wave() {
    constexpr int kOfMultiprocessor = (228 << 10) / (sizeof(Shared) + (1 << 10));  // compute capability 9.0
    unsigned n;
    asm("mov.u32 %0, %%nsmid;" : "=r"(n));
    return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z) < n * kOfMultiprocessor;
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
            *reinterpret_cast<uint32_t*>(s.weights() + q * s.kWeights + own + n * 8 + lane % 4 * 2) = pack(S(), x, y);
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
            ldmatrix_x4(p[h],
                        s.weights() + (lane % 8 + (lane / 8 & 1) * 8) * s.kWeights + key + 16 * h + lane / 16 * 8);
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
// kEarly: rows of the ring, but for the run's own, are there since the last step, and loaded before the wait
// (early_run.cuh). Of many runs the blocks come one after another, and would each look at the table twice.
template <class R, int kDim, bool kEarly>
__global__ void __launch_bounds__(TensorShared<half, kDim>::kThreads) tensor_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    using S = typename R::Value;
    auto& s = *reinterpret_cast<TensorShared<S, kDim>*>(dynamic_shared());
    constexpr int kOwn = kDim / s.kWarps, kTiles = kOwn / 8;  // dimensions of a warp
    const int kv_head = blockIdx.y, first_row = blockIdx.x * a.blocks_per_split * s.kKeys;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, own = warp * kOwn;
    constexpr bool kLoadsEarly = kEarly && R::kPlain;
    DeviceRun early = {0, 0, 0, 1, 0};
    Place place(a, early);
    if constexpr (kLoadsEarly) {
        early = load_run(a.runs + blockIdx.z);
        place = Place(a, early);
        load_ring<R, kDim>(a, early, place, kv_head, first_row, s);
        cp_async_commit();
    } else if (R::kPlain && threadIdx.x < 2 && in_first_wave<TensorShared<S, kDim>>()) {
        send_for_ring(a, threadIdx.x == 0 ? a.ring.k : a.ring.v, first_row, s.kKeys);
    }
    grid_wait();
    // A single run's rows are where the launch says, so what they hold comes beside the table.
    const DeviceRun run = kLoadsEarly ? load_run(a.runs + blockIdx.z) : a.runs[blockIdx.z];
    if constexpr (kLoadsEarly) load_queries(a, a.first_row, kv_head, 0, a.group * a.n_rows, s);
    OwnPart<kDim, S> own_part(a, kv_head, kLoadsEarly);
    const bool loaded = kLoadsEarly && same_place(run, early);
    // Warps may have seen different tables; a thread copies again only what it has copied itself.
    if (kLoadsEarly && !loaded) cp_async_wait<0>();
    if (!loaded) place = Place(a, run);
    const int n_queries = a.group * run.n_rows;
#pragma unroll 1
    for (int chunk = 0; chunk < n_queries; chunk += s.kQueries) {
        __syncthreads();
        if (!kLoadsEarly || chunk > 0) load_queries(a, run.first_row, kv_head, chunk, n_queries, s);
        TwoQueries two(a, place, chunk, n_queries);
        float acc[kTiles][4] = {};
#pragma unroll 1
        for (int b = 0; b < a.blocks_per_split; b++) {
            const int first = first_row + b * s.kKeys;
            const bool any = threadIdx.x < s.kKeys && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) {
                if constexpr (kLoadsEarly) cp_async_wait<0>();  // the next block takes the same place
                continue;
            }
            if (!loaded || chunk > 0 || b > 0) load_ring<R, kDim>(a, run, place, kv_head, first, s);
            if (own_part.whole && chunk == 0) {
                own_part.put(a, run, place, kv_head, first, s);
            } else {
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
}

}  // namespace

int decode_splits(int64_t ring_rows) {
    return std::max(Cut(ring_rows, kKeyBlock).splits, Cut(ring_rows, tensor_keys(64)).splits);
}

int64_t decode_partial_values(int64_t ring_rows, int n_heads, int head_dim) {
    return int64_t{n_heads} * decode_splits(ring_rows) * (head_dim + 2);
}

void attention_decode(const Gpu& gpu, const Tables& tables, const RunGroup& group, const Qkv& in, const Ring& ring,
                      View y, float* partial) {
    const int head_dim = ring.head_dim, n_heads = static_cast<int>(in.q.cols) / head_dim;
    const bool vectors = in.q.stride % 8 == 0 && reinterpret_cast<uintptr_t>(in.q.data) % 16 == 0;
    const bool tensor = vectors && in.q.type != DType::kF32 && (head_dim == 64 || head_dim == 128 || head_dim == 256);
    const Cut cut(ring.n_rows, tensor ? tensor_keys(head_dim) : kKeyBlock);
    const AttentionSums sums{
        partial,         reinterpret_cast<float2*>(partial + int64_t{group.n_rows} * n_heads * cut.splits * head_dim),
        group.first_row, group.n_rows,
        n_heads,         head_dim,
        cut.splits};
    with_ring(ring.type, [&](auto format) {
        using R = decltype(format);
        using S = AttentionShared<typename R::Value>;
        with_type(in.q.type, [&](auto t) {
            using Q = decltype(t);
            using Own = std::conditional_t<std::is_same_v<Q, float>, float, typename R::Value>;
            if constexpr (std::is_same_v<Q, Own>) {  // q, k and v are f32 or of the ring's own type
                const bool one_buffer = S::bytes(head_dim, false) > kPortableShared;
                const Args a{tables.now + group.first_run,
                             in.q.data,
                             in.k.data,
                             in.v.data,
                             in.q.stride,
                             n_heads,
                             n_heads / ring.n_kv_heads,
                             head_dim,
                             cut.per_split,
                             group.first_row,
                             group.n_rows,
                             one_buffer,
                             attention_scale(head_dim),
                             sums.partial,
                             sums.stats,
                             ring_args(ring)};
                const dim3 grid(cut.splits, ring.n_kv_heads, group.n_runs);
                if constexpr (!std::is_same_v<Q, float>) {
                    const auto start = [&]<int kDim>(std::integral_constant<int, kDim>) {
                        using Shared = TensorShared<Q, kDim>;
                        const auto kernel =
                            group.n_runs == 1 ? tensor_kernel<R, kDim, true> : tensor_kernel<R, kDim, false>;
                        const size_t shared = evenly_spread(gpu, grid, sizeof(Shared));
                        launch(gpu, grid, dim3(Shared::kThreads), shared, kernel, a);
                    };
                    if (tensor && head_dim == 64) return start(std::integral_constant<int, 64>());
                    if (tensor && head_dim == 128) return start(std::integral_constant<int, 128>());
                    if (tensor) return start(std::integral_constant<int, 256>());
                }
                const auto kernel = head_dim <= kCoreThreads ? decode_kernel<R, Q, 1> : decode_kernel<R, Q, 2>;
                launch(gpu, grid, dim3(kCoreThreads), S::bytes(head_dim, one_buffer), kernel, a);
            } else {
                throw Error("cuda: queries of a type that is neither f32 nor the ring's");
            }
        });
    });
    attention_combine(gpu, sums, ring.type, y);
}

}  // namespace samba::cuda
