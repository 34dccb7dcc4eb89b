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
    double log_raw, sum;  // log_raw: of the sum of all exp(logit)
    int n_finite;
};

// The row as a whole, from its parts, in a fixed order: the last warp's work, there for all after the next barrier.
class PartSums {
  public:
    __device__ __forceinline__ PartSums(const PartStats* parts, int n_parts) : parts_(parts), n_parts_(n_parts) {
        if (is_mine()) own_ = part(lane());
    }
    __device__ __forceinline__ void count(Totals& totals) const {
        if (!is_mine()) return;
        int n = own_.n_finite;
#pragma unroll 1
        for (int i = lane() + 32; i < n_parts_; i += 32) n += part(i).n_finite;
        n = __reduce_add_sync(0xffffffffu, n);
        if (lane() == 0) totals.n_finite = n;
    }
    // A part's weight is rounded as its terms are, whose sum it is.
    __device__ __forceinline__ void add_up(Totals& totals) {
        if (!is_mine()) return;
        const auto scaled = [](double sum, float from, float to) {
            return from == -INFINITY ? 0.0 : sum * static_cast<double>(__expf(from - to));
        };
        PartStats own = own_;
#pragma unroll 1
        for (int i = lane() + 32; i < n_parts_; i += 32) {
            const PartStats next = part(i);
            const float raw_max = fmaxf(own.raw_max, next.raw_max), max = fmaxf(own.max, next.max);
            own.raw_sum = scaled(own.raw_sum, own.raw_max, raw_max) + scaled(next.raw_sum, next.raw_max, raw_max);
            own.sum = scaled(own.sum, own.max, max) + scaled(next.sum, next.max, max);
            own.raw_max = raw_max, own.max = max;
        }
        const float raw_max = warp_max(own.raw_max), max = warp_max(own.max);
        const double raw_sum = warp_sum(scaled(own.raw_sum, own.raw_max, raw_max));
        const double sum = warp_sum(scaled(own.sum, own.max, max));
        if (lane() == 0) totals.log_raw = static_cast<double>(raw_max) + log(raw_sum), totals.sum = sum;
    }

  private:
    __device__ static bool is_mine() { return threadIdx.x >= kSampleThreads - 32; }
    __device__ static int lane() { return threadIdx.x & 31; }
    __device__ __forceinline__ PartStats part(int i) const {
        return i < n_parts_ ? parts_[i] : PartStats{0, 0, -INFINITY, -INFINITY, 0};
    }

    const PartStats* parts_;
    int n_parts_;
    PartStats own_ = {};
};

// The place in the sorted list of the candidate drawn, or -1 where the list does not hold all that may be drawn; for
// all threads. all: the list's first n are all candidates. A warp has the weights by which top-p and min-p cut, another
// one those by which is drawn. meanwhile(): brings the totals.
template <class F>
__device__ __forceinline__ int draw_from_list(const SampleShared& s, const SlotSampling& p, int n, bool all,
                                              const Totals& totals, float uniform, F&& meanwhile) {
    const int warp = threadIdx.x / 32;
    const double least = p.min_p > 0.0f ? fminf(p.min_p, 1.0f) : 0.0f;
    int enough = 0;  // of the first warp: whose weight min-p lets pass
    if (warp < 2) {
        const double scale = warp == 0 ? 1.0 : 1.0 / p.temp;
        const float best = logit_of(s.list[0]);
        running_sums(warp == 0 ? s.plain : s.drawn, n, [&](int i) {
            const double weight = i < n ? exp((static_cast<double>(logit_of(s.list[i])) - best) * scale) : 0.0;
            enough += __popc(__ballot_sync(0xffffffffu, i < n && weight >= least));
            return weight;
        });
    }
    meanwhile();
    __syncthreads();
    int& place = s.counters[0];
    if (warp == 0) {
        int kept = max(1, enough);
        bool cut = all || enough < n;
        if (p.top_p < 1.0f) {
            const double target = p.top_p * (all ? s.plain[n - 1] : totals.sum);
            const int below = count_if(n, [&](int i) { return s.plain[i] < target; });
            kept = min(kept, below + 1);
            cut = cut || below < n;
        }
        const double target = uniform * s.drawn[kept - 1];
        const int before = count_if(kept - 1, [&](int i) { return s.drawn[i] <= target; });
        if (threadIdx.x == 0) place = cut ? before : -1;
    }
    __syncthreads();
    return place;
}

