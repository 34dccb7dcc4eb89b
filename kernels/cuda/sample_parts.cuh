// What sampling is made of: a block's sums and counts, the best candidates in order, bisection over all of them.
// A candidate is a number that orders by logit, then by lower id.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/sampling_tables.h"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

inline constexpr int kSampleThreads = 1024, kSampleWarps = kSampleThreads / 32;
static_assert(kSampleWarps == 32);
inline constexpr int kListed = 2 * kSampleThreads;  // candidates that are sorted at most
inline constexpr int kSureCandidates = 256;         // the list holds at least so many, if there are

struct SampleShared {
    uint64_t* list;  // (kListed)
    double* sums;    // (kListed)
    double* warps;   // (kSampleWarps)
    float* maxima;   // (kSampleWarps)
    int* counter;

    __device__ explicit SampleShared(unsigned char* base) {
        list = reinterpret_cast<uint64_t*>(base);
        sums = reinterpret_cast<double*>(list + kListed);
        warps = sums + kListed;
        maxima = reinterpret_cast<float*>(warps + kSampleWarps);
        counter = reinterpret_cast<int*>(maxima + kSampleWarps);
    }
    static constexpr size_t kBytes = kListed * 16 + kSampleWarps * 12 + 16;
};

__device__ __forceinline__ uint32_t ordered(float v) {
    const uint32_t b = __float_as_uint(v + 0.0f);  // -0 becomes 0
    return b ^ ((b >> 31) ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ uint64_t ordered_candidate(float v, int id) {
    return static_cast<uint64_t>(ordered(v)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
__device__ __forceinline__ int id_of(uint64_t candidate) {
    return static_cast<int>(0xffffffffu - static_cast<uint32_t>(candidate));
}
__device__ __forceinline__ float logit_of(uint64_t candidate) {
    const auto key = static_cast<uint32_t>(candidate >> 32);
    return __uint_as_float(key ^ ((key >> 31) ? 0x80000000u : 0xffffffffu));
}

__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

// Sum of f(i), i < n, in a fixed order.
template <class F>
__device__ double block_sum(const SampleShared& s, int n, F&& f) {
    double sum = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < n; i += kSampleThreads) sum += f(i);
    sum = warp_sum(sum);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) s.warps[threadIdx.x / 32] = sum;
    __syncthreads();
    return warp_sum(s.warps[threadIdx.x & 31]);  // there are as many warps as lanes
}

// The largest of the threads' numbers.
__device__ inline uint32_t block_max_bits(const SampleShared& s, uint32_t bits) {
    auto* warps = reinterpret_cast<uint32_t*>(s.maxima);
    bits = __reduce_max_sync(0xffffffffu, bits);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = bits;
    __syncthreads();
    return __reduce_max_sync(0xffffffffu, warps[threadIdx.x & 31]);
}

// Maximum of f(i), i < n.
template <class F>
__device__ float block_max(const SampleShared& s, int n, F&& f) {
    float max = -INFINITY;
#pragma unroll 8
    for (int i = threadIdx.x; i < n; i += kSampleThreads) max = fmaxf(max, f(i));
    max = warp_max(max);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) s.maxima[threadIdx.x / 32] = max;
    __syncthreads();
    return warp_max(s.maxima[threadIdx.x & 31]);
}

// How many i < n, n at most kListed, have f(i).
template <class F>
__device__ int count_if(int n, F&& f) {
    const int a = threadIdx.x, b = threadIdx.x + kSampleThreads;
    return __syncthreads_count(a < n && f(a)) + __syncthreads_count(b < n && f(b));
}

// sums[i] = f(0) + … + f(i) for i < kListed.
template <class F>
__device__ void running_sums(const SampleShared& s, F&& f) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, i = 2 * threadIdx.x;
    const double a = f(i), b = f(i + 1);
    double sum = a + b;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const double before = __shfl_up_sync(0xffffffffu, sum, d);
        if (lane >= d) sum += before;
    }
    __syncthreads();
    if (lane == 31) s.warps[warp] = sum;
    __syncthreads();
    const double base = warp_sum(lane < warp ? s.warps[lane] : 0.0);
    s.sums[i] = base + (sum - b);
    s.sums[i + 1] = base + sum;
    __syncthreads();
}

// Sorts list[0 … n), of different candidates, best first; n at most kFewListed: more are sorted faster by exchanges.
inline constexpr int kFewListed = 256;
__device__ inline void sort_by_rank(const SampleShared& s, int n) {
    __syncthreads();
    const int i = threadIdx.x;
    const uint64_t own = i < n ? s.list[i] : 0;
    int rank = 0;
    if (i < n) {
#pragma unroll 8
        for (int j = 0; j < n; j++) rank += s.list[j] > own;
    }
    __syncthreads();
    if (i < n) s.list[rank] = own;
    __syncthreads();
}

// Sorts list[0 … n) with n a power of two, best first.
__device__ inline void sort_list(const SampleShared& s, int n) {
    for (int size = 2; size <= n; size *= 2) {
        for (int d = size / 2; d > 0; d /= 2) {
            __syncthreads();
            for (int i = threadIdx.x; i < n / 2; i += kSampleThreads) {
                const int low = i / d * 2 * d + i % d, high = low + d;
                const bool down = (low & size) == 0;
                const uint64_t a = s.list[low], b = s.list[high];
                if ((a < b) == down) s.list[low] = b, s.list[high] = a;
            }
        }
    }
    __syncthreads();
}

