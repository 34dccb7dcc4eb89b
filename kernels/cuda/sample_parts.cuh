// What sampling is made of. A block has a row: it finds a bound that about as many logits reach as are wanted from the
// greatest of each group of them, lists what reaches it, and sorts that. It runs once in a step, so that most of its
// instructions come from far away: few of them count for more than few repetitions. A candidate is a number that orders
// by logit, then by lower id.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sampling_tables.h"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {

inline constexpr int kSampleThreads = 512, kSampleWarps = kSampleThreads / 32;
static_assert(kSampleThreads == kGroups && kSampleWarps <= 32);
inline constexpr int kListed = 512;          // candidates that are sorted at most
inline constexpr int kSureCandidates = 256;  // the list holds at least so many, if there are

// Of a whole row: sums relative to the maxima, of the logits as they came (raw) and as they are drawn from.
struct Totals {
    float raw_max, log_raw_sum, sum;
    int n_finite;
};

struct SampleShared {
    double sums[kSampleWarps];
    __align__(16) uint32_t keys[kGroups];              // the greatest of each group, or of each four
    uint32_t most[kSampleWarps], least[kSampleWarps];  // of the warps
    int n_groups, groups[kGroups];                     // whose greatest logit reaches the bound
    int n_listed;
    uint64_t list[kListed], sorted[kListed];
    float plain[kListed], drawn[kListed];  // weights of `sorted`, by which top-p cuts and by which is drawn
    Totals totals;
    int place;  // of what is drawn
};

__device__ __forceinline__ uint32_t ordered(float v) {
    const uint32_t b = __float_as_uint(v + 0.0f);  // -0 becomes 0
    return b ^ ((b >> 31) ? 0xffffffffu : 0x80000000u);
}
__device__ __forceinline__ float of_ordered(uint32_t key) {
    return __uint_as_float(key ^ ((key >> 31) ? 0x80000000u : 0xffffffffu));
}
__device__ __forceinline__ uint64_t ordered_candidate(float v, int id) {
    return static_cast<uint64_t>(ordered(v)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}
__device__ __forceinline__ int id_of(uint64_t candidate) {
    return static_cast<int>(0xffffffffu - static_cast<uint32_t>(candidate));
}
__device__ __forceinline__ float logit_of(uint64_t candidate) {
    return of_ordered(static_cast<uint32_t>(candidate >> 32));
}
inline constexpr uint32_t kLeastKey = 0x00800000u;  // -inf, which is no candidate, is below
inline constexpr uint64_t kLeastCandidate = static_cast<uint64_t>(kLeastKey) << 32;

// exp(x) to some 2^-21, as the sums of the whole row have it.
__device__ __forceinline__ float weight_of(float x) { return exp2_fast(x * kLog2e); }

// What logits are taken relative to, their maximum, if there is one.
__device__ __forceinline__ float relative_to(float max) { return max == -INFINITY ? 0.0f : max; }

// A row of logits.
struct Logits {
    const float* x;
    int vocab;
};

// Sum of f(logit, id) over the row, in a fixed order.
template <class F>
__device__ double row_sum(SampleShared& s, const Logits& row, F&& f) {
    double sum = 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < row.vocab; i += kSampleThreads) sum += f(row.x[i], i);
    sum = warp_sum(sum);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) s.sums[threadIdx.x / 32] = sum;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    return warp_sum(lane < kSampleWarps ? s.sums[lane] : 0.0);
}

// The greatest candidate from `least` on whose mass from there up reaches (strictly: exceeds) the target; a candidate's
// weight is weight(logit).
template <class F>
__device__ uint64_t bisect(SampleShared& s, const Logits& row, uint64_t least, double target, bool strictly,
                           F&& weight) {
    uint64_t at = 0;
#pragma unroll 1
    for (int bit = 63; bit >= 0; bit--) {
        const uint64_t higher = at | uint64_t{1} << bit, from = max(least, higher);
        const double mass =
            row_sum(s, row, [&](float v, int id) { return ordered_candidate(v, id) >= from ? weight(v) : 0.0f; });
        if (strictly ? mass > target : mass >= target) at = higher;
    }
    return max(at, least);
}

// Before a list is filled, by all threads; they must meet before it is.
__device__ __forceinline__ void clear_list(SampleShared& s) {
    if (threadIdx.x == 0) s.n_groups = s.n_listed = 0;
}

// A key that `wanted` of the groups' keys reach, and few more (0: all do); most: the greatest. Of few wanted, these are
// the greatest of four keys each, which hardly ever share one. A key is one of the wanted if fewer are greater, and the
// bound is the least of those; threads that have the same one share that count.
__device__ __forceinline__ uint32_t bound_of(SampleShared& s, uint32_t key, int wanted, uint32_t& most) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const int bits = wanted <= kGroups / 8 ? 2 : 0, sharers = 1 << bits, n = kSampleThreads >> bits;
    const int part = lane & (sharers - 1);
    for (int d = 1; d < sharers; d *= 2) key = max(key, __shfl_xor_sync(0xffffffffu, key, d));
    most = __reduce_max_sync(0xffffffffu, key);
    if (part == 0) s.keys[threadIdx.x >> bits] = key;
    if (lane == 0) s.most[warp] = most;
    __syncthreads();
    int greater = 0;
