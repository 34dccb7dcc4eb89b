// Draws tokens by the law of kernels/sampling.h, a block a row, without sorting the vocabulary: the best candidates are
// cut out with a bound that at least K logits reach (the K-th largest of the threads' own maxima), sorted, and drawn
// from. Where that list does not hold all that may be drawn, the thresholds are found by bisection over all logits
// (slow.cuh).
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
    int first, vocab;
};

// x + bias, then the penalties of the recent tokens; returns where the logits to draw from are.
__device__ const float* adjusted(const Args& a, const SlotSampling& p, int slot, int64_t position, const float* raw) {
    const bool penalties = p.repeat_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
    const int64_t known = position - a.tables.history_start[slot];
    const int n = penalties ? static_cast<int>(max(int64_t{0}, min(known, static_cast<int64_t>(p.repeat_last_n)))) : 0;
    if (!p.has_bias && n == 0) return raw;
    float* x = a.sampling.changed + static_cast<int64_t>(blockIdx.x) * a.vocab;
    int32_t* counts = a.sampling.counts + static_cast<int64_t>(blockIdx.x) * a.vocab;  // zero between uses
    const float* bias = a.sampling.bias + static_cast<int64_t>(slot) * a.vocab;
    for (int i = threadIdx.x; i < a.vocab; i += kSampleThreads) x[i] = p.has_bias ? raw[i] + bias[i] : raw[i];
    const int32_t* history = a.tables.history + slot * kHistory;
    const auto token_at = [&](int i) {
        const int32_t id = history[(position - 1 - i) % kHistory];
        return id >= 0 && id < a.vocab ? id : -1;
    };
    for (int i = threadIdx.x; i < n; i += kSampleThreads) {
        const int32_t id = token_at(i);
        if (id >= 0) atomicAdd(&counts[id], 1);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += kSampleThreads) {
        const int32_t id = token_at(i);
        const int count = id >= 0 ? atomicExch(&counts[id], 0) : 0;
        if (count == 0) continue;  // another thread has done this token
        const double v = x[id], scaled = v > 0 ? v / p.repeat_penalty : v * p.repeat_penalty;
        x[id] = static_cast<float>(scaled - static_cast<double>(count) * p.frequency_penalty - p.presence_penalty);
    }
    __syncthreads();
    return x;
}

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
        least = max(least, bisect(s, x, vocab, least, p.top_p * total, false, one));
    }
    const double least_weight = fminf(p.min_p, 1.0f);
    const auto kept = [&](float v) { return weight(v, 1.0) >= least_weight ? weight(v, p.temp) : 0.0; };
    const double total = mass_from(s, x, vocab, least, kept);
    return id_of(bisect(s, x, vocab, least, uniform * total, true, kept));
}

__global__ void __launch_bounds__(kSampleThreads) sample_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const SampleShared s(dynamic_shared());
    const DeviceRun run = a.tables.now[a.wanted.run[blockIdx.x]];
    const SlotSampling p = a.sampling.slots[run.slot];
    const int64_t position = run.position + a.wanted.row[blockIdx.x] + 1;  // of the token to draw
    const float* raw = a.logits + blockIdx.x * a.stride;
    const float* x = adjusted(a, p, run.slot, position, raw);

    const bool greedy = !(p.temp > 0.0f), listed = p.top_k > 0 && p.top_k <= kSureCandidates;
    int wanted = greedy ? 1 : listed ? p.top_k : kSureCandidates;
    if (x == raw) wanted = max(wanted, p.n_top);
    Best best = select_best(s, x, a.vocab, wanted);
    const float top = best.n > 0 ? logit_of(s.list[0]) : -INFINITY;
    const float raw_top = x == raw ? top : block_max(s, raw, a.vocab);
    const double raw_sum = block_sum(s, a.vocab, [&](int i) { return static_cast<double>(__expf(raw[i] - raw_top)); });
    int id = best.n > 0 ? id_of(s.list[0]) : 0;
    if (!greedy && best.n > 0 && isfinite(top)) {
        const bool all = listed || best.is_all;
        double mass = 0;
        if (!all && p.top_p < 1.0f) {
            mass = block_sum(s, a.vocab, [&](int i) { return static_cast<double>(__expf(x[i] - top)); });
        }
        const float uniform = philox_uniform_at(p.seed, position);
        const int n = listed ? min(best.n, p.top_k) : best.n;
        id = best.overflow ? -1 : draw_from_list(s, p, n, all, mass, uniform);
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
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) *const_cast<volatile uint64_t*>(&result.step) = step;
}

}  // namespace

void sample(const Gpu& gpu, const Tables& tables, const SamplingTables& sampling, const WantedRows& wanted, int first,
            View logits) {
    const Args a{tables, sampling, wanted, logits.f32(), logits.stride, first, static_cast<int>(logits.cols)};
    launch(gpu, dim3(logits.rows), dim3(kSampleThreads), SampleShared::kBytes, sample_kernel, a);
}

}  // namespace samba::cuda
