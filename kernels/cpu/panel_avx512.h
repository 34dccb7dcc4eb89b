// The integer vectors of matmul_int8_kernel.h in AVX-512 with VNNI: 16 rows of weights.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace samba {
namespace {

using vi = __m512i;
constexpr int kPanelRows = 16;
constexpr int kDirectRows = 8;       // rows of activations that take blocks as they are unpacked …
constexpr bool kTwoGroups = true;    // … or two groups of as many …
constexpr int kRowsAtOnce = 4;       // … of which so many are summed side by side
constexpr int kPanelActRows = 6;     // rows of activations that a pass over repacked panels takes …
constexpr int kPanels = 2;           // … and panels: 12 integer and 12 f32 sums in 32 registers
constexpr bool kWholeGroups = true;  // all those are the rows of a group
constexpr bool kSignedDot = false;   // dot products take unsigned weights

inline vi iload(const void* p) { return _mm512_load_si512(p); }
inline void istore(void* p, vi v) { _mm512_store_si512(p, v); }
inline vi izero() { return _mm512_setzero_si512(); }
inline vi ibroadcast(const void* p) {
    int32_t x;
    std::memcpy(&x, p, sizeof x);
    return _mm512_set1_epi32(x);
}
inline vf fbroadcast(const void* p) { return _mm512_castsi512_ps(ibroadcast(p)); }
inline vi either(vi a, vi b) { return _mm512_or_si512(a, b); }
inline vi flip_sign(vi v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
inline vf to_f32(vi v) { return _mm512_cvtepi32_ps(v); }

// Bytes.
inline vi low_nibbles(vi v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline vi high_nibbles(vi v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
// Bit n of each byte, as 16.
inline vi byte_bit(vi v, int n) {
    vi moved =
        n < 4 ? _mm512_slli_epi16(v, static_cast<unsigned>(4 - n)) : _mm512_srli_epi16(v, static_cast<unsigned>(n - 4));
    return _mm512_and_si512(moved, _mm512_set1_epi8(16));
}
// Bits n and n + 1 of each byte, times 16.
inline vi byte_pair(vi v, int n) {
    vi moved =
        n < 4 ? _mm512_slli_epi16(v, static_cast<unsigned>(4 - n)) : _mm512_srli_epi16(v, static_cast<unsigned>(n - 4));
    return _mm512_and_si512(moved, _mm512_set1_epi8(48));
}

// 32-bit lanes.
inline vi bits(vi v, int shift, int mask) {
    return _mm512_and_si512(_mm512_srli_epi32(v, static_cast<unsigned>(shift)), _mm512_set1_epi32(mask));
}
inline vi shift_left(vi v, int n) { return _mm512_slli_epi32(v, static_cast<unsigned>(n)); }
inline vi signed_byte(vi v, int i) {
    return _mm512_srai_epi32(_mm512_slli_epi32(v, static_cast<unsigned>(24 - 8 * i)), 24);
}
inline vf f16_low(vi v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
inline vf f16_high(vi v) { return f16_low(_mm512_srli_epi32(v, 16)); }

// Sums of products of unsigned weights and signed activations, 4 a lane and step. Bits: of the weights.
template <int Bits>
struct Dot {
    vi sum;
    void start(vi initial) { sum = initial; }
    void add(int, vi w, vi x) { sum = _mm512_dpbusd_epi32(sum, w, x); }
    // x: 4 bytes. (GCC 12 would broadcast them by an instruction of its own.)
    void add_broadcast(int, vi w, const void* x) {
        asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*static_cast<const int32_t*>(x)));
    }
    vi total() const { return sum; }
};

// An f16 of each row. (A gather takes longer.)
inline vf load_f16(const char* p, int64_t stride) {
    return _mm512_cvtph_ps(
        _mm256_setr_m128i(load_spread_halves(p, stride), load_spread_halves(p + 8 * stride, stride)));
}

// In each 128-bit lane, 4 x 4 values of 32 bits are transposed.
inline void transpose_lanes(vi& a, vi& b, vi& c, vi& d) {
    vi ab = _mm512_unpacklo_epi32(a, b), ab2 = _mm512_unpackhi_epi32(a, b);
    vi cd = _mm512_unpacklo_epi32(c, d), cd2 = _mm512_unpackhi_epi32(c, d);
    a = _mm512_unpacklo_epi64(ab, cd);
    b = _mm512_unpackhi_epi64(ab, cd);
    c = _mm512_unpacklo_epi64(ab2, cd2);
    d = _mm512_unpackhi_epi64(ab2, cd2);
}

inline vi join(const char* a, const char* b) {
    vi low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
    return _mm512_inserti64x4(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)), 1);
}
// 32 bytes of each row: w[i] holds bytes 4 i … 4 i + 3 of every row.
inline void load_rows(const char* p, int64_t stride, vi (&w)[8]) {
    vi v[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        v[i] = join(p + i * stride, p + (4 + i) * stride);
        v[4 + i] = join(p + (8 + i) * stride, p + (12 + i) * stride);
    }
    transpose_lanes(v[0], v[1], v[2], v[3]);
    transpose_lanes(v[4], v[5], v[6], v[7]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        w[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
        w[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
    }
}
// 16 bytes of each row.
inline void load_heads(const char* p, int64_t stride, vi (&w)[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        auto quarter = [&](int row) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + row * stride)); };
        vi v = _mm512_castsi128_si512(quarter(i));
        v = _mm512_inserti32x4(v, quarter(4 + i), 1);
        v = _mm512_inserti32x4(v, quarter(8 + i), 2);
        w[i] = _mm512_inserti32x4(v, quarter(12 + i), 3);
    }
    transpose_lanes(w[0], w[1], w[2], w[3]);
}

// 32 activations -> 8 bits; returns the scale, the sums of both halves in `half`.
inline float quantize_32(const float* x, int8_t* q, int32_t (&half)[2]) {
    vf a = vload(x), b = vload(x + 16);
    float amax = vmax_lane(vmax(vabs(a), vabs(b)));
    vf inverse = vset(amax > 0 ? 127.0f / amax : 0.0f);
    vi ia = _mm512_cvtps_epi32(a * inverse), ib = _mm512_cvtps_epi32(b * inverse);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtsepi32_epi8(ia));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + 16), _mm512_cvtsepi32_epi8(ib));
    half[0] = _mm512_reduce_add_epi32(ia);
    half[1] = _mm512_reduce_add_epi32(ib);
    return amax / 127.0f;
}

}  // namespace
}  // namespace samba