// f(x[i], i) for a thread's part of x, with several loads in flight.
template <class F>
__device__ __forceinline__ void for_logits(const float* x, int vocab, F&& f) {
    constexpr int kAhead = 16;
    for (int i = threadIdx.x; i < vocab; i += kAhead * kSampleThreads) {
        float v[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int at = i + k * kSampleThreads;
            v[k] = at < vocab ? x[at] : -INFINITY;
        }
#pragma unroll
        for (int k = 0; k < kAhead; k++) f(v[k], i + k * kSampleThreads);
    }
}

struct Best {
    int n = 0;              // candidates in the list, in order
    bool is_all = false;    // there are no others
    bool overflow = false;  // the list had no room: only its first is right
};

// The largest of the threads' candidates becomes the list.
__device__ inline void list_largest(const SampleShared& s, uint64_t own) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) own = max(own, __shfl_xor_sync(0xffffffffu, own, d));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) s.list[1 + threadIdx.x / 32] = own;
    __syncthreads();
    if (threadIdx.x < 32) {
        own = s.list[1 + threadIdx.x];
#pragma unroll
        for (int d = 16; d > 0; d /= 2) own = max(own, __shfl_xor_sync(0xffffffffu, own, d));
        if (threadIdx.x == 0) s.list[0] = own;
    }
    __syncthreads();
}

// Puts the `wanted` best (or all, if there are fewer) into the list, and a few more. own: the thread's best candidate,
// 0 for none; n_finite: candidates of all threads; each(bound, f): calls f(logit, id) for those of the thread's logits
// that may reach the bound. The bound is the wanted-th largest of the threads' own: at least so many candidates reach
// it. -inf is no candidate.
template <class Each>
__device__ __forceinline__ Best fill_list(const SampleShared& s, uint64_t own, int n_finite, int wanted, Each&& each) {
    Best best;
    if (wanted == 1) {
        list_largest(s, own);
        best.n = s.list[0] != 0;
        best.is_all = n_finite == best.n;
        return best;
    }
    // Bits that the largest and the smallest share need no search; it ends where few more than wanted are left.
    constexpr int kFewMore = 32;
    const auto key = static_cast<uint32_t>(own >> 32);
    const uint32_t different = block_max_bits(s, key) ^ ~block_max_bits(s, ~key);
    const int bits = 32 - __clz(different);
    uint32_t bound = bits < 32 ? key >> bits << bits : 0;
    for (int bit = bits - 1; bit >= 0; bit--) {
        const uint32_t higher = bound | 1u << bit;
        const int n = __syncthreads_count(key >= higher), enough = min(wanted, kSampleThreads);
        if (n < enough) continue;
        bound = higher;
        if (n <= enough + kFewMore) break;
    }
    if (threadIdx.x == 0) *s.counter = 0;
    __syncthreads();
    each(bound, [&](float v, int i) {
        if (v == -INFINITY || ordered(v) < bound) return;
        const int at = atomicAdd(s.counter, 1);
        if (at < kListed) s.list[at] = ordered_candidate(v, i);
    });
    __syncthreads();
    best.n = *s.counter;
    best.is_all = n_finite == best.n;
    best.overflow = best.n > kListed;
    if (best.overflow) {  // the best of all, at least
        best.n = 1;
        list_largest(s, own);
        return best;
    }
    if (best.n <= kFewListed) {
        sort_by_rank(s, best.n);
        return best;
    }
    int size = 2 * kFewListed;
    while (size < best.n) size *= 2;
    for (int i = threadIdx.x; i < size; i += kSampleThreads) {
        if (i >= best.n) s.list[i] = 0;
    }
    sort_list(s, size);
    return best;
}

// The same of a row of logits alone.
__device__ inline Best select_best(const SampleShared& s, const float* x, int vocab, int wanted) {
    uint64_t own = 0;
    int n_finite = 0;
    for_logits(x, vocab, [&](float v, int i) {
        if (v == -INFINITY) return;
        own = max(own, ordered_candidate(v, i));
        n_finite++;
    });
    n_finite = static_cast<int>(block_sum(s, kSampleThreads, [&](int) { return static_cast<double>(n_finite); }));
    return fill_list(s, own, n_finite, wanted, [&](uint32_t, auto&& f) { for_logits(x, vocab, f); });
}

// Sum of weight(logit) over the candidates from `least` on.
template <class F>
__device__ double mass_from(const SampleShared& s, const float* x, int vocab, uint64_t least, F&& weight) {
    return block_sum(s, vocab, [&](int i) { return ordered_candidate(x[i], i) >= least ? weight(x[i]) : 0.0; });
}

// The greatest candidate number from `least` on whose mass from there up reaches (strictly: exceeds) the target.
template <class F>
__device__ uint64_t bisect(const SampleShared& s, const float* x, int vocab, uint64_t least, double target,
                           bool strictly, F&& weight) {
    uint64_t at = 0;
    for (int bit = 63; bit >= 0; bit--) {
        const uint64_t higher = at | uint64_t{1} << bit;
        const double mass = mass_from(s, x, vocab, max(least, higher), weight);
        if (strictly ? mass > target : mass >= target) at = higher;
    }
    return max(at, least);
}

}  // namespace samba::cuda
