// Prints what this machine can do at most, as one JSON object: the denominators of compare_llama.py.
//   bench_limits THREADS
#include <cstdio>
#include <cstdlib>

#include "kernels/cpu/limits.h"

int main(int argc, char** argv) {
    samba::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 0);
    double bytes = samba::measure_read_bandwidth(pool);
    samba::Peaks peaks = samba::measure_peaks(pool);
    std::printf("{\"read_gb_per_s\": %.1f, \"f32_gflops\": %.0f, \"bf16_gflops\": %.0f, \"int8_gflops\": %.0f}\n",
                bytes / 1e9, peaks.f32 / 1e9, peaks.bf16 / 1e9, peaks.int8 / 1e9);
}
