// A vector of floats of the instruction set that the including file is compiled for: 16, 8 or 4 lanes.
// Only for files compiled once for each set (ops_avx512.cpp and its like). Everything has internal linkage, so that
// no function with instructions of one set can be taken by the linker for another.
#pragma once
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#ifndef __clang__  // GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace samba {
namespace {

#if defined(__AVX2__)
// Eight values of 16 bits, so many bytes apart.
inline __m128i load_spread_halves(const char* p, int64_t stride) {
    auto half = [&](int i) {
        int16_t h;
        __builtin_memcpy(&h, p + i * stride, sizeof h);
        return h;
    };
    return _mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7));
}
#endif

#if defined(__AVX512F__)

using vf = __m512;
constexpr int kLanes = 16;
inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline vf vset(float x) { return _mm512_set1_ps(x); }
inline vf vload(const float* p) { return _mm512_loadu_ps(p); }
inline void vstore(float* p, vf x) { _mm512_storeu_ps(p, x); }
// The first n lanes; the others are 0, and are not touched in memory.
inline vf vload_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void vstore_n(float* p, vf x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }
inline vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
inline vf vfnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
// A NaN in b is returned.
inline vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
inline vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
inline vf vabs(vf x) { return _mm512_abs_ps(x); }
inline vf vround(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline vf vscale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }  // x 2^n, n whole
// a <= b && b <= c ? x : y
inline vf vselect_between(vf a, vf b, vf c, vf x, vf y) {
    __mmask16 m = _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
    return _mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask(m, b, c, _CMP_LE_OQ), y, x);
}
inline bool vany_differs(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) != 0; }
inline float vsum(vf x) { return _mm512_reduce_add_ps(x); }
inline float vmax_lane(vf x) { return _mm512_reduce_max_ps(x); }

inline vf vload_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline vf vload_f16_n(const uint16_t* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline vf vset_f16(uint16_t h) { return vset(_cvtsh_ss(h)); }
inline void vstore_f16_n(uint16_t* p, vf x, int n) {
    __m256i h = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, first_lanes(n), h);
}
inline vf vround_f16(vf x) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline vf widen_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
inline vf vload_bf16(const uint16_t* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline vf vload_bf16_n(const uint16_t* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline vf vload_i8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline __m512i vbits(vf x) { return _mm512_castps_si512(x); }
inline vf vround_bf16(vf x) {
    __m512i u = vbits(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                              _mm512_or_si512(u, _mm512_set1_epi32(1 << 22)));
    return _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// r[i][j] <-> r[j][i]
inline void transpose(vf (&r)[16]) {
    vf t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 2; ++j) {
            __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int i = 0; i < 4; ++i) {  // now r[4 g + i] holds column 4 k + i of rows 4 g … 4 g + 3 in its 128-bit lane k
        t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

// Lane i: the sum of the lanes of r[i], in the same order for every i.
inline vf sum_rows(vf (&r)[16]) {
    vf t[8], u[4], v[2];
    for (int i = 0; i < 8; ++i) {
        t[i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]) + _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
        __m512d a = _mm512_castps_pd(t[2 * i]), b = _mm512_castps_pd(t[2 * i + 1]);
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)) + _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
    for (int i = 0; i < 2; ++i) {
        vf a = u[2 * i], b = u[2 * i + 1];
        v[i] = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
    }
    return _mm512_shuffle_f32x4(v[0], v[1], 0x88) + _mm512_shuffle_f32x4(v[0], v[1], 0xdd);
}

// Four values at each of four places.
inline vf load_quads(const float* p, int64_t step) {
    __m512 r = _mm512_castps128_ps512(_mm_loadu_ps(p));
    r = _mm512_insertf32x4(r, _mm_loadu_ps(p + step), 1);
    r = _mm512_insertf32x4(r, _mm_loadu_ps(p + 2 * step), 2);
    return _mm512_insertf32x4(r, _mm_loadu_ps(p + 3 * step), 3);
}
// Transposes the 4 x 4 values in each 128-bit lane.
inline void transpose_quads(vf (&r)[4]) {
    __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1])), b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3])), d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    r[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
}

#elif defined(__AVX2__)

