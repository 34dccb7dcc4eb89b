// Draws tokens by the law of kernels/sampling.h, without sorting the vocabulary. A first kernel looks at all logits: it
// makes those to draw from (bias, penalties), their sums, and the greatest of each group. A second one, a block a row,
// lists the best candidates in order (sample_parts.cuh) and draws. Where that list does not hold all that may be drawn,
// the thresholds are found by bisection over all logits.
#include "kernels/cuda/early_run.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample_parts.cuh"
#include "kernels/philox.h"

namespace samba::cuda {
namespace {

struct Args {
    const float* logits;
    int64_t stride;
    int vocab, group_bits, lane_bits, per_lane, n_parts;  // LogitGroups; parts: a survey block's
    bool changes;                                         // of some row: bias or penalties
    int first;
    Tables tables;
    SamplingTables sampling;
    WantedRows wanted;
};

// A row to draw: whose it is.
struct Row {
    DeviceRun run;
    int64_t position;  // of the token to draw
    SlotSampling p;

    __device__ __forceinline__ Row(const Args& a, int row, const DeviceRun& run_)
        : run(run_), position(run.position + a.wanted.row[row] + 1), p(a.sampling.slots[run.slot]) {}
};

// ---- the first kernel

// x + bias, then the penalties of the recent tokens, for logits [first, end); by all threads of a block.
__device__ __noinline__ void change_logits(const Args& a, int index, const float* raw, float* x, int first, int end) {
    const Row row(a, index, load_run(a.tables.now + a.wanted.run[index]));
    const SlotSampling& p = row.p;
    const float* bias = a.sampling.bias + static_cast<int64_t>(row.run.slot) * a.vocab;
    for (int i = first + threadIdx.x; i < end; i += kSurveyThreads) x[i] = p.has_bias ? raw[i] + bias[i] : raw[i];
    const bool penalties = p.repeat_penalty != 1.0f || p.frequency_penalty != 0.0f || p.presence_penalty != 0.0f;
    const int64_t known = row.position - a.tables.history_start[row.run.slot];
    const int64_t n_recent = penalties ? min(known, static_cast<int64_t>(p.repeat_last_n)) : 0;
    const int32_t* history = a.tables.history + row.run.slot * kHistory;
    int32_t* counts = a.sampling.counts + static_cast<int64_t>(index) * a.vocab;
    const auto token_at = [&](int64_t i) {
        const int32_t id = history[(row.position - 1 - i) % kHistory];
        return id >= first && id < end ? id : -1;
    };
    for (int64_t i = threadIdx.x; i < n_recent; i += kSurveyThreads) {
        const int32_t id = token_at(i);
        if (id >= 0) atomicAdd(&counts[id], 1);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n_recent; i += kSurveyThreads) {
        const int32_t id = token_at(i);
        const int count = id >= 0 ? atomicExch(&counts[id], 0) : 0;
        if (count == 0) continue;  // another thread has done this token
        const double v = x[id], scaled = v > 0 ? v / p.repeat_penalty : v * p.repeat_penalty;
        x[id] = static_cast<float>(scaled - static_cast<double>(count) * p.frequency_penalty - p.presence_penalty);
    }
    __syncthreads();
}

// Together, in a fixed order; by a warp.
__device__ __forceinline__ PartStats add_up(const PartStats& own) {
    const float max = of_ordered(__reduce_max_sync(0xffffffffu, ordered(own.max)));
    const float sum = warp_sum(own.sum * weight_of(own.max - relative_to(max)));
    return {max, sum, static_cast<int>(__reduce_add_sync(0xffffffffu, own.n_finite))};
}

// What logits [first, end) come to.
__device__ __forceinline__ PartStats look(const float* x, int first, int end) {
    PartStats own = {-INFINITY, 0, 0};
#pragma unroll 1
    for (int i = first; i < end; i += 4) {
        float v[4];
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = i + k < end ? x[i + k] : -INFINITY;
        const float before = own.max;
        own.max = fmaxf(fmaxf(before, v[0]), fmaxf(v[1], fmaxf(v[2], v[3])));
        const float from = relative_to(own.max);
        own.sum *= weight_of(before - from);
#pragma unroll
        for (int k = 0; k < 4; k++) own.sum += weight_of(v[k] - from), own.n_finite += v[k] != -INFINITY;
    }
    return own;
}

// What a block has seen, to where its warps' parts lie.
__device__ __forceinline__ void add_up_block(const PartStats& own, PartStats (&warps)[32], PartStats& to) {
    const PartStats of_warp = add_up(own);
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    if (lane == 0) warps[warp] = of_warp;
    __syncthreads();
    if (warp > 0) return;
    const PartStats of_block = add_up(lane < kSurveyThreads / 32 ? warps[lane] : PartStats{-INFINITY, 0, 0});
    if (lane == 0) to = of_block;
}

__global__ void __launch_bounds__(kSurveyThreads) survey_kernel(const __grid_constant__ Args a) {
    __shared__ PartStats warps[2][32];
    grid_dependents();
    const int index = blockIdx.y, thread = blockIdx.x * kSurveyThreads + threadIdx.x;
    const int first = thread * a.per_lane, end = min(first + a.per_lane, a.vocab);
    const float* raw = a.logits + index * a.stride;
    PartStats* parts = a.sampling.parts + 2 * index * a.n_parts + blockIdx.x;
    grid_wait();
    PartStats own = look(raw, first, end);
    if (a.changes) {
        add_up_block(own, warps[1], *parts);
        float* x = a.sampling.changed + static_cast<int64_t>(index) * a.vocab;
        const int of_block = kSurveyThreads * a.per_lane, block_first = blockIdx.x * of_block;
        change_logits(a, index, raw, x, block_first, min(block_first + of_block, a.vocab));
        own = look(x, first, end);
    }
    uint32_t key = ordered(own.max);
    for (int d = 1; d < 1 << a.lane_bits; d *= 2) key = max(key, __shfl_xor_sync(0xffffffffu, key, d));
    const int group = thread >> a.lane_bits;
    if (group << a.lane_bits == thread && group < kGroups) a.sampling.groups[index * kGroups + group] = key;
    add_up_block(own, warps[0], parts[a.changes ? a.n_parts : 0]);
}

// ---- the second kernel

// A row as it is assumed to be before the kernel's wait (early_run.cuh): what follows from its run does not change
// during a step. After the wait, and behind what is asked for then, the run is looked up again.
struct EarlyRow {
    const DeviceRun* table;
    Row row;
    float uniform, scale;  // scale: 1 / temperature

