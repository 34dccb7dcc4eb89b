#include "kernels/cpu/limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "kernels/cpu/peak_kernels.h"

namespace samba {
namespace {

template <class F>
double seconds(F&& f) {
    auto start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The result only keeps the loads alive. Asking ahead reads a quarter more on a Granite Rapids.
uint64_t read_all(const char* p, size_t bytes) {
    using Line = uint64_t __attribute__((vector_size(64)));
    constexpr size_t kAhead = 1024;
    Line sum = {};
    for (size_t i = 0; i + sizeof(Line) <= bytes; i += sizeof(Line)) {
        __builtin_prefetch(p + i + kAhead);
        sum ^= *reinterpret_cast<const Line*>(p + i);
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

// Best of a few runs, each some 50 ms long.
double peak(ThreadPool& pool, double (*kernel)(int64_t rounds)) {
    if (!kernel) return 0;
    double best = 0;
    for (int i = 0; i < 4; ++i) {
        constexpr int64_t kRounds = 4'000'000;
        double operations = 0;
        double s = seconds([&] {
            pool.run([&](int thread, int) {
                double done = kernel(kRounds);
                if (thread == 0) operations = done;
            });
        });
        best = std::max(best, operations * pool.size() / s);
    }
    return best;
}

}  // namespace

double measure_read_bandwidth(ThreadPool& pool) {
    constexpr size_t kBytes = size_t{512} << 20;
    void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, kBytes, MADV_HUGEPAGE);
    auto* p = static_cast<char*>(memory);
    double best = 0;
    for (int i = 0; i < 9; ++i) {
        double s = seconds([&] {
            pool.run([&](int thread, int n_threads) {
                Range r = share(kBytes, thread, n_threads, 4096);
                if (i == 0) std::memset(p + r.first, 1, static_cast<size_t>(r.size()));
                uint64_t sum = read_all(p + r.first, static_cast<size_t>(r.size()));
                asm volatile("" : : "r"(sum));
            });
        });
        if (i > 0) best = std::max(best, static_cast<double>(kBytes) / s);
    }
    munmap(memory, kBytes);
    return best;
}

Peaks measure_peaks(ThreadPool& pool) {
#if defined(__x86_64__)
    if (pool.isa() != Isa::kPortable) {
        const PeakKernels& vectors = pool.isa() == Isa::kAvx2 ? kAvx2Peaks : kAvx512Peaks;
        const PeakKernels& products = pool.isa() == Isa::kAmx ? kAmxPeaks : vectors;
        return {peak(pool, vectors.f32), peak(pool, products.bf16), peak(pool, products.int8)};
    }
#endif
    return {};
}

}  // namespace samba
