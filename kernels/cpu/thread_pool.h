// Where ops run: a fixed number of threads, and the instruction set of their kernels.
// Every thread that runs ops flushes denormals to zero (FTZ, DAZ), so results do not depend on who computes them.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/cpu/isa.h"

namespace samba {

// Items first … last - 1 of some work.
struct Range {
    int64_t first = 0, last = 0;
    int64_t size() const { return last - first; }
};

// The share of a thread in n items: contiguous, whole tiles but for the end of the last.
inline Range share(int64_t n, int thread, int n_threads, int64_t tile = 1) {
    int64_t tiles = (n + tile - 1) / tile;
    int64_t first = tiles * thread / n_threads * tile, last = tiles * (thread + 1) / n_threads * tile;
    return {first < n ? first : n, last < n ? last : n};
}

class ThreadPool {
  public:
    // n_threads counts the caller; 0: one for each physical core that this process may use.
    explicit ThreadPool(int n_threads = 0, Isa isa = cpu_isa());
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;

    int size() const { return n_threads_; }
    Isa isa() const { return isa_; }

    // Calls f(thread, n_threads) on every thread, the caller being thread 0, and returns when all have returned.
    // f must not throw. One run at a time; only from the thread that owns the pool.
    template <class F>
    void run(F&& f) {
        using Fn = std::remove_reference_t<F>;
        run_task([](void* context, int thread, int n) { (*static_cast<Fn*>(context))(thread, n); },
                 const_cast<void*>(static_cast<const void*>(&f)));
    }

    // Inside a run: returns when every thread of the pool has called it. For stages of two dependent halves.
    void barrier();

  private:
    using Task = void (*)(void* context, int thread, int n_threads);
    void run_task(Task task, void* context);
    void work(int thread);

    int n_threads_;
    Isa isa_;
    Task task_ = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<uint32_t> generation_{0};  // of the task; a change wakes the workers
    alignas(64) std::atomic<uint32_t> running_{0};     // workers that have not returned yet
    alignas(64) std::atomic<uint32_t> arrived_{0};     // at the barrier
    alignas(64) std::atomic<uint32_t> phase_{0};       // of the barrier
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

// Physical cores among those that this process may run on (its affinity mask); at least 1.
int usable_cores();

// Sets FTZ and DAZ on this thread while it lives. A pool's threads have them set already.
class FlushDenormals {
  public:
    FlushDenormals();
    ~FlushDenormals();
    FlushDenormals(const FlushDenormals&) = delete;

  private:
    unsigned saved_;
};

}  // namespace samba
