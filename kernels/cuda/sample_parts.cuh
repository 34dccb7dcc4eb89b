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
    uint64_t* list;         // (kListed)
    double *plain, *drawn;  // (kListed) each: running sums of weights, by which top-p cuts and by which is drawn
    double* warps;          // (kSampleWarps)
    int* counters;          // (2): candidates and chunks listed
    uint32_t *least, *most, *bound;  // (1), (1), (3): bound_of's
    int* bins;                       // (kBins), where `plain` will be
    int* chunks;                     // (kListedChunks), where `drawn` will be

    static constexpr int kBins = kSampleThreads, kListedChunks = 2 * kListed;

    __device__ explicit SampleShared(unsigned char* base) {
        list = reinterpret_cast<uint64_t*>(base);
        plain = reinterpret_cast<double*>(list + kListed), drawn = plain + kListed;
        warps = drawn + kListed;
        counters = reinterpret_cast<int*>(warps + kSampleWarps);
        least = reinterpret_cast<uint32_t*>(counters + 2), most = least + 1, bound = least + 2;
        bins = reinterpret_cast<int*>(plain);
        chunks = reinterpret_cast<int*>(drawn);
    }
    // Before a list is filled, by all threads; they must meet before it is.
    __device__ __forceinline__ void clear() const {
        bins[threadIdx.x] = 0;
        if (threadIdx.x < 2) counters[threadIdx.x] = 0;
        if (threadIdx.x == 0) *least = 0xffffffffu, *most = 0;
    }
    static constexpr size_t kBytes = kListed * 24 + kSampleWarps * 8 + 32;
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

// Maximum of f(i), i < n.
template <class F>
__device__ float block_max(const SampleShared& s, int n, F&& f) {
    float max = -INFINITY;
#pragma unroll 8
    for (int i = threadIdx.x; i < n; i += kSampleThreads) max = fmaxf(max, f(i));
    max = warp_max(max);
    __syncthreads();
    auto* warps = reinterpret_cast<float*>(s.warps);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x / 32] = max;
    __syncthreads();
    return warp_max(warps[threadIdx.x & 31]);
}

// How many i < n have f(i); of a warp.
template <class F>
__device__ __forceinline__ int count_if(int n, F&& f) {
    int count = 0;
    for (int first = 0; first < n; first += 32) {
        const int i = first + static_cast<int>(threadIdx.x & 31);
        count += __popc(__ballot_sync(0xffffffffu, i < n && f(i)));
    }
    return count;
}

// sums[i] = f(0) + … + f(i) for i < n, in a fixed order; by a warp.
template <class F>
__device__ __forceinline__ void running_sums(double* sums, int n, F&& f) {
    const int lane = threadIdx.x & 31;
    double base = 0;
#pragma unroll 1
    for (int i = lane; i - lane < n; i += 32) {
        double sum = f(i);
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            const double before = __shfl_up_sync(0xffffffffu, sum, d);
            if (lane >= d) sum += before;
        }
        if (i < n) sums[i] = base + sum;
        base += __shfl_sync(0xffffffffu, sum, 31);
    }
}

// Sorts list[0 … n), of different candidates, best first; n at most kFewListed: more are sorted faster by exchanges.
// A candidate's place is the number of better ones, which a warp counts.
inline constexpr int kFewListed = 256;
__device__ inline void sort_by_rank(const SampleShared& s, int n) {
    static_assert(kFewListed <= 32 * kSampleWarps);
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    uint64_t own = 0;
    int place = 0;
#pragma unroll 1
    for (int k = 0; warp + 32 * k < n; k++) {
        const uint64_t candidate = s.list[warp + 32 * k];
        int better = 0;
#pragma unroll 1
        for (int j = lane; j < n; j += 32) better += s.list[j] > candidate;
        better = __reduce_add_sync(0xffffffffu, better);
        if (lane == k) own = candidate, place = better;
    }
    __syncthreads();
    if (own != 0) s.list[place] = own;
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
    bool overflow = false;  // the list had no room: only its first is right
};

// The largest of the threads' candidates becomes the list.
__device__ inline Best list_largest(const SampleShared& s, uint64_t own) {
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
    return {s.list[0] != 0, false};
}

// v of this lane and of those after it.
__device__ __forceinline__ int sum_from_lane(int v) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const int after = __shfl_down_sync(0xffffffffu, v, d);
        if (lane + d < 32) v += after;
    }
    return v;
}

