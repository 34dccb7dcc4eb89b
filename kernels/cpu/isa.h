// The instruction sets that kernels are written for. Which one runs is fixed by the CPU's features alone; the variable
// SAMBA_LM_ISA=portable|avx2|avx512|amx lowers the choice, for tests and measurements.
#pragma once

namespace samba {

enum class Isa {
    kPortable,  // plain C++
    kAvx2,      // AVX2, FMA, F16C, BMI2
    kAvx512,    // and AVX-512 F, BW, VL, DQ, VNNI, BF16
    kAmx,       // and AMX tiles for bf16 and int8
};

const char* isa_name(Isa isa);  // "portable", "avx2", "avx512", "amx"

// The best set of this CPU and system, lowered by SAMBA_LM_ISA. Asked for once at start; throws UsageError when the
// variable holds another word. AMX counts only when the kernel grants this process its tile state,
// which it is asked for here: nothing may run in kAmx before.
Isa cpu_isa();

// How a product asks for the weights that it will need: a tile of rows ahead in the order in which they lie in memory,
// or every row of a tile as a stream of its own, a little ahead. Measured: on a Zen 4 the first reads a tenth to a
// fifth more a second, on a Granite Rapids the second does.
bool asks_in_file_order();

}  // namespace samba
