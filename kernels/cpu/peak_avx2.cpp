#include <immintrin.h>

#include "kernels/cpu/peak_kernels.h"

namespace samba {
namespace {

constexpr int kChains = 12;  // more than latency times units

// The compiler must neither drop nor simplify the sums.
template <class Vector, class Step>
double run(int64_t rounds, Vector start, int operations, Step step) {
    Vector sums[kChains];
    for (Vector& s : sums) s = start;
    for (int64_t k = 0; k < rounds; ++k) {
#pragma GCC unroll 12
        for (Vector& s : sums) s = step(s);
    }
    for (Vector& s : sums) asm volatile("" : "+x"(s));
    return static_cast<double>(rounds) * kChains * operations;
}

double f32(int64_t rounds) {
    __m256 m = _mm256_set1_ps(0.99f);
    return run(rounds, m, 16, [&](__m256 s) { return _mm256_fmadd_ps(s, m, m); });
}
// 32 products and sums of pairs, then of fours, then added: three instructions.
double int8(int64_t rounds) {
    __m256i m = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    return run(rounds, m, 64,
               [&](__m256i s) { return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(m, s), ones)); });
}

}  // namespace

const PeakKernels kAvx2Peaks = {f32, nullptr, int8};

}  // namespace samba