// A number that `wanted` of the threads' keys reach, and few more (a key of 0 is none; 0 where there are fewer). Keys
// are counted by their first digit after what they all share; where one digit holds too many, these by their next one.
// One warp looks at the counts: done by all of them it would take longer than a barrier.
__device__ inline uint32_t bound_of(const SampleShared& s, uint32_t key, int wanted) {
    constexpr int kFewMore = 32, kDigit = 10;
    static_assert(SampleShared::kBins == 1 << kDigit && SampleShared::kBins == 32 * 32);
    const int lane = threadIdx.x & 31, enough = min(wanted, kSampleThreads);
    const uint32_t least = __reduce_min_sync(0xffffffffu, key == 0 ? 0xffffffffu : key);
    const uint32_t most = __reduce_max_sync(0xffffffffu, key);
    if (lane == 0) atomicMin(s.least, least), atomicMax(s.most, most);
    __syncthreads();
    int bits = 32 - __clz(*s.least ^ *s.most);  // that are not the same in all keys
    uint32_t bound = bits < 32 ? *s.most >> bits << bits : 0;
    int beyond = 0;  // keys of greater digits
#pragma unroll 1
    for (;;) {
        // A lane of the looking warp has 32 digits that follow each other, 32 words apart.
        const int shift = max(bits - kDigit, 0);
        const uint32_t rest = key - bound;
        if (key >= bound && key != 0 && static_cast<uint64_t>(rest) >> bits == 0) {
            const uint32_t digit = rest >> shift;
            atomicAdd(&s.bins[digit % 32 * 32 + digit / 32], 1);
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            int sum = 0;
#pragma unroll 8
            for (int j = 0; j < 32; j++) sum += s.bins[32 * j + lane];
            // From the greatest digits down, the lane in whose digits enough is reached, then the digit.
            const int from_lane = beyond + sum_from_lane(sum);
            const unsigned lanes = __ballot_sync(0xffffffffu, from_lane >= enough);
            const int l = 31 - __clz(lanes | 1), after = __shfl_sync(0xffffffffu, from_lane - sum, l);
            const int here = s.bins[32 * lane + l], from_digit = after + sum_from_lane(here);
            const int d = 31 - __clz(__ballot_sync(0xffffffffu, from_digit >= enough) | 1);
            if (lane == d) {
                s.bound[0] = lanes == 0 ? 0 : bound + (static_cast<uint32_t>(32 * l + d) << shift);
                s.bound[1] = lanes != 0 && from_digit > enough + kFewMore && shift > 0;  // too many
                s.bound[2] = from_digit - here;
            }
        }
        __syncthreads();
        bound = s.bound[0];
        if (s.bound[1] == 0) return bound;
        beyond = static_cast<int>(s.bound[2]), bits = shift;
        s.bins[threadIdx.x] = 0;
        __syncthreads();
    }
}

// Puts the `wanted` best (or all, if there are fewer) into the list, and a few more. own: the thread's best candidate,
// 0 for none; each(bound, f): calls f(logit, id) for those of the thread's logits that may reach the bound. The bound
// is the wanted-th largest of the threads' own, or little less: at least so many candidates reach it. -inf is no
// candidate. The shared memory has been cleared.
template <class Each>
__device__ __forceinline__ Best fill_list(const SampleShared& s, uint64_t own, int wanted, Each&& each) {
    const uint32_t bound = bound_of(s, static_cast<uint32_t>(own >> 32), wanted);
    each(bound, [&](float v, int i) {
        if (v == -INFINITY || ordered(v) < bound) return;
        const int at = atomicAdd(&s.counters[0], 1);
        if (at < kListed) s.list[at] = ordered_candidate(v, i);
    });
    __syncthreads();
    const int n = s.counters[0];
    if (n > kListed) {  // the best of all, at least
        list_largest(s, own);
        return {1, true};
    }
    if (n <= kFewListed) {
        sort_by_rank(s, n);
        return {n, false};
    }
    int size = 2 * kFewListed;
    while (size < n) size *= 2;
    for (int i = threadIdx.x; i < size; i += kSampleThreads) {
        if (i >= n) s.list[i] = 0;
    }
    sort_list(s, size);
    return {n, false};
}

// The same of a row of logits alone.
__device__ inline Best select_best(const SampleShared& s, const float* x, int vocab, int wanted) {
    s.clear();
    __syncthreads();
    uint64_t own = 0;
    for_logits(x, vocab, [&](float v, int i) {
        if (v != -INFINITY) own = max(own, ordered_candidate(v, i));
    });
    return fill_list(s, own, wanted, [&](uint32_t, auto&& f) { for_logits(x, vocab, f); });
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
