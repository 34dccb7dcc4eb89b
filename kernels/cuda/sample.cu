// Draws tokens by the law of kernels/sampling.h, without sorting the vocabulary. A first kernel looks at all logits, in
// parts: it makes those to draw from (bias, penalties), their sums, and the best of every few of them. A second one, a
// block a row, cuts out the best candidates with a bound that at least K logits reach, sorts them and draws. Where that
// list does not hold all that may be drawn, the thresholds are found by bisection over all logits.
#include "kernels/cuda/early_run.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sample_parts.cuh"
#include "kernels/philox.h"

namespace samba::cuda {
namespace {

struct Args {
    Tables tables;
    SamplingTables sampling;
    WantedRows wanted;
    const float* logits;
    int64_t stride;
    int first, vocab, n_parts;
};

// A row to draw: whose it is, and whether its logits change before.
struct Row {
    DeviceRun run;
    SlotSampling p;
    int64_t position;  // of the token to draw
    int n_recent;      // tokens that penalties look at
    bool changed;

    __device__ __forceinline__ Row(const Args& a, int row, const DeviceRun& run_)
        : run(run_), p(a.sampling.slots[run.slot]), position(run.position + a.wanted.row[row] + 1) {
        const bool penalties = p.repeat_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
        const int64_t known = position - a.tables.history_start[run.slot];
        n_recent = penalties ? static_cast<int>(max(int64_t{0}, min(known, static_cast<int64_t>(p.repeat_last_n)))) : 0;
        changed = p.has_bias || n_recent > 0;
    }
};

// A row as it is assumed to be before the kernel's wait (early_run.cuh): what follows from its run does not change
// during a step. After the wait, and behind what is asked for then, the run is looked up again.
struct EarlyRow {
    const DeviceRun* table;
    Row row;

