// Attention of up to eight queries over blocks of 64 keys by FMA in f32: for any ring type and any head_dim that is a
// multiple of 8. Used by decode, and by prefill where there is no tensor-core path. A query's sums run over the keys of
// a block in order, whatever the other queries.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quotient.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

inline constexpr int kCoreQueries = 8, kCoreThreads = 128;
inline constexpr float kNoKey = -INFINITY;

// How a ring holds eight neighbouring values: `Value` in shared memory; load from and store to the ring.
template <class T>
struct PlainRing {
    using Value = T;
    static constexpr bool kPlain = true;  // the ring's bytes are the values
    static __device__ __forceinline__ void load(const char* row, int i, T* to) {
        const auto* from = reinterpret_cast<const T*>(row) + i;
        if constexpr (sizeof(T) == 4) {
            reinterpret_cast<uint4*>(to)[0] = reinterpret_cast<const uint4*>(from)[0];
            reinterpret_cast<uint4*>(to)[1] = reinterpret_cast<const uint4*>(from)[1];
        } else {
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
        }
    }
    // The eight values from i on of `from` (head_dim) as the ring would give them back; with `row`, written there.
    template <class Q>
    static __device__ __forceinline__ void store(const Q* from, int i, char* row, T* to) {
        float v[8];
        load8(from + i, v);
        store8(to, v);
        if (row != nullptr) store8(reinterpret_cast<T*>(row) + i, v);
    }
};

// Blocks of 32 values with an f16 scale, as in kernels/quant.h.
struct Q8Ring {
    using Value = half;
    static constexpr bool kPlain = false;
    static __device__ __forceinline__ half scale_of(const char* block) {
        return *reinterpret_cast<const half*>(block);  // blocks are 34 bytes: 2-byte aligned
    }
    static __device__ __forceinline__ void load(const char* row, int i, half* to) {
        const char* block = row + i / 32 * 34;
        const float d = to_float(scale_of(block));
        const auto* q = reinterpret_cast<const int8_t*>(block + 2 + i % 32);
#pragma unroll
        for (int j = 0; j < 8; j++) to[j] = from_float<half>(d * static_cast<float>(q[j]));
    }
    template <class Q>
    static __device__ __forceinline__ void store(const Q* from, int i, char* row, half* to) {
        float v[8], max = 0;
        for (int b = 0; b < 32; b += 8) {
            load8(from + i / 32 * 32 + b, v);
#pragma unroll
            for (int j = 0; j < 8; j++) max = fmaxf(max, fabsf(v[j]));
        }
        load8(from + i, v);
        const half stored = from_float<half>(fminf(max / 127.0f, 65504.0f));
        const float d = to_float(stored);
        char* block = row == nullptr ? nullptr : row + i / 32 * 34;
        if (block != nullptr && i % 32 == 0) *reinterpret_cast<half*>(block) = stored;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const float q = d > 0 ? fminf(fmaxf(rintf(v[j] / d), -127.0f), 127.0f) : 0.0f;
            to[j] = from_float<half>(d * q);
            if (block != nullptr) reinterpret_cast<int8_t*>(block + 2)[i % 32 + j] = static_cast<int8_t>(q);
        }
    }
};

// Shared memory of a block: keys and values (64, stride), queries (8, head_dim), weights p (64, 8).
template <class S>
struct AttentionShared {
    S *k, *v;
    float *q, *p, *max, *sum, *change;
    int stride;

    // one_buffer: values take the place of the keys, for want of room.
    __device__ AttentionShared(unsigned char* base, int head_dim, bool one_buffer) {
        stride = head_dim + 16 / static_cast<int>(sizeof(S));  // rows start in different banks
        k = reinterpret_cast<S*>(base);
        v = one_buffer ? k : k + kKeyBlock * stride;
        q = reinterpret_cast<float*>(v + kKeyBlock * stride);
        p = q + kCoreQueries * head_dim;
        max = p + kKeyBlock * kCoreQueries, sum = max + kCoreQueries, change = sum + kCoreQueries;
    }
    static size_t bytes(int head_dim, bool one_buffer) {
        const size_t tile = kKeyBlock * (head_dim + 16 / sizeof(S)) * sizeof(S);
        return (one_buffer ? 1 : 2) * tile + sizeof(float) * (kCoreQueries * head_dim + kKeyBlock * kCoreQueries + 24);
    }
};

