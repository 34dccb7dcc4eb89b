// Loops of independent multiply-adds in registers, for measure_peaks; one table for each instruction set.
#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace samba {

// Each does `rounds` rounds and returns how many operations those were; null: no such instruction.
struct PeakKernels {
    double (*f32)(int64_t rounds);
    double (*bf16)(int64_t rounds);
    double (*int8)(int64_t rounds);
};
#if defined(__x86_64__)
extern const PeakKernels kAvx2Peaks, kAvx512Peaks, kAmxPeaks;
#endif

}  // namespace samba