    __device__ __forceinline__ EarlyRow(const Args& a, int i)
        : table(a.tables.now + a.wanted.run[i]), row(a, i, load_run(table)) {}
    __device__ __forceinline__ DeviceRun look() const { return load_run(table); }
    __device__ __forceinline__ void check(const Args& a, int i, const DeviceRun& run) {
        if (!same_place(run, row.run)) row = Row(a, i, run);
    }
};

// x + bias, then the penalties of the recent tokens, for the part's logits (first … end); by all threads of its block.
__device__ void change_logits(const Args& a, const Row& row, const float* raw, float* x, int32_t* counts, int first,
                              int end) {
    const float* bias = a.sampling.bias + static_cast<int64_t>(row.run.slot) * a.vocab;
    for (int i = first + threadIdx.x; i < end; i += kPartThreads) x[i] = row.p.has_bias ? raw[i] + bias[i] : raw[i];
    const int32_t* history = a.tables.history + row.run.slot * kHistory;
    const auto token_at = [&](int i) {
        const int32_t id = history[(row.position - 1 - i) % kHistory];
        return id >= first && id < end ? id : -1;
    };
    for (int i = threadIdx.x; i < row.n_recent; i += kPartThreads) {
        const int32_t id = token_at(i);
        if (id >= 0) atomicAdd(&counts[id], 1);
    }
    __syncthreads();
    const SlotSampling& p = row.p;
    for (int i = threadIdx.x; i < row.n_recent; i += kPartThreads) {
        const int32_t id = token_at(i);
        const int count = id >= 0 ? atomicExch(&counts[id], 0) : 0;
        if (count == 0) continue;  // another thread has done this token
        const double v = x[id], scaled = v > 0 ? v / p.repeat_penalty : v * p.repeat_penalty;
        x[id] = static_cast<float>(scaled - static_cast<double>(count) * p.frequency_penalty - p.presence_penalty);
    }
    __syncthreads();
}

// Over a part's block: the maximum, the sum of the threads' exp(v - max), in a fixed order.
struct PartShared {
    float max[kPartThreads / 32];
    double sum[kPartThreads / 32];
};
__device__ __forceinline__ void sum_part(PartShared& s, const float (&v)[kChunkLogits], float& max, double& sum) {
    const int warp = threadIdx.x / 32;
    float own = -INFINITY;
#pragma unroll
    for (const float f : v) own = fmaxf(own, f);
    own = warp_max(own);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) s.max[warp] = own;
    __syncthreads();
    max = s.max[0];
#pragma unroll
    for (const float m : s.max) max = fmaxf(max, m);
    double total = 0;
#pragma unroll
    for (const float f : v) total += static_cast<double>(f == -INFINITY ? 0.0f : __expf(f - max));
    total = warp_sum(total);
    if ((threadIdx.x & 31) == 0) s.sum[warp] = total;
    __syncthreads();
    sum = 0;
#pragma unroll
    for (const double part : s.sum) sum += part;
}

// A thread's chunk of a part are logits kPartThreads apart.
__global__ void __launch_bounds__(kPartThreads) survey_kernel(const __grid_constant__ Args a) {
    __shared__ PartShared shared;
    __shared__ int n_finite;
    grid_dependents();
    if (threadIdx.x == 0) n_finite = 0;
    EarlyRow early(a, blockIdx.y);
    const int index = blockIdx.y, part = blockIdx.x, first = part * kPartLogits,
              end = min(first + kPartLogits, a.vocab);
    const float* raw = a.logits + index * a.stride;
    float v[kChunkLogits];
    const auto load = [&](const float* from) {
#pragma unroll
        for (int k = 0; k < kChunkLogits; k++) {
            const int i = first + threadIdx.x + kPartThreads * k;
            v[k] = i < end ? from[i] : -INFINITY;
        }
    };
    grid_wait();
    const DeviceRun run = early.look();
    load(raw);
    early.check(a, index, run);
    const Row& row = early.row;
    PartStats stats;
    sum_part(shared, v, stats.raw_max, stats.raw_sum);
    stats.max = stats.raw_max, stats.sum = stats.raw_sum;
    if (row.changed) {
        const int64_t at = static_cast<int64_t>(index) * a.vocab;
        change_logits(a, row, raw, a.sampling.changed + at, a.sampling.counts + at, first, end);
        load(a.sampling.changed + at);
        sum_part(shared, v, stats.max, stats.sum);
    }
    uint64_t best = 0;
    int finite = 0;
#pragma unroll
    for (int k = 0; k < kChunkLogits; k++) {
        if (v[k] == -INFINITY) continue;
        best = max(best, ordered_candidate(v[k], first + threadIdx.x + kPartThreads * k));
        finite++;
    }
    const int64_t of_part = static_cast<int64_t>(index) * a.n_parts + part;
    a.sampling.chunks[of_part * kPartThreads + threadIdx.x] = best;
    finite = __reduce_add_sync(0xffffffffu, finite);
    if ((threadIdx.x & 31) == 0) atomicAdd(&n_finite, finite);
    __syncthreads();
    stats.n_finite = n_finite;
    if (threadIdx.x == 0) a.sampling.parts[of_part] = stats;
}

// Of a whole row: sums relative to the maxima, of the logits as they came (raw) and as they are drawn from.
struct Totals {
    float raw_max;
    double raw_sum, sum;
    int n_finite;
};

// The id drawn from the sorted list, or -1 where the list does not hold all that may be drawn.
// all: the list holds every candidate; mass: of all logits of x relative to the best, where it is needed.
__device__ int draw_from_list(const SampleShared& s, const SlotSampling& p, int n, bool all, double mass,
                              float uniform) {
    const float best = logit_of(s.list[0]);
    const auto weight = [&](int i, double temp) {
        return i < n ? exp((static_cast<double>(logit_of(s.list[i])) - best) / temp) : 0.0;
    };
    running_sums(s, [&](int i) { return weight(i, 1.0); });
    int kept = n;
    bool cut = all;
    if (p.top_p < 1.0f) {
        const double target = p.top_p * (all ? s.sums[n - 1] : mass);
        const int below = count_if(n, [&](int i) { return s.sums[i] < target; });
        kept = max(1, min(n, below + 1));
        cut = cut || below < n;
    }
    if (p.min_p > 0.0f) {
        const double least = fminf(p.min_p, 1.0f);
        const int enough = count_if(n, [&](int i) { return weight(i, 1.0) >= least; });
        kept = min(kept, max(1, enough));
        cut = cut || enough < n;
    }
    if (!cut) return -1;
    __syncthreads();
    running_sums(s, [&](int i) { return i < kept ? weight(i, p.temp) : 0.0; });
    const double target = uniform * s.sums[kept - 1];
    const int before = count_if(kept - 1, [&](int i) { return s.sums[i] <= target; });
    return id_of(s.list[before]);
}

// The same by bisection: candidates are numbers that order them (ordered_candidate); each limit is the least that
// stays.
__device__ int draw_slowly(const SampleShared& s, const SlotSampling& p, const float* x, int vocab, float best,
                           float uniform) {
    const auto weight = [&](float v, double temp) { return exp((static_cast<double>(v) - best) / temp); };
    uint64_t least = ordered_candidate(-INFINITY, 0) + 1;
    if (p.top_k > 0 && p.top_k < vocab) {
        least = max(least, bisect(s, x, vocab, least, p.top_k, false, [](float) { return 1.0; }));
    }
    if (p.top_p < 1.0f) {
        const auto one = [&](float v) { return weight(v, 1.0); };
        const double total = mass_from(s, x, vocab, least, one);
        // At least the best stays: of nothing wanted, the greatest whose mass is more than nothing.
        least = max(least, bisect(s, x, vocab, least, fmaxf(p.top_p, 0.0f) * total, !(p.top_p > 0.0f), one));
    }
    const double least_weight = fminf(p.min_p, 1.0f);
    const auto kept = [&](float v) { return weight(v, 1.0) >= least_weight ? weight(v, p.temp) : 0.0; };
    const double total = mass_from(s, x, vocab, least, kept);
    return id_of(bisect(s, x, vocab, least, uniform * total, true, kept));
}

// A part's sums; of none where there is no such part.
__device__ __forceinline__ PartStats part_of(const PartStats* parts, int i, int n_parts) {
    return i < n_parts ? parts[i] : PartStats{0, 0, -INFINITY, -INFINITY, 0};
}

// The row as a whole, from its parts, in a fixed order: one warp's work, there for all after the next barrier. own: the
// lane's first part. A part's weight is rounded as its terms are, whose sum it is.
__device__ __forceinline__ void sum_up(Totals& totals, PartStats own, const PartStats* parts, int n_parts) {
    if (threadIdx.x >= 32) return;
    const auto scaled = [](double sum, float from, float to) {
        return from == -INFINITY ? 0.0 : sum * static_cast<double>(__expf(from - to));
    };
#pragma unroll 1
    for (int i = threadIdx.x + 32; i < n_parts; i += 32) {
        const PartStats part = parts[i];
        const float raw_max = fmaxf(own.raw_max, part.raw_max), max = fmaxf(own.max, part.max);
        own.raw_sum = scaled(own.raw_sum, own.raw_max, raw_max) + scaled(part.raw_sum, part.raw_max, raw_max);
        own.sum = scaled(own.sum, own.max, max) + scaled(part.sum, part.max, max);
        own.raw_max = raw_max, own.max = max, own.n_finite += part.n_finite;
    }
    const float raw_max = warp_max(own.raw_max), max = warp_max(own.max);
    const double raw_sum = warp_sum(scaled(own.raw_sum, own.raw_max, raw_max));
    const double sum = warp_sum(scaled(own.sum, own.max, max));
    const int n_finite = __reduce_add_sync(0xffffffffu, own.n_finite);
    if (threadIdx.x == 0) totals = {raw_max, raw_sum, sum, n_finite};
}

// The list of the best of x, from what survey_kernel has found to be each chunk's best: only chunks whose best reaches
// the bound are read again.
__device__ __forceinline__ Best list_from_chunks(const SampleShared& s, const float* x, int vocab,
                                                 const uint64_t* chunks, int n_chunks, uint64_t own, int n_finite,
                                                 int wanted) {
    return fill_list(s, own, n_finite, wanted, [&](uint32_t bound, auto&& f) {
        for (int i = threadIdx.x; i < n_chunks; i += kSampleThreads) {
            const uint64_t chunk = chunks[i];
            if (chunk == 0 || static_cast<uint32_t>(chunk >> 32) < bound) continue;
            const int first = i / kPartThreads * kPartLogits + i % kPartThreads;
            float v[kChunkLogits];
#pragma unroll
            for (int k = 0; k < kChunkLogits; k++) {
                const int at = first + kPartThreads * k;
                v[k] = at < vocab ? x[at] : -INFINITY;
            }
#pragma unroll
            for (int k = 0; k < kChunkLogits; k++) f(v[k], first + kPartThreads * k);
        }
    });
}

__global__ void __launch_bounds__(kSampleThreads) sample_kernel(const __grid_constant__ Args a) {
    __shared__ Totals totals;
    grid_dependents();
    const SampleShared s(dynamic_shared());
    EarlyRow early(a, blockIdx.x);
    grid_wait();
    const int64_t first_part = static_cast<int64_t>(blockIdx.x) * a.n_parts;
    const uint64_t* chunks = a.sampling.chunks + first_part * kPartThreads;
    const int n_chunks = a.n_parts * kPartThreads;
    const DeviceRun looked = early.look();
    const PartStats part = part_of(a.sampling.parts + first_part, threadIdx.x, a.n_parts);
    uint64_t own = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < n_chunks; i += kSampleThreads) own = max(own, chunks[i]);
    sum_up(totals, part, a.sampling.parts + first_part, a.n_parts);
    early.check(a, blockIdx.x, looked);
    const Row& row = early.row;
    const DeviceRun& run = row.run;
    const SlotSampling& p = row.p;
    const int64_t position = row.position;
    const float* raw = a.logits + blockIdx.x * a.stride;
    const float* x = row.changed ? a.sampling.changed + static_cast<int64_t>(blockIdx.x) * a.vocab : raw;

