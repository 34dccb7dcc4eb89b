// The CPU backend: ops run in submit(), on a pool of threads; weights are used from the mapped file as they lie.
#pragma once
#include <memory>
#include <optional>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

namespace samba {

struct CpuOptions {
    int threads = 0;              // 0: one for each physical core that this process may use
    int delay = 0;                // receive() lags so many steps behind submit(): tests of running ahead without a GPU
    std::optional<Isa> isa = {};  // lowers the instruction set; absent: what the CPU has
};

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options = {});

}  // namespace samba
