// The integer vectors of matmul_int8_kernel.h in AVX2: 8 rows of weights.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace samba {
namespace {

using vi = __m256i;
constexpr int kPanelRows = 8;
constexpr int kDirectRows = 3;      // rows of activations that take blocks as they are unpacked …
constexpr bool kTwoGroups = false;  // … or two groups of as many …
constexpr int kRowsAtOnce = 3;      // … of which so many are summed side by side
constexpr int kPanelActRows = 3;    // rows of activations that a pass over repacked panels takes …
constexpr int kPanels = 1;          // … and panels: 3 integer and 3 f32 sums, and their temporaries, in 16 registers
constexpr bool kWholeGroups = false;  // those may be a part of a group
constexpr bool kSignedDot = true;     // weights of 8 bits stay signed: unsigned ones could overflow 16-bit sums

inline vi iload(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline void istore(void* p, vi v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }
inline vi izero() { return _mm256_setzero_si256(); }
inline vi ibroadcast(const void* p) {
    int32_t x;
    std::memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
}
inline vf fbroadcast(const void* p) { return _mm256_castsi256_ps(ibroadcast(p)); }
inline vi either(vi a, vi b) { return _mm256_or_si256(a, b); }
inline vi flip_sign(vi v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
inline vf to_f32(vi v) { return _mm256_cvtepi32_ps(v); }

// Bytes.
inline vi low_nibbles(vi v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline vi high_nibbles(vi v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
// Bit n of each byte, as 16.
inline vi byte_bit(vi v, int n) {
    vi moved = n < 4 ? _mm256_slli_epi16(v, 4 - n) : _mm256_srli_epi16(v, n - 4);
    return _mm256_and_si256(moved, _mm256_set1_epi8(16));
}
// Bits n and n + 1 of each byte, times 16.
inline vi byte_pair(vi v, int n) {
    vi moved = n < 4 ? _mm256_slli_epi16(v, 4 - n) : _mm256_srli_epi16(v, n - 4);
    return _mm256_and_si256(moved, _mm256_set1_epi8(48));
}

// 32-bit lanes.
inline vi bits(vi v, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi32(v, shift), _mm256_set1_epi32(mask));
}
inline vi shift_left(vi v, int n) { return _mm256_slli_epi32(v, n); }
inline vi signed_byte(vi v, int i) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * i), 24); }
inline vf f16_low(vi v) {
    vi low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    low = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(low));
}
inline vf f16_high(vi v) { return f16_low(_mm256_srli_epi32(v, 16)); }

// Sums of products of unsigned weights of that many bits (8: signed) and signed activations, 4 a lane and step. Pairs
// are summed in 16 bits: kSteps steps of them stay below 2^15 (2 * 127 * largest weight each), then pairs of pairs
// in 32.
template <int Bits>
struct Dot {
    static constexpr int kSteps = Bits == 4 ? 8 : Bits == 5 ? 4 : Bits == 6 ? 2 : 1;
    vi sum, pairs;

    void start(vi initial) { sum = initial; }
    void add_broadcast(int step, vi w, const void* x) { add(step, w, ibroadcast(x)); }
    void add(int step, vi w, vi x) {
        vi p =
            Bits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)) : _mm256_maddubs_epi16(w, x);
        pairs = step % kSteps == 0 ? p : _mm256_add_epi16(pairs, p);
        if (step % kSteps == kSteps - 1) {
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }
    vi total() const { return sum; }
};

// An f16 of each row.
inline vf load_f16(const char* p, int64_t stride) { return _mm256_cvtph_ps(load_spread_halves(p, stride)); }

// In each 128-bit lane, 4 x 4 values of 32 bits are transposed.
inline void transpose_lanes(vi& a, vi& b, vi& c, vi& d) {
    vi ab = _mm256_unpacklo_epi32(a, b), ab2 = _mm256_unpackhi_epi32(a, b);
    vi cd = _mm256_unpacklo_epi32(c, d), cd2 = _mm256_unpackhi_epi32(c, d);
    a = _mm256_unpacklo_epi64(ab, cd);
    b = _mm256_unpackhi_epi64(ab, cd);
    c = _mm256_unpacklo_epi64(ab2, cd2);
    d = _mm256_unpackhi_epi64(ab2, cd2);
}
// 32 bytes of each row: w[i] holds bytes 4 i … 4 i + 3 of every row.
inline void load_rows(const char* p, int64_t stride, vi (&w)[8]) {
    vi v[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i * stride));
    transpose_lanes(v[0], v[1], v[2], v[3]);
    transpose_lanes(v[4], v[5], v[6], v[7]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        w[i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x20);
        w[4 + i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x31);
    }
}
// 16 bytes of each row.
inline void load_heads(const char* p, int64_t stride, vi (&w)[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        auto half = [&](int row) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + row * stride)); };
        w[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(half(i)), half(4 + i), 1);
    }
    transpose_lanes(w[0], w[1], w[2], w[3]);
}

inline int32_t sum_lanes(vi v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

// 32 activations -> 8 bits; returns the scale, and the sums of both halves in `half`.
inline float quantize_32(const float* x, int8_t* q, int32_t (&half)[2]) {
    vf v[4], largest = vabs(vload(x));
    for (int i = 0; i < 4; ++i) {
        v[i] = vload(x + 8 * i);
        largest = vmax(largest, vabs(v[i]));
    }
    float amax = vmax_lane(largest);
    vf inverse = vset(amax > 0 ? 127.0f / amax : 0.0f);
    vi n[4];
    for (int i = 0; i < 4; ++i) n[i] = _mm256_cvtps_epi32(v[i] * inverse);
    // Packing works within 128-bit lanes: the groups of four come out as 0 2 4 6 | 1 3 5 7.
    vi bytes = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
    half[0] = sum_lanes(_mm256_add_epi32(n[0], n[1]));
    half[1] = sum_lanes(_mm256_add_epi32(n[2], n[3]));
    return amax / 127.0f;
}

}  // namespace
}  // namespace samba