    const bool greedy = !(p.temp > 0.0f), listed = p.top_k > 0 && p.top_k <= kSureCandidates;
    int wanted = greedy ? 1 : listed ? p.top_k : kSureCandidates;
    if (x == raw) wanted = max(wanted, p.n_top);
    __syncthreads();
    Best best = list_from_chunks(s, x, a.vocab, chunks, n_chunks, own, totals.n_finite, wanted);
    const float top = best.n > 0 ? logit_of(s.list[0]) : -INFINITY;
    const float raw_top = totals.raw_max;
    const double raw_sum = totals.raw_sum;
    int id = best.n > 0 ? id_of(s.list[0]) : 0;
    if (!greedy && best.n > 0 && isfinite(top)) {
        // The first top_k of the list, if it holds them all, or all candidates; otherwise the best, whose mass is to be
        // compared with that of all logits.
        const bool k_listed = p.top_k > 0 && best.n >= p.top_k, all = k_listed || best.is_all;
        const bool k_elsewhere = !all && p.top_k > 0 && p.top_k < a.vocab;
        const float uniform = philox_uniform_at(p.seed, position);
        id = best.overflow || k_elsewhere ? -1
                                          : draw_from_list(s, p, k_listed ? p.top_k : best.n, all, totals.sum, uniform);
        if (id < 0) id = draw_slowly(s, p, x, a.vocab, top, uniform);
    }
    __syncthreads();