// p[key][query] = scale · (q · k), in units of log2, or kNoKey where not visible(query, key).
template <class S, class Visible>
__device__ __forceinline__ void attention_scores(const AttentionShared<S>& s, int head_dim, float scale,
                                                 const Visible& visible) {
    const int key = threadIdx.x % kKeyBlock, first = threadIdx.x / kKeyBlock * 4;
    float sum[4] = {0, 0, 0, 0};
    for (int i = 0; i < head_dim; i += 8) {
        float k[8];
        load8(s.k + key * s.stride + i, k);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float q[8];
            load8(s.q + (first + j) * head_dim + i, q);
#pragma unroll
            for (int e = 0; e < 8; e++) sum[j] = fmaf(q[e], k[e], sum[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        s.p[key * kCoreQueries + first + j] = visible(first + j, key) ? sum[j] * scale : kNoKey;
    }
}

// Scores become weights relative to the running maximum; change[q] is what earlier sums are worth now.
template <class S>
__device__ __forceinline__ void attention_soften(const AttentionShared<S>& s) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int q = threadIdx.x / 32 * 2 + j;
        float* first = s.p + lane * kCoreQueries + q;
        float* second = first + 32 * kCoreQueries;
        const float old = s.max[q], max = fmaxf(old, warp_max(fmaxf(*first, *second)));
        const bool none = max == kNoKey;
        const float a = none ? 0.0f : exp2_fast(*first - max), b = none ? 0.0f : exp2_fast(*second - max);
        *first = a, *second = b;
        const float sum = warp_sum(a + b);
        __syncwarp();  // all lanes have read the maximum
        if (lane == 0) {
            const float change = none ? 0.0f : exp2_fast(old - max);
            s.change[q] = change;
            s.sum[q] = fmaf(s.sum[q], change, sum);
            s.max[q] = max;
        }
        __syncwarp();
    }
}

// acc[i][q] = acc · change[q] + sum over keys of p · v of dimension threadIdx.x + 128 i.
template <class S, int kDims>
__device__ __forceinline__ void attention_weigh(const AttentionShared<S>& s, int head_dim, float (&acc)[kDims][8]) {
#pragma unroll
    for (int i = 0; i < kDims; i++) {
#pragma unroll
        for (int q = 0; q < 8; q++) acc[i][q] *= s.change[q];
    }
#pragma unroll 4
    for (int key = 0; key < kKeyBlock; key++) {
        float p[8];
        load8(s.p + key * kCoreQueries, p);
#pragma unroll
        for (int i = 0; i < kDims; i++) {
            const int d = threadIdx.x + kCoreThreads * i;
            const float v = to_float(s.v[key * s.stride + min(d, head_dim - 1)]);
#pragma unroll
            for (int q = 0; q < 8; q++) acc[i][q] = fmaf(p[q], v, acc[i][q]);
        }
    }
}

// 64-bit division is slow, and long: kept out of the kernels' way.
static __device__ __noinline__ int ring_row_far(int64_t position, int64_t n_rows) {
    return static_cast<int>(position % n_rows);
}

inline float attention_scale(int head_dim) { return kLog2e / sqrtf(static_cast<float>(head_dim)); }

// A ring as kernels address it.
struct RingArgs {
    char *k, *v;
    int64_t slot_stride, n_rows, window, head_bytes, row_bytes;
    uint32_t rows_inverse;

    __device__ __forceinline__ int row_of(int64_t position) const {
        if (position >> 32 != 0) return ring_row_far(position, n_rows);
        return static_cast<int>(
            remainder(static_cast<uint32_t>(position), static_cast<uint32_t>(n_rows), rows_inverse));
    }
    __device__ __forceinline__ int64_t offset(int slot, int kv_head, int64_t row) const {
        return slot * slot_stride + kv_head * head_bytes + row * row_bytes;
    }
};
inline RingArgs ring_args(const Ring& r) {
    return {r.k,
            r.v,
            r.slot_stride,
            r.n_rows,
            r.window,
            static_cast<int64_t>(r.head_bytes()),
            static_cast<int64_t>(r.row_bytes()),
            long_inverse_of(static_cast<uint32_t>(r.n_rows))};
}

// Calls f with the ring's format.
template <class F>
void with_ring(DType type, F&& f) {
    switch (type) {
        case DType::kF32:
            return f(PlainRing<float>{});
        case DType::kF16:
            return f(PlainRing<half>{});
        case DType::kBF16:
            return f(PlainRing<bfloat>{});
        case DType::kQ8_0:
            return f(Q8Ring{});
        default:
            throw Error(std::string("cuda: a ring cannot have the type ") + info(type).name);
    }
}

}  // namespace samba::cuda
