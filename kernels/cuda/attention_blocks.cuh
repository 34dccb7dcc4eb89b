// What the kernels of decode attention share: how a ring is cut into blocks, which keys a query sees, and where a block
// puts its sums for attention_combine.cu.
#pragma once
#include <algorithm>
#include <climits>

#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda::decode {

// A ring cut into blocks of so many rows, and those shared by the splits.
struct Cut {
    int blocks, per_split, splits;
    Cut(int64_t ring_rows, int keys)
        : blocks(std::max(1, static_cast<int>((ring_rows + keys - 1) / keys))),
          per_split((blocks + kMaxSplits - 1) / kMaxSplits),
          splits((blocks + per_split - 1) / per_split) {}
};
// Rows of a block on tensor cores: fewer where heads are so wide that shared memory would not hold them.
constexpr int tensor_keys(int head_dim) { return head_dim > 128 ? 64 : 128; }

// The ring is asked for first, and stands in the same 64 bytes as what is wanted last, which come with it.
struct Args {
    const DeviceRun* runs;  // of the launch's first run on
    const void *q, *k, *v;
    int64_t stride;           // of q, k and v
    uint16_t n_heads, group;  // group: query heads that read one head of keys
    uint32_t group_inverse;
    int head_dim, blocks_per_split;
    int first_row, n_rows;  // of all runs
    bool one_buffer;
    float scale;
    float* partial;  // (rows, n_heads, splits, head_dim): sums
    float2* stats;   // (rows, n_heads, splits): maximum, sum of weights
    RingArgs ring;

    // Queries of a head of keys are counted through the rows: which row one is of.
    __device__ __forceinline__ int row_of_query(int query) const { return quotient(query, group_inverse); }
};

// Which positions the ring's rows hold once the run's rows are in it, and who sees them.
struct Place {
    int last;  // the run's last position, as far as it matters
    int newest, n_rows, window, run_rows;

    __device__ __forceinline__ Place(const Args& a, const DeviceRun& run)
        : last(static_cast<int>(min(run.position + run.n_rows - 1, int64_t{INT_MAX - 1}))),
          newest(a.ring.row_of(run.position + run.n_rows - 1)),
          n_rows(static_cast<int>(a.ring.n_rows)),
          window(a.ring.window == 0 ? INT_MAX : static_cast<int>(a.ring.window)),
          run_rows(run.n_rows) {}
    // How many tokens before the run's last one the row's token is; negative: none.
    __device__ __forceinline__ int age(int row) const {
        const int back = row <= newest ? newest - row : newest - row + n_rows;
        return row < n_rows && back <= last ? back : -1;
    }
    // The ring's row of the token so many before the run's last one, one of the run.
    __device__ __forceinline__ int row_of(int age) const {
        return newest >= age ? newest - age : newest - age + n_rows;
    }
    // By the run's row `query`.
    __device__ __forceinline__ bool visible(int query, int age) const {
        const int distance = age - (run_rows - 1 - query);
        return age >= 0 && distance >= 0 && distance < window;
    }
    __device__ __forceinline__ bool needed(int age) const {  // by any of the run's rows
        return age >= 0 && (age < run_rows || visible(0, age));
    }
};

// 64 ring rows of keys or values to shared memory; rows of the run itself come from the step and go to the ring.
template <class R, class Q>
__device__ __forceinline__ void load_rows(const Args& a, const DeviceRun& run, const Place& place, int kv_head,
                                          int first, bool values, bool append, typename R::Value* to, int stride) {
    const void* own = values ? a.v : a.k;
    char* ring = values ? a.ring.v : a.ring.k;
    using S = typename R::Value;
    const int parts = a.head_dim / 8, row_step = kCoreThreads / parts, column_step = kCoreThreads % parts;
    int row = threadIdx.x / parts, part = threadIdx.x % parts;
    while (row < kKeyBlock) {
        const int age = place.age(first + row), column = part * 8;
        char* at = ring + a.ring.offset(run.slot, kv_head, first + row);
        S* out = to + row * stride + column;
        if (age >= 0 && age < place.run_rows) {
            const int64_t own_row = run.first_row + (place.run_rows - 1 - age);
            R::store(static_cast<const Q*>(own) + own_row * a.stride + kv_head * a.head_dim, column,
                     append ? at : nullptr, out);
        } else if (!place.visible(0, age)) {
#pragma unroll
            for (int j = 0; j < 8; j++) out[j] = from_float<S>(0.0f);
        } else if constexpr (R::kPlain) {
            const S* from = reinterpret_cast<const S*>(at) + column;
            cp_async<16>(out, from);
            if constexpr (sizeof(S) == 4) cp_async<16>(out + 4, from + 4);
        } else {
            R::load(at, column, out);
        }
        row += row_step, part += column_step;
        if (part >= parts) part -= parts, row++;
    }
    cp_async_commit();
}

// Where a query's split puts its sums and its maximum.
__device__ __forceinline__ int64_t partial_of(const Args& a, const DeviceRun& run, int kv_head, int query) {
    const int of_run = a.row_of_query(query);
    const int64_t row = run.first_row - a.first_row + of_run;
    return (row * a.n_heads + kv_head * a.group + query - of_run * a.group) * gridDim.x;
}

}  // namespace samba::cuda::decode