    const uint64_t step = a.tables.count->now;
    SampleResult& result =
        a.sampling.results[step % kResultSteps * a.sampling.max_results + a.first + static_cast<int>(blockIdx.x)];
    const double log_total = static_cast<double>(raw_top) + log(raw_sum);
    if (p.n_top > 0) {
        if (x != raw || best.overflow) best = select_best(s, raw, a.vocab, p.n_top);
        const int n = min(best.n, p.n_top);
        for (int i = threadIdx.x; i < n; i += kSampleThreads) {
            result.top[i] = {id_of(s.list[i]), static_cast<float>(logit_of(s.list[i]) - log_total)};
        }
        if (threadIdx.x == 0) result.n_top = n;
    } else if (threadIdx.x == 0) {
        result.n_top = 0;
    }
    if (threadIdx.x == 0) {
        a.tables.sampled[run.slot] = id;
        result.position = position;
        result.slot = run.slot;
        result.token = {id, static_cast<float>(raw[id] - log_total)};
    }
    if (p.n_top > 0) {
        __threadfence_system();
        __syncthreads();
    } else if (threadIdx.x == 0) {
        __threadfence_system();  // nobody else has written
    }
    if (threadIdx.x == 0) *const_cast<volatile uint64_t*>(&result.step) = step;
}

}  // namespace

void sample(const Gpu& gpu, const Tables& tables, const SamplingTables& sampling, const WantedRows& wanted, int first,
            View logits) {
    const int vocab = static_cast<int>(logits.cols), n_parts = sampling_parts(vocab);
    const Args a{tables, sampling, wanted, logits.f32(), logits.stride, first, vocab, n_parts};
    launch(gpu, dim3(n_parts, logits.rows), dim3(kPartThreads), 0, survey_kernel, a);
    launch(gpu, dim3(logits.rows), dim3(kSampleThreads), SampleShared::kBytes, sample_kernel, a);
}

}  // namespace samba::cuda