using vf = __m256;
constexpr int kLanes = 8;
inline __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline vf vset(float x) { return _mm256_set1_ps(x); }
inline vf vload(const float* p) { return _mm256_loadu_ps(p); }
inline void vstore(float* p, vf x) { _mm256_storeu_ps(p, x); }
inline vf vload_n(const float* p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
inline void vstore_n(float* p, vf x, int n) { _mm256_maskstore_ps(p, first_lanes(n), x); }
inline vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
inline vf vfnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
inline vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
inline vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
inline vf vabs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
inline vf vround(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline vf vscale2(vf x, vf n) {
    n = vmin(vset(128.0f), vmax(vset(-127.0f), n));
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}
inline vf vselect_between(vf a, vf b, vf c, vf x, vf y) {
    vf m = _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ), _mm256_cmp_ps(b, c, _CMP_LE_OQ));
    return _mm256_blendv_ps(y, x, m);
}
inline bool vany_differs(vf a, vf b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0; }
inline float vsum(vf x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float vmax_lane(vf x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline __m128i load_halves_n(const uint16_t* p, int n) {
    alignas(16) uint16_t h[8] = {};
    for (int i = 0; i < n; ++i) h[i] = p[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(h));
}
inline vf vload_f16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline vf vload_f16_n(const uint16_t* p, int n) { return _mm256_cvtph_ps(load_halves_n(p, n)); }
inline vf vset_f16(uint16_t h) { return vset(_cvtsh_ss(h)); }
inline void vstore_f16_n(uint16_t* p, vf x, int n) {
    alignas(16) uint16_t h[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(h), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    for (int i = 0; i < n; ++i) p[i] = h[i];
}
inline vf vround_f16(vf x) { return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
inline vf widen_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
inline vf vload_bf16(const uint16_t* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline vf vload_bf16_n(const uint16_t* p, int n) { return widen_bf16(load_halves_n(p, n)); }
inline vf vload_i8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline vf vround_bf16(vf x) {
    __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(1 << 22)), nan);
    return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline void transpose(vf (&r)[8]) {
    vf t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; ++j) {
            __m256d a = _mm256_castps_pd(t[i + j]), b = _mm256_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
        }
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
}

inline vf sum_rows(vf (&r)[8]) {
    vf t[4], u[2];
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]) + _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        __m256d a = _mm256_castps_pd(t[2 * i]), b = _mm256_castps_pd(t[2 * i + 1]);
        u[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)) + _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
    return _mm256_permute2f128_ps(u[0], u[1], 0x20) + _mm256_permute2f128_ps(u[0], u[1], 0x31);
}

