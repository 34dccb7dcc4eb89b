#include "kernels/cpu/thread_pool.h"

#include <sched.h>

#include <chrono>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace samba {
namespace {

void pause_cpu() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

// A stage's work comes within microseconds of the last; after this long without any, a thread sleeps.
constexpr auto kSpinTime = std::chrono::microseconds(30);

// Returns the value of `a` once it differs from `old`: spins for a while, then sleeps in the kernel.
uint32_t wait_change(const std::atomic<uint32_t>& a, uint32_t old) {
    auto start = std::chrono::steady_clock::now();
    for (int i = 0;; ++i) {
        uint32_t now = a.load(std::memory_order_acquire);
        if (now != old) return now;
        pause_cpu();
        if (i % 32 == 31 && std::chrono::steady_clock::now() - start > kSpinTime)
            a.wait(old, std::memory_order_acquire);
    }
}

}  // namespace

FlushDenormals::FlushDenormals() {
#if defined(__x86_64__)
    constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
    saved_ = _mm_getcsr();
    _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
#else
    saved_ = 0;
#endif
}

FlushDenormals::~FlushDenormals() {
#if defined(__x86_64__)
    _mm_setcsr(saved_);
#endif
}

ThreadPool::ThreadPool(int n_threads, Isa isa) : n_threads_(n_threads > 0 ? n_threads : usable_cores()), isa_(isa) {
    for (int i = 1; i < n_threads_; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& w : workers_) w.join();
}

void ThreadPool::run_task(Task task, void* context) {
    FlushDenormals flush;
    if (n_threads_ == 1) return task(context, 0, 1);
    task_ = task;
    context_ = context;
    running_.store(static_cast<uint32_t>(n_threads_ - 1), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    task(context, 0, n_threads_);
    for (uint32_t left = running_.load(std::memory_order_acquire); left != 0;) left = wait_change(running_, left);
}

void ThreadPool::work(int thread) {
    FlushDenormals flush;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_change(generation_, seen);
        if (stop_.load(std::memory_order_relaxed)) return;
        task_(context_, thread, n_threads_);
        if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
}

void ThreadPool::barrier() {
    if (n_threads_ == 1) return;
    uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(n_threads_)) {
        arrived_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        phase_.notify_all();
    } else {
        wait_change(phase_, phase);
    }
}

int usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    std::set<std::pair<int, int>> cores;  // (package, core): hyper-threads of one core count once
    int cpus = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &set)) continue;
        ++cpus;
        std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        int package = 0, core = 0;
        if (std::ifstream(topology + "physical_package_id") >> package && std::ifstream(topology + "core_id") >> core) {
            cores.emplace(package, core);
        }
    }
    if (cores.empty()) return cpus > 0 ? cpus : 1;
    return static_cast<int>(cores.size());
}

}  // namespace samba
