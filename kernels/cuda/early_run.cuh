// What a kernel may load before grid_wait(): states and rings as the step before has left them, and what the host has
// set for a slot, found by a table of runs that may not be this step's yet. So it looks again when the wait is over,
// and mostly finds what it has assumed: embed writes the table when everything of the step before has ended, and loads
// here follow that of the table (they need its values) past L1.
#pragma once
#include "kernels/cuda/tables.h"

namespace samba::cuda {

__device__ __forceinline__ DeviceRun load_run(const DeviceRun* p) {
    static_assert(sizeof(DeviceRun) == 24);
    const auto* words = reinterpret_cast<const uint64_t*>(p);
    const uint64_t w[3] = {__ldcg(words), __ldcg(words + 1), __ldcg(words + 2)};
    DeviceRun run;
    run.position = static_cast<int64_t>(w[0]);
    run.slot = static_cast<int32_t>(w[1]), run.first_row = static_cast<int32_t>(w[1] >> 32);
    run.n_rows = static_cast<int32_t>(w[2]), run.from_sample = static_cast<int32_t>(w[2] >> 32);
    return run;
}

// Whether both find the same rows of a state or of a ring.
__device__ __forceinline__ bool same_place(const DeviceRun& a, const DeviceRun& b) {
    return a.position == b.position && a.slot == b.slot && a.n_rows == b.n_rows;
}

}  // namespace samba::cuda
