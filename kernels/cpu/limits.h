// What this machine can do at most, measured: the denominators of every speed that is reported.
#pragma once
#include "kernels/cpu/thread_pool.h"

namespace samba {

// Bytes a second that the pool's threads read together from memory (a buffer far larger than any cache, the best of a
// few passes). Takes about a second.
double measure_read_bandwidth(ThreadPool& pool);

// Operations a second (a multiplication and an addition count as two) that the pool's threads do together in registers
// with the pool's instruction set; 0 where it has no such instruction. Takes about half a second.
struct Peaks {
    double f32 = 0, bf16 = 0, int8 = 0;
};
Peaks measure_peaks(ThreadPool& pool);

}  // namespace samba