// The same by bisection: candidates are numbers that order them (ordered_candidate); each limit is the least that
// stays.
__device__ uint64_t draw_slowly(const SampleShared& s, const SlotSampling& p, const float* x, int vocab, float best,
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
    return bisect(s, x, vocab, least, uniform * total, true, kept);
}

// The list of the best of x, from what survey_kernel has found to be each chunk's best: only chunks whose best reaches
// the bound are read again. meanwhile(): by all threads, while memory is waited for.
template <class F>
__device__ __forceinline__ Best list_from_chunks(const SampleShared& s, const float* x, int vocab,
                                                 const uint64_t* chunks, int n_chunks, uint64_t own, int wanted,
                                                 F&& meanwhile) {
    if (wanted == 1) {
        meanwhile();
        return list_largest(s, own);
    }
    return fill_list(s, own, wanted, [&](uint32_t bound, auto&& f) {
#pragma unroll 4
        for (int i = threadIdx.x; i < n_chunks; i += kSampleThreads) {
            const uint64_t chunk = chunks[i];
            if (chunk == 0 || static_cast<uint32_t>(chunk >> 32) < bound) continue;
            const int at = atomicAdd(&s.counters[1], 1);
            if (at < SampleShared::kListedChunks) s.chunks[at] = i;  // or else more candidates than there is room for
        }
        __syncthreads();
        const int n = min(s.counters[1], SampleShared::kListedChunks) * kChunkLogits;
        for (int i = threadIdx.x; i < n; i += kSampleThreads) {
            const int chunk = s.chunks[i / kChunkLogits];
            const int at =
                chunk / kPartThreads * kPartLogits + chunk % kPartThreads + kPartThreads * (i % kChunkLogits);
            if (at < vocab) f(x[at], at);
        }
        meanwhile();
    });
}

__global__ void __launch_bounds__(kSampleThreads) sample_kernel(const __grid_constant__ Args a) {
    __shared__ Totals totals;
    grid_dependents();
    const SampleShared s(dynamic_shared());
    const int64_t first_part = static_cast<int64_t>(blockIdx.x) * a.n_parts;
    const uint64_t* chunks = a.sampling.chunks + first_part * kPartThreads;
    const int n_chunks = a.n_parts * kPartThreads;
    EarlyRow early(a, blockIdx.x);
    s.clear();
    __syncthreads();
    grid_wait();
    const DeviceRun looked = early.look();
    const uint64_t step = a.tables.count->now;
    PartSums parts(a.sampling.parts + first_part, a.n_parts);
    uint64_t own = 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < n_chunks; i += kSampleThreads) own = max(own, chunks[i]);
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
    Best best = list_from_chunks(s, x, a.vocab, chunks, n_chunks, own, wanted, [&] { parts.count(totals); });
    const float top = best.n > 0 ? logit_of(s.list[0]) : -INFINITY;
    uint64_t drawn = best.n > 0 ? s.list[0] : ordered_candidate(-INFINITY, 0);
    // The first top_k of the list, if it holds them all, or all candidates; otherwise the best, whose mass is to be
    // compared with that of all logits.
    const bool draws = !greedy && best.n > 0 && isfinite(top);
    const bool k_listed = p.top_k > 0 && best.n >= p.top_k, all = k_listed || best.n == totals.n_finite;
    const bool k_elsewhere = !all && p.top_k > 0 && p.top_k < a.vocab;
    const float uniform = philox_uniform_at(p.seed, position);
    int place = -1;
    if (draws && !best.overflow && !k_elsewhere) {
        place = draw_from_list(s, p, k_listed ? p.top_k : best.n, all, totals, uniform, [&] { parts.add_up(totals); });
        if (place >= 0) drawn = s.list[place];
    } else {
        parts.add_up(totals);
        __syncthreads();
    }
    if (draws && place < 0) drawn = draw_slowly(s, p, x, a.vocab, top, uniform);

    const int id = id_of(drawn);
    SampleResult& result =
        a.sampling.results[step % kResultSteps * a.sampling.max_results + a.first + static_cast<int>(blockIdx.x)];
    const double log_total = totals.log_raw;
    if (p.n_top > 0) {
        __syncthreads();  // all have read the list
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
        result.token = {id, static_cast<float>((x == raw ? logit_of(drawn) : raw[id]) - log_total)};
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
