// Where ops run: shares, runs, barriers, denormals, and the choice of the instruction set.
#include "kernels/cpu/thread_pool.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "kernels/error.h"
#include "tests/kernels/harness.h"

using namespace samba;

namespace {

// 1e-38 / 1e4 is denormal: 0 where denormals are flushed.
float denormal() {
    volatile float small = 1e-38f, divisor = 1e4f;
    return small / divisor;
}

struct Environment {  // a variable set for a while
    explicit Environment(const char* value) { setenv("SAMBA_LM_ISA", value, 1); }
    ~Environment() { unsetenv("SAMBA_LM_ISA"); }
};

}  // namespace

TEST_CASE("shares are contiguous, in whole tiles, and cover everything once") {
    for (int64_t n : {0, 1, 15, 16, 17, 100, 3072}) {
        for (int threads : {1, 2, 3, 16, 64}) {
            for (int64_t tile : {1, 16}) {
                int64_t next = 0;
                for (int t = 0; t < threads; ++t) {
                    Range r = share(n, t, threads, tile);
                    CHECK(r.first == next);
                    CHECK(r.last >= r.first);
                    CHECK((r.last == n || r.last % tile == 0));
                    next = r.last;
                }
                CHECK(next == n);
            }
        }
    }
}

TEST_CASE("a run calls its function once on every thread, the caller being the first, also after a pause") {
    for (int threads : {1, 2, 5}) {
        ThreadPool pool(threads, Isa::kPortable);
        CHECK(pool.size() == threads);
        for (int round = 0; round < 50; ++round) {
            std::vector<int> calls(static_cast<size_t>(threads));
            std::thread::id first;
            pool.run([&](int thread, int n) {
                calls[static_cast<size_t>(thread)] += n;
                if (thread == 0) first = std::this_thread::get_id();
            });
            CHECK(calls == std::vector<int>(static_cast<size_t>(threads), threads));
            CHECK(first == std::this_thread::get_id());
            // Longer than workers spin: they have gone to sleep and are woken.
            if (round % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
}

TEST_CASE("nobody passes a barrier before everybody has come to it") {
    ThreadPool pool(4, Isa::kPortable);
    for (int round = 0; round < 20; ++round) {
        std::vector<int> before(4), seen(4), seen_again(4);
        pool.run([&](int thread, int n) {
            auto sum = [&] {
                int s = 0;
                for (int b : before) s += b;
                return s;
            };
            before[static_cast<size_t>(thread)] = 1;
            pool.barrier();
            seen[static_cast<size_t>(thread)] = sum();
            pool.barrier();
            before[static_cast<size_t>(thread)] = n;
            pool.barrier();
            seen_again[static_cast<size_t>(thread)] = sum();
        });
        CHECK(seen == std::vector<int>(4, 4));
        CHECK(seen_again == std::vector<int>(4, 16));
    }
}

TEST_CASE("denormals are flushed on every thread of a run, and the caller's mode comes back") {
    ThreadPool pool(3, Isa::kPortable);
    CHECK(denormal() > 0);
    std::vector<float> results(3, 1.0f);
    pool.run([&](int thread, int) { results[static_cast<size_t>(thread)] = denormal(); });
    CHECK(results == std::vector<float>(3, 0.0f));
    CHECK(denormal() > 0);
}

TEST_CASE("a pool without a number of threads has one for each usable core") {
    CHECK(usable_cores() >= 1);
    CHECK(ThreadPool().size() == usable_cores());
}

TEST_CASE("SAMBA_LM_ISA lowers the instruction set, and nothing else") {
    Isa best = cpu_isa();
    {
        Environment e("portable");
        CHECK(cpu_isa() == Isa::kPortable);
    }
    {
        Environment e("avx2");
        CHECK(cpu_isa() <= Isa::kAvx2);
    }
    {
        Environment e("amx");
        CHECK(cpu_isa() == best);
    }
    {
        Environment e("sse9");
        CHECK_THROWS_WITH(cpu_isa(), Catch::Contains("sse9") && Catch::Contains("avx2"));
        CHECK_THROWS_AS(cpu_isa(), UsageError);
    }
    CHECK(cpu_isa() == best);
}