    __device__ __forceinline__ EarlyRow(const Args& a, int i)
        : table(a.tables.now + a.wanted.run[i]),
          row(a, i, load_run(table)),
          uniform(philox_uniform_at(row.p.seed, row.position)),
          scale(1.0f / row.p.temp) {}
    __device__ __forceinline__ DeviceRun look() const { return load_run(table); }
    __device__ __forceinline__ void check(const Args& a, int i, const DeviceRun& run) {
        if (same_place(run, row.run)) return;
        row = Row(a, i, run);
        uniform = philox_uniform_at(row.p.seed, row.position), scale = 1.0f / row.p.temp;
    }
};

// The row as a whole, from its blocks' parts, in a fixed order; by a warp.
__device__ __forceinline__ PartStats add_up_row(const PartStats* parts, int n_parts) {
    PartStats own = {-INFINITY, 0, 0};
#pragma unroll 1
    for (int i = threadIdx.x & 31; i < n_parts; i += 32) {
        const PartStats next = parts[i];
        const float max = fmaxf(own.max, next.max), from = relative_to(max);
        own = {max, own.sum * weight_of(own.max - from) + next.sum * weight_of(next.max - from),
               own.n_finite + next.n_finite};
    }
    return add_up(own);
}

// The place of the candidate drawn, or -1 where the list does not hold all that may be drawn; by a warp. all: the
// list's first n are all candidates.
__device__ __forceinline__ int draw_from_list(SampleShared& s, const SlotSampling& p, int n, bool all, float total,
                                              float uniform) {
    const int lane = threadIdx.x & 31;
    const float least = fminf(p.min_p, 1.0f);
    int enough = 0;  // whose weight min-p lets pass
    float plain_before = 0, drawn_before = 0;
#pragma unroll 1
    for (int first = 0; first < n; first += 32) {
        const int i = first + lane;
        float plain = i < n ? s.plain[i] : 0.0f, drawn = i < n ? s.drawn[i] : 0.0f;
        enough += __popc(__ballot_sync(0xffffffffu, i < n && plain >= least));
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            const float plain_left = __shfl_up_sync(0xffffffffu, plain, d);
            const float drawn_left = __shfl_up_sync(0xffffffffu, drawn, d);
            if (lane >= d) plain += plain_left, drawn += drawn_left;
        }
        plain += plain_before, drawn += drawn_before;
        if (i < n) s.plain[i] = plain, s.drawn[i] = drawn;
        plain_before = __shfl_sync(0xffffffffu, plain, 31), drawn_before = __shfl_sync(0xffffffffu, drawn, 31);
    }
    __syncwarp();
    const auto count_if = [&](int of, auto&& f) {
        int count = 0;
#pragma unroll 1
        for (int i = lane; i - lane < of; i += 32) count += __popc(__ballot_sync(0xffffffffu, i < of && f(i)));
        return count;
    };
    int kept = max(1, enough);
    bool cut = all || enough < n;
    if (p.top_p < 1.0f) {
        const double target = static_cast<double>(p.top_p) * (all ? plain_before : total);  // ties are exact, too
        const int below = count_if(n, [&](int i) { return s.plain[i] < target; });
        kept = min(kept, below + 1);
        cut = cut || below < n;
    }
    const double target = static_cast<double>(uniform) * s.drawn[kept - 1];
    const int place = count_if(kept - 1, [&](int i) { return s.drawn[i] <= target; });
    return cut ? place : -1;
}

// The same by bisection: each limit is the least candidate that stays.
__device__ __noinline__ uint64_t draw_slowly(SampleShared& s, SlotSampling p, Logits x, float best, float uniform) {
    uint64_t least = kLeastCandidate;
    if (p.top_k > 0 && p.top_k < x.vocab) least = bisect(s, x, least, p.top_k, false, [](float) { return 1.0f; });
    const auto mass = [&](auto&& f) {
        return row_sum(s, x, [&](float v, int id) { return ordered_candidate(v, id) >= least ? f(v) : 0.0f; });
    };
    const auto plain = [&](float v) { return weight_of(v - best); };
    if (p.top_p < 1.0f) {
        // At least the best stays: of nothing wanted, the greatest whose mass is more than nothing.
        least = bisect(s, x, least, fmaxf(p.top_p, 0.0f) * mass(plain), !(p.top_p > 0.0f), plain);
    }
    const float least_weight = fminf(p.min_p, 1.0f), scale = 1.0f / p.temp;
    const auto drawn = [&](float v) { return plain(v) >= least_weight ? weight_of((v - best) * scale) : 0.0f; };
    return bisect(s, x, least, uniform * mass(drawn), true, drawn);
}

__global__ void __launch_bounds__(kSampleThreads) sample_kernel(const __grid_constant__ Args a) {
    __shared__ SampleShared s;
    grid_dependents();
    const int index = blockIdx.x;
    EarlyRow early(a, index);
    const Logits raw = {a.logits + index * a.stride, a.vocab};
    const Logits x = {a.changes ? a.sampling.changed + static_cast<int64_t>(index) * a.vocab : raw.x, a.vocab};
    const PartStats* parts = a.sampling.parts + 2 * index * a.n_parts;
    const uint32_t* groups = a.sampling.groups + index * kGroups;
    // Where this lies is looked up now, while there is time.
    if (threadIdx.x == 0) touch(x.x), touch(x.x + a.vocab - 1), touch(groups);
    clear_list(s);
    grid_wait();
    uint32_t key = groups[threadIdx.x];
    const DeviceRun looked = early.look();
    const uint64_t step = a.tables.count->now;
    if (static_cast<int>(threadIdx.x) << a.group_bits >= a.vocab) key = 0;  // nobody's
    early.check(a, index, looked);
    const Row& row = early.row;
    const SlotSampling& p = row.p;

    const bool greedy = !(p.temp > 0.0f);
    int wanted = greedy ? 1 : p.top_k > 0 ? min(p.top_k, kSureCandidates) : kSureCandidates;
    if (!a.changes) wanted = max(wanted, p.n_top);
    const float best = of_ordered(list_best(s, x, a.group_bits, key, wanted));
    const bool draws = !greedy && isfinite(best);
    int n = min(s.n_listed, kListed);
    // The list's first top_k are all candidates, if it holds so many; otherwise, perhaps, the whole of it.
    const bool k_listed = p.top_k > 0 && n >= p.top_k;
    if (sorts()) {
        sort_list(s, n, best, draws ? early.scale : 0.0f);
    } else {
        const PartStats of_raw = add_up_row(parts, a.n_parts);
        const PartStats of_row = a.changes ? add_up_row(parts + a.n_parts, a.n_parts) : of_raw;
        if (threadIdx.x == kSorters) s.totals = {of_raw.max, logf(of_raw.sum), of_row.sum, of_row.n_finite};
    }
    uint64_t drawn = ordered_candidate(-INFINITY, 0);  // of the first warp
    if (draws && !k_listed) {
        __syncthreads();
        const bool all = n == s.totals.n_finite, k_elsewhere = !all && p.top_k > 0 && p.top_k < a.vocab;
        if (threadIdx.x < 32) {
            const int place = k_elsewhere ? -1 : draw_from_list(s, p, n, all, s.totals.sum, early.uniform);
            if (threadIdx.x == 0) s.place = place;
        }
        __syncthreads();
        drawn = s.place >= 0 ? s.sorted[s.place] : draw_slowly(s, p, x, best, early.uniform);
    } else if (threadIdx.x < 32 && n > 0) {
        drawn = s.sorted[draws ? draw_from_list(s, p, p.top_k, true, 0.0f, early.uniform) : 0];
    }
    const int id = id_of(drawn);
    if (threadIdx.x == 0) a.tables.sampled[row.run.slot] = id;
    __syncthreads();  // list and totals are there
    if (p.n_top > 0 && a.changes) {
        // Those of the raw logits.
        clear_list(s);
        key = 0;
        const int first = static_cast<int>(threadIdx.x) << a.group_bits, end = first + (1 << a.group_bits);
        for (int i = first; i < min(end, a.vocab); i++) key = max(key, ordered(raw.x[i]));
        list_best(s, raw, a.group_bits, key, p.n_top);
        n = min(s.n_listed, kListed);
        if (sorts()) sort_list(s, n, 0.0f, 0.0f);
        __syncthreads();
    }
    SampleResult& result = a.sampling.results[step % kResultSteps * a.sampling.max_results + a.first + index];
    const auto logprob = [&](float logit) { return logit - s.totals.raw_max - s.totals.log_raw_sum; };
    const int n_top = min(n, p.n_top);
    if (n_top > 0) {
        for (int i = threadIdx.x; i < n_top; i += kSampleThreads) {
            result.top[i] = {id_of(s.sorted[i]), logprob(logit_of(s.sorted[i]))};
        }
        __threadfence_system();
        __syncthreads();
    }
    if (threadIdx.x == 0) result.write(step, id, logprob(a.changes ? raw.x[id] : logit_of(drawn)), n_top);
}

}  // namespace

void sample(const Gpu& gpu, const Tables& tables, const SamplingTables& sampling, const WantedRows& wanted, int first,
            View logits, bool changes) {
    const int vocab = static_cast<int>(logits.cols);
    const LogitGroups groups(vocab);
    const Args a{logits.f32(),         logits.stride, vocab, groups.size_bits, groups.lane_bits, groups.per_lane(),
                 survey_blocks(vocab), changes,       first, tables,           sampling,         wanted};
    launch(gpu, dim3(survey_blocks(vocab), logits.rows), dim3(kSurveyThreads), 0, survey_kernel, a);
    launch(gpu, dim3(logits.rows), dim3(kSampleThreads), 0, sample_kernel, a);
}

}  // namespace samba::cuda