inline vf load_quads(const float* p, int64_t step) { return _mm256_loadu2_m128(p + step, p); }
inline void transpose_quads(vf (&r)[4]) {
    __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1])), b = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3])), d = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    r[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    r[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    r[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    r[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
}

#else  // any machine, through the compiler's own vectors

using vf = float __attribute__((vector_size(16)));
using vi = int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;

inline vf vset(float x) { return vf{x, x, x, x}; }
inline vi vbits(vf x) { return reinterpret_cast<vi>(x); }
inline vf vfloat(vi x) { return reinterpret_cast<vf>(x); }
inline vf vload(const float* p) {
    vf x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
inline void vstore(float* p, vf x) { __builtin_memcpy(p, &x, sizeof x); }
inline vf vload_n(const float* p, int n) {
    vf x = {};
    for (int i = 0; i < n; ++i) x[i] = p[i];
    return x;
}
inline void vstore_n(float* p, vf x, int n) {
    for (int i = 0; i < n; ++i) p[i] = x[i];
}
inline vf vfma(vf a, vf b, vf c) { return a * b + c; }  // two roundings: no fused product is assumed
inline vf vfnma(vf a, vf b, vf c) { return c - a * b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vf vmin(vf a, vf b) { return a < b ? a : b; }
inline vf vabs(vf x) { return vfloat(vbits(x) & 0x7fffffff); }
// Exact below 2^22; larger ones come out as some large number.
inline vf vround(vf x) {
    vf magic = vset(12582912.0f);
    return (x + magic) - magic;
}
inline vf vscale2(vf x, vf n) {
    n = vmin(vset(128.0f), vmax(vset(-127.0f), n));
    vi e = __builtin_convertvector(n, vi) + 127;
    return x * vfloat(e << 23);
}
inline vf vselect_between(vf a, vf b, vf c, vf x, vf y) { return ((a <= b) & (b <= c)) ? x : y; }
inline bool vany_differs(vf a, vf b) {
    vi d = a != b;
    return (d[0] | d[1] | d[2] | d[3]) != 0;
}
inline float vsum(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float vmax_lane(vf x) {
    float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}

inline vi load_halves(const uint16_t* p) {
    uint16_t h __attribute__((vector_size(8)));
    __builtin_memcpy(&h, p, sizeof h);
    return __builtin_convertvector(h, vi);
}
inline vi load_halves_n(const uint16_t* p, int n) {
    vi h = {};
    for (int i = 0; i < n; ++i) h[i] = p[i];
    return h;
}
// No f32 denormal arises on the way: DAZ would drop it.
inline vf widen_f16(vi h) {
    vi sign = (h & 0x8000) << 16, magnitude = h & 0x7fff;
    vi normal = (magnitude << 13) + (112 << 23), special = normal + (112 << 23);
    vi tiny = vbits(__builtin_convertvector(magnitude, vf) * 0x1p-24f);
    vi r = magnitude < 0x400 ? tiny : (magnitude >= 0x7c00 ? special : normal);
    return vfloat(r | sign);
}
inline vf vload_f16(const uint16_t* p) { return widen_f16(load_halves(p)); }
inline vf vload_f16_n(const uint16_t* p, int n) { return widen_f16(load_halves_n(p, n)); }
inline vf vset_f16(uint16_t h) { return widen_f16(vi{} + h); }
// Round to nearest even in integers; what is below the normal range is rounded by an addition of equal spacing.
inline vi narrow_f16(vf x) {
    vi u = vbits(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
    vi normal = (a - (112 << 23) + 0xfff + ((a >> 13) & 1)) >> 13;
    vi tiny = vbits(vfloat(a) + vset(0.5f)) - vbits(vset(0.5f));
    vi r = a < (113 << 23) ? tiny : normal;
    r = r > 0x7c00 ? (vi{} + 0x7c00) : r;
    r = a > 0x7f800000 ? (vi{} + 0x7e00) : r;
    return r | sign;
}
inline void vstore_f16_n(uint16_t* p, vf x, int n) {
    vi h = narrow_f16(x);
    for (int i = 0; i < n; ++i) p[i] = static_cast<uint16_t>(h[i]);
}
inline vf vround_f16(vf x) { return widen_f16(narrow_f16(x)); }
inline vf vload_bf16(const uint16_t* p) { return vfloat(load_halves(p) << 16); }
inline vf vload_bf16_n(const uint16_t* p, int n) { return vfloat(load_halves_n(p, n) << 16); }
inline vf vload_i8(const int8_t* p) {
    int8_t b __attribute__((vector_size(4)));
    __builtin_memcpy(&b, p, sizeof b);
    return __builtin_convertvector(b, vf);
}
inline vf vround_bf16(vf x) {
    vi u = vbits(x), r = u + 0x7fff + ((u >> 16) & 1);
    r = (u & 0x7fffffff) > 0x7f800000 ? (u | (1 << 22)) : r;
    return vfloat(r & static_cast<int32_t>(0xffff0000u));
}

inline void transpose(vf (&r)[4]) {
    vf a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    vf c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

inline vf sum_rows(vf (&r)[4]) {
    vf t[4] = {r[0], r[1], r[2], r[3]};
    transpose(t);
    return (t[0] + t[2]) + (t[1] + t[3]);
}

inline vf load_quads(const float* p, int64_t) { return vload(p); }
inline void transpose_quads(vf (&r)[4]) { transpose(r); }

#endif

inline vf vzero() { return vset(0.0f); }

// 2^x: x = n + f, |f| <= 1/2. The polynomials here are minimax fits with coefficients of f32, good to 5e-9; that of
// 2^f has the constant term 1, so 2^0 is 1 exactly.
inline vf vexp2(vf x) {
    vf n = vround(x), f = x - n;
    vf p = vset(0x1.416b5p-13f);
    p = vfma(p, f, vset(0x1.5f082ep-10f));
    p = vfma(p, f, vset(0x1.3b2de0p-7f));
    p = vfma(p, f, vset(0x1.c6af7cp-5f));
    p = vfma(p, f, vset(0x1.ebfbdcp-3f));
    p = vfma(p, f, vset(0x1.62e430p-1f));
    return vscale2(vfma(p, f, vset(1.0f)), n);
}

// e^x to about one unit in the last place: x = n ln 2 + r, ln 2 in two parts, the first of few bits.
inline vf vexp(vf x) {
    x = vmin(vset(100.0f), vmax(vset(-104.0f), x));
    vf n = vround(x * vset(1.44269504f));
    vf r = vfnma(n, vset(0.693359375f), x);
    r = vfnma(n, vset(-2.12194440e-4f), r);
    vf p = vset(0x1.6a471ep-10f);
    p = vfma(p, r, vset(0x1.1239a2p-7f));
    p = vfma(p, r, vset(0x1.5558b6p-5f));
    p = vfma(p, r, vset(0x1.555492p-3f));
    p = vfma(p, r, vset(0x1.fffffcp-2f));
    return vscale2(vfma(p, r * r, r) + vset(1.0f), n);
}

inline vf vsilu(vf z) { return z / (vset(1.0f) + vexp(-z)); }

// log(1 + e^x) = max(x, 0) + log1p(e), e = e^-|x| in (0, 1]; log1p(e) = 2 artanh(s), s = e / (2 + e) <= 1/3.
inline vf vsoftplus(vf x) {
    vf e = vexp(-vabs(x));
    vf s = e / (vset(2.0f) + e), q = s * s;
    vf p = vset(0x1.1efe6cp-2f);
    p = vfma(p, q, vset(0x1.1eb4a4p-2f));
    p = vfma(p, q, vset(0x1.99d296p-2f));
    p = vfma(p, q, vset(0x1.555500p-1f));
    p = vfma(p, q, vset(2.0f));
    return vmax(x, vzero()) + p * s;
}

}  // namespace
}  // namespace samba
