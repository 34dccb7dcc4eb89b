// What a step's kernels know of its sequences: tables in device memory, so that one captured graph serves any slot,
// position and token. The host writes `next` only where a step does not simply continue the one before it.
#pragma once
#include <cstdint>

namespace samba::cuda {

struct DeviceRun {
    int64_t position;  // of the run's first row
    int32_t slot;
    int32_t first_row;
    int32_t n_rows;
    int32_t from_sample;  // the token is sampled[slot]
};

struct StepCount {
    uint64_t next, now;  // steps are counted from 1; a result carries the number of its step
};

// Rows of a prefill step are worked on in tiles of one run.
inline constexpr int kTileRows = 128;
struct Tile {
    int32_t run;
    int32_t first;  // row within the run
};

// Pointers into device memory. `embed` copies next to now and advances next; all other kernels read `now`.
struct Tables {
    StepCount* count = nullptr;
    DeviceRun* next = nullptr;  // (n_runs)
    DeviceRun* now = nullptr;
    int32_t* tokens = nullptr;         // (n_rows)
    const Tile* tiles = nullptr;       // of the runs, in order
    int32_t* sampled = nullptr;        // (n_slots): what the slot's last `sample` drew
    int32_t* history = nullptr;        // (n_slots, kHistory): the token of position p at p mod kHistory
    int64_t* history_start = nullptr;  // (n_slots): no token before this position is known
};

// The step as the host knows it: its shape.
struct StepShape {
    bool decode = false;
    int n_runs = 0;
    int n_rows = 0;
    int max_run_rows = 0;
    int n_tiles = 0;
};

}  // namespace samba::cuda
