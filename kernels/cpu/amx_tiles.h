// AMX tiles: 8 registers of 16 rows of 64 bytes. Included by files compiled for AMX alone.
//
// The compiler's intrinsics take the tiles' numbers as literals only, and its _tile_loadconfig says of eight bytes
// alone that they are read (g++ 12).
#pragma once
#include <cstdint>

namespace samba {
namespace {

constexpr int kTileRows = 16;

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline void tiles_begin() {
    const TileConfig config;
    asm volatile("ldtilecfg %0" : : "m"(config));
}
inline void tiles_end() { asm volatile("tilerelease"); }

template <int N>
inline void tile_zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(N));
}
template <int N>
inline void tile_load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(N) : "memory");
}
template <int N>
inline void tile_store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(N) : "memory");
}

// C (16 x 16 f32) += A (16 x 32 bf16) · B (16 x 16 pairs of bf16).
template <int C, int A, int B>
inline void tile_add_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
// C (16 x 16 int32) += A (16 x 64 unsigned bytes) · B (16 x 16 fours of signed bytes).
template <int C, int A, int B>
inline void tile_add_int8() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

}  // namespace
}  // namespace samba
