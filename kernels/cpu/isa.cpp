#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string>

#include "kernels/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace samba {
namespace {

constexpr Isa kAll[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

#if defined(__x86_64__)
// CPUID leaf 7: AMX-BF16, AMX-TILE, AMX-INT8 in EDX; then the kernel must grant the 8 KB of tile state.
bool amx_granted() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;
    if ((d & kNeeded) != kNeeded) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Isa detect() {
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
          __builtin_cpu_supports("bmi2"))) {
        return Isa::kPortable;
    }
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"))) {
        return Isa::kAvx2;
    }
    return amx_granted() ? Isa::kAmx : Isa::kAvx512;
}
#else
Isa detect() { return Isa::kPortable; }
#endif

}  // namespace

const char* isa_name(Isa isa) {
    constexpr const char* kNames[] = {"portable", "avx2", "avx512", "amx"};
    return kNames[static_cast<int>(isa)];
}

Isa cpu_isa() {
    static const Isa detected = detect();
    const char* wanted = std::getenv("SAMBA_LM_ISA");
    if (!wanted || !*wanted) return detected;
    for (Isa isa : kAll) {
        if (isa_name(isa) == std::string(wanted)) return isa < detected ? isa : detected;
    }
    throw UsageError("SAMBA_LM_ISA is '" + std::string(wanted) + "'; it may be portable, avx2, avx512 or amx");
}

bool asks_in_file_order() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_is("amd") != 0;
#else
    return false;
#endif
}

}  // namespace samba
