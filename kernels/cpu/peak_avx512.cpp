#include <immintrin.h>

#include "kernels/cpu/peak_kernels.h"

namespace samba {
namespace {

constexpr int kChains = 16;  // more than latency times units

// The compiler must neither drop nor simplify the sums.
template <class Vector, class Step>
double run(int64_t rounds, Vector start, int operations, Step step) {
    Vector sums[kChains];
    for (Vector& s : sums) s = start;
    for (int64_t k = 0; k < rounds; ++k) {
#pragma GCC unroll 16
        for (Vector& s : sums) s = step(s);
    }
    for (Vector& s : sums) asm volatile("" : "+v"(s));
    return static_cast<double>(rounds) * kChains * operations;
}

double f32(int64_t rounds) {
    __m512 m = _mm512_set1_ps(0.99f);
    return run(rounds, m, 32, [&](__m512 s) { return _mm512_fmadd_ps(s, m, m); });
}
double bf16(int64_t rounds) {
    auto m = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
    return run(rounds, _mm512_set1_ps(1.0f), 64, [&](__m512 s) { return _mm512_dpbf16_ps(s, m, m); });
}
double int8(int64_t rounds) {
    __m512i m = _mm512_set1_epi8(1);
    return run(rounds, m, 128, [&](__m512i s) { return _mm512_dpbusd_epi32(s, m, m); });
}

}  // namespace

const PeakKernels kAvx512Peaks = {f32, bf16, int8};

}  // namespace samba