#pragma unroll 1
    for (int i = 4 * part; i < n; i += 4 * sharers) {
        const uint4 other = *reinterpret_cast<const uint4*>(s.keys + i);
        greater += (other.x > key) + (other.y > key) + (other.z > key) + (other.w > key);
    }
    for (int d = 1; d < sharers; d *= 2) greater += __shfl_xor_sync(0xffffffffu, greater, d);
    const uint32_t least = __reduce_min_sync(0xffffffffu, greater < wanted ? key : 0xffffffffu);
    if (lane == 0) s.least[warp] = least;
    __syncthreads();
    most = __reduce_max_sync(0xffffffffu, s.most[lane % kSampleWarps]);
    return __reduce_min_sync(0xffffffffu, s.least[lane % kSampleWarps]);
}

__device__ __forceinline__ void add_to_list(SampleShared& s, uint64_t candidate) {
    const int at = atomicAdd(&s.n_listed, 1);
    if (at < kListed) s.list[at] = candidate;
}

// Fills the list where more reach the bound than it has room for: ties are cut, too.
__device__ __noinline__ void list_exactly(SampleShared& s, const Logits& row, int wanted) {
    const uint64_t bound = bisect(s, row, kLeastCandidate, wanted, false, [](float) { return 1.0f; });
    if (threadIdx.x == 0) s.n_listed = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < row.vocab; i += kSampleThreads) {
        const uint64_t candidate = ordered_candidate(row.x[i], i);
        if (candidate >= bound) add_to_list(s, candidate);
    }
    __syncthreads();
}

// Puts the `wanted` best (or all, if there are fewer) and a few more into the list, which has been cleared. key: of the
// greatest logit of the thread's group (of 1 << group_bits), 0 for none. Returns the greatest.
__device__ __forceinline__ uint32_t list_best(SampleShared& s, const Logits& row, int group_bits, uint32_t key,
                                              int wanted) {
    uint32_t most;
    const uint32_t bound_key = max(bound_of(s, key, wanted, most), kLeastKey);
    const float bound = of_ordered(bound_key);
    if (key >= bound_key) s.groups[atomicAdd(&s.n_groups, 1)] = threadIdx.x << group_bits;
    __syncthreads();
    const int n = s.n_groups << group_bits, in_group = (1 << group_bits) - 1;
    const auto id_at = [&](int i) { return s.groups[i >> group_bits] + (i & in_group); };
    constexpr int kAhead = 8;
#pragma unroll 1
    for (int first = threadIdx.x; first < n; first += kAhead * kSampleThreads) {
        float v[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int i = first + k * kSampleThreads, id = i < n ? id_at(i) : row.vocab;
            v[k] = id < row.vocab ? row.x[id] : -INFINITY;
        }
        unsigned listed = 0;
#pragma unroll
        for (int k = 0; k < kAhead; k++) listed |= (v[k] >= bound ? 1u : 0u) << k;
#pragma unroll 1
        for (; listed != 0; listed &= listed - 1) {
            const int at = __ffs(listed) - 1;
            float logit = v[0];
#pragma unroll
            for (int k = 1; k < kAhead; k++) logit = k == at ? v[k] : logit;
            add_to_list(s, ordered_candidate(logit, id_at(first + at * kSampleThreads)));
        }
    }
    __syncthreads();
    if (s.n_listed > kListed) list_exactly(s, row, wanted);
    return most;
}

// All warps but the last put the list in order; what that one does meanwhile is there for all after a barrier of all.
inline constexpr int kSorters = kSampleThreads - 32, kPerCandidate = 8;
__device__ __forceinline__ bool sorts() { return threadIdx.x < kSorters; }
__device__ __forceinline__ void sorters_meet() { asm volatile("bar.sync 1, %0;" ::"n"(kSorters) : "memory"); }

// list[0 … n), of different candidates, best first, and what each weighs against the best at temperature 1 and at that
// of `scale` = 1 / temperature. A candidate's place is the number of better ones.
__device__ __forceinline__ void sort_list(SampleShared& s, int n, float best, float scale) {
    const int part = threadIdx.x % kPerCandidate;
#pragma unroll 1
    for (int first = 0; first < n; first += kSorters / kPerCandidate) {
        const int i = first + threadIdx.x / kPerCandidate;
        const uint64_t own = i < n ? s.list[i] : 0;
        int place = 0;
#pragma unroll 1
        for (int j = part; j < n; j += 2 * kPerCandidate) {
            const int next = j + kPerCandidate;
            place += (s.list[j] > own) + (next < n && s.list[min(next, kListed - 1)] > own);
        }
#pragma unroll
        for (int d = 1; d < kPerCandidate; d *= 2) place += __shfl_xor_sync(0xffffffffu, place, d);
        if (i >= n || part > 0) continue;
        const float from_best = logit_of(own) - best;
        s.sorted[place] = own, s.plain[place] = weight_of(from_best), s.drawn[place] = weight_of(from_best * scale);
    }
    sorters_meet();
}

}  // namespace samba::cuda
