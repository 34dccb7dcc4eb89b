// Decode attention on tensor cores, for 16-bit rings and heads of 64, 128 or 256 values: what a block brings to shared
// memory, before and behind the kernel's wait, and how its warps weigh keys and values. The kernel:
// attention_decode.cu.
#pragma once
#include "kernels/cuda/attention_blocks.cuh"
#include "kernels/cuda/early_run.cuh"

namespace samba::cuda::decode {

// Sixteen queries, a block of keys and values in shared memory, and what the warps tell each other. A warp has 16 of
// the keys. The weights that they make take the keys' place: so three blocks of heads of 128 fit beside one another.
template <class S, int kDim>
struct TensorShared {
    static constexpr int kQueries = 16, kKeys = tensor_keys(kDim), kWarps = kKeys / 16, kThreads = 32 * kWarps;
    static constexpr int kStride = kDim + 8, kWeights = kKeys + 8;  // rows start in different banks
    S k[kKeys * kStride], v[kKeys * kStride], q[kQueries * kStride];
    float max[kWarps][kQueries], sum[kWarps][kQueries];
    uint8_t seen[kThreads];  // see SeenKeys

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

// Rows of keys and of values from the ring, but for the run's own rows; zeros where nobody sees them. kOwnToo: also
// those, from the step.
template <class R, int kDim, bool kOwnToo = false, class S = typename R::Value>
__device__ __forceinline__ void load_ring(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                          int first, TensorShared<S, kDim>& s) {
    constexpr int kParts = kDim / 8, kRowStep = TensorShared<S, kDim>::kThreads / kParts;
    const int column = threadIdx.x % kParts * 8;
    int64_t at = a.ring.offset(run.slot, kv_head, first + threadIdx.x / kParts);
#pragma unroll 2
    for (int row = threadIdx.x / kParts; row < s.kKeys; row += kRowStep, at += kRowStep * a.ring.row_bytes) {
        const int age = place.age(first + row), to = row * s.kStride + column;
        if (age >= 0 && age < place.run_rows) {
            if constexpr (kOwnToo) {
                const int64_t own = (run.first_row + place.run_rows - 1 - age) * a.stride + kv_head * kDim + column;
                cp_async<16>(s.k + to, static_cast<const S*>(a.k) + own);
                cp_async<16>(s.v + to, static_cast<const S*>(a.v) + own);
            }
            continue;
        }
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

// The i-th eight values of some queries, of a run whose first row this is: where they are, and where they come to.
template <int kDim, class S>
struct QueryPiece {
    static constexpr int kAll = TensorShared<S, kDim>::kQueries * kDim / 8;
    const S* from;
    S* to;

    __device__ __forceinline__ QueryPiece(const Args& a, int first_row, int kv_head, int first, int n_queries,
                                          TensorShared<S, kDim>& s, int i) {
        const int q = i / (kDim / 8), d = i % (kDim / 8) * 8, query = min(first + q, n_queries - 1);
        const int row = a.row_of_query(query), head = kv_head * a.group + query - row * a.group;
        from = static_cast<const S*>(a.q) + (first_row + row) * a.stride + head * kDim + d;
        to = s.q + q * s.kStride + d;
    }
    __device__ __forceinline__ void copy() const { cp_async<16>(to, from); }
};
// Those from the i-th on, i: of the thread.
template <int kDim, class S>
__device__ __forceinline__ void load_queries(const Args& a, int first_row, int kv_head, int first, int n_queries,
                                             TensorShared<S, kDim>& s, int i) {
#pragma unroll 1
    for (; i < QueryPiece<kDim, S>::kAll; i += s.kThreads) {
        QueryPiece<kDim, S>(a, first_row, kv_head, first, n_queries, s, i).copy();
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

// The same of a single run of a few rows, eight values a thread: read before it is known which rows of the ring they
// become. Where they are is known before the kernel's wait.
template <int kDim, class S>
struct OwnPart {
    static constexpr int kParts = kDim / 8;
    static constexpr int kMostRows = TensorShared<S, kDim>::kThreads / (kParts * 2);
    bool there, values;
    int age, column;
    const S* from;
    S* to;
    char* ring;  // null: another block has it
    uint4 v;

    __device__ __forceinline__ OwnPart(const Args& a, int kv_head)
        : values(threadIdx.x / kParts & 1), age(threadIdx.x / (kParts * 2)), column(threadIdx.x % kParts * 8) {
        there = age < a.n_rows;
        const int64_t row = a.first_row + a.n_rows - 1 - (there ? age : 0);
        from = static_cast<const S*>(values ? a.v : a.k) + kv_head * kDim + row * a.stride + column;
    }
    __device__ __forceinline__ void load() { v = load_here(from, there); }
    __device__ __forceinline__ void find(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                         int first, TensorShared<S, kDim>& s) {
        const int ring_at = place.row_of(age), row = ring_at - first;
        to = (values ? s.v : s.k) + row * s.kStride + column;
        ring = (values ? a.ring.v : a.ring.k) + a.ring.offset(run.slot, kv_head, ring_at) + column * sizeof(S);
        if (!there || row < 0 || row >= s.kKeys) ring = nullptr;
    }
    __device__ __forceinline__ void put() const {
        if (ring == nullptr) return;
        *reinterpret_cast<uint4*>(to) = v;
        *reinterpret_cast<uint4*>(ring) = v;
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

// Which ages a lane's two queries see, g and g + 8.
struct SeenAges {
    int least_age[2];
    uint32_t n_ages[2];

    __device__ __forceinline__ SeenAges(const Args& a, const Place& place, int first, int n_queries) {
        const int g = (threadIdx.x & 31) / 4;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            least_age[r] = place.run_rows - 1 - a.row_of_query(min(first + g + 8 * r, n_queries - 1));
            n_ages[r] = static_cast<uint32_t>(min(place.window, place.last - least_age[r] + 1));
        }
    }
};

// Which of a lane's keys its two queries see: a bit for key j and query r.
struct SeenKeys {
    uint32_t bits = 0;

    __device__ __forceinline__ SeenKeys(const Place& place, const SeenAges& ages, int first) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = first + threadIdx.x / 32 * 16 + j / 2 * 8 + (threadIdx.x & 3) * 2 + (j & 1);
            const int back = place.newest - row, age = back < 0 ? back + place.n_rows : back;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const bool seen = row < place.n_rows && static_cast<uint32_t>(age - ages.least_age[r]) < ages.n_ages[r];
                bits |= static_cast<uint32_t>(seen) << (2 * j + r);
            }
        }
    }
    __device__ __forceinline__ explicit SeenKeys(uint8_t kept) : bits(kept) {}
    __device__ __forceinline__ bool operator()(int j, int r) const { return bits >> (2 * j + r) & 1; }
};

// Of both queries.
struct Softmax {
    float max[2] = {kNoKey, kNoKey}, sum[2] = {0, 0};
};

// The weights of a warp's 16 keys, relative to the maximum over all keys so far; change: what earlier sums are worth.
template <class S, int kDim>
__device__ __forceinline__ void weigh_keys(const Args& a, const SeenKeys& seen, TensorShared<S, kDim>& s,
                                           Softmax& softmax, float (&change)[2]) {
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
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float& score = c[j / 2][2 * r + (j & 1)];
            score = seen(j, r) ? score * a.scale : kNoKey;
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
        float now = softmax.max[r];
#pragma unroll
        for (int w = 0; w < s.kWarps; w++) now = fmaxf(now, s.max[w][q]);
        const float base = now == kNoKey ? 0.0f : now;  // without a key all weights are 0
        change[r] = exp2_fast(softmax.max[r] - base);
        softmax.max[r] = now;
        float total = 0;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const float x = exp2_fast(c[n][2 * r] - base), y = exp2_fast(c[n][2 * r + 1] - base);
            total += x + y;
            *reinterpret_cast<uint32_t*>(s.weights() + q * s.kWeights + own + n * 8 + lane % 4 * 2) = pack(S(), x, y);
        }
        softmax.sum[r] = fmaf(softmax.sum[r], change[r], total);
    }
}

// The block's sums of 16 queries or fewer, from `chunk` on, to where attention_combine.cu finds them.
template <class S, int kDim, int kTiles>
__device__ __forceinline__ void put_sums(const Args& a, const DeviceRun& run, int kv_head, int chunk, int n_queries,
                                         TensorShared<S, kDim>& s, Softmax& softmax, int own,
                                         const float (&acc)[kTiles][4]) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        softmax.sum[r] += __shfl_xor_sync(0xffffffffu, softmax.sum[r], 1);
        softmax.sum[r] += __shfl_xor_sync(0xffffffffu, softmax.sum[r], 2);
        if (lane % 4 == 0) s.sum[warp][lane / 4 + 8 * r] = softmax.sum[r];
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
            a.stats[at] = make_float2(softmax.max[r], sum);
        }
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

}  // namespace samba::cuda::decode
