// Rows: norms, gates, roundings, heads. Compiled once for each instruction set (simd.h).
#pragma once
#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/simd.h"

namespace samba {
namespace {

// f(i, n) for pieces of a row: n = kLanes but for the last.
template <class F>
inline __attribute__((always_inline)) void for_lanes(int64_t size, F&& f) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) f(i, kLanes);
    if (i < size) f(i, static_cast<int>(size - i));
}
inline vf load_up_to(const float* p, int n) { return n == kLanes ? vload(p) : vload_n(p, n); }
inline void store_up_to(float* p, vf x, int n) {
    if (n == kLanes) {
        vstore(p, x);
    } else {
        vstore_n(p, x, n);
    }
}

float sum_squares(const float* x, int64_t n) {
    vf s[4] = {vzero(), vzero(), vzero(), vzero()};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        for (int k = 0; k < 4; ++k) {
            vf v = vload(x + i + k * kLanes);
            s[k] = vfma(v, v, s[k]);
        }
    }
    for_lanes(n - i, [&](int64_t j, int m) {
        vf v = load_up_to(x + i + j, m);
        s[0] = vfma(v, v, s[0]);
    });
    return vsum((s[0] + s[1]) + (s[2] + s[3]));
}

void rmsnorm_kernel(const float* x, const float* weight, float eps, int64_t n, float* y) {
    float mean = sum_squares(x, n) / static_cast<float>(n);
    vf r = vset(1.0f / __builtin_sqrtf(mean + eps));
    for_lanes(n,
              [&](int64_t i, int m) { store_up_to(y + i, load_up_to(x + i, m) * r * load_up_to(weight + i, m), m); });
}

void silu_mul_kernel(const float* gate, const float* up, int64_t n, float* h) {
    for_lanes(n,
              [&](int64_t i, int m) { store_up_to(h + i, vsilu(load_up_to(gate + i, m)) * load_up_to(up + i, m), m); });
}

// Half-split pairs (i, i + dim/2).
void head_kernel(const HeadArgs& a) {
    if (a.norm) rmsnorm_kernel(a.x, a.norm, a.eps, a.head_dim, a.x);
    if (!a.cos) return;
    float *first = a.x, *second = a.x + a.dim / 2;
    for_lanes(a.dim / 2, [&](int64_t i, int m) {
        vf x = load_up_to(first + i, m), y = load_up_to(second + i, m);
        vf c = load_up_to(a.cos + i, m), s = load_up_to(a.sin + i, m);
        store_up_to(first + i, vfnma(y, s, x * c), m);
        store_up_to(second + i, vfma(x, s, y * c), m);
    });
}

void round_kernel(DType type, float* x, int64_t n) {
    if (type == DType::kF32) return;
    for_lanes(n, [&](int64_t i, int m) {
        vf v = load_up_to(x + i, m);
        store_up_to(x + i, type == DType::kBF16 ? vround_bf16(v) : vround_f16(v), m);
    });
}

// 32 values as a block of Q8_0, as quantize_row makes it.
void narrow_block(const float* x, char* block) {
    vf max = vzero();
    for (int i = 0; i < 32; i += kLanes) max = vmax(max, vabs(vload(x + i)));
    uint16_t half;
    vstore_f16_n(&half, vmin(vset(65504.0f), vset(vmax_lane(max) / 127.0f)), 1);
    vf d = vset_f16(half);
    float q[32] = {};
    for (int i = 0; i < 32 && half != 0; i += kLanes) {
        vstore(q + i, vmax(vset(-127.0f), vmin(vset(127.0f), vround(vload(x + i) / d))));
    }
    int8_t bytes[32];
    for (int i = 0; i < 32; ++i) bytes[i] = static_cast<int8_t>(static_cast<int32_t>(q[i]));
    __builtin_memcpy(block, &half, sizeof half);
    __builtin_memcpy(block + sizeof half, bytes, sizeof bytes);
}

void narrow_kernel(DType type, const float* x, int64_t n, void* out) {
    if (type == DType::kF32) {
        __builtin_memcpy(out, x, static_cast<size_t>(n) * sizeof(float));
    } else if (type == DType::kF16) {
        auto* h = static_cast<uint16_t*>(out);
        for_lanes(n, [&](int64_t i, int m) { vstore_f16_n(h + i, load_up_to(x + i, m), m); });
    } else if (type == DType::kQ8_0) {
        for (int64_t i = 0; i < n; i += 32) narrow_block(x + i, static_cast<char*>(out) + i / 32 * 34);
    } else {  // BF16
        auto* h = static_cast<uint16_t*>(out);
        for_lanes(n, [&](int64_t i, int m) {
            alignas(64) uint32_t bits[kLanes];
            vf v = vround_bf16(load_up_to(x + i, m));
            __builtin_memcpy(bits, &v, sizeof bits);
            for (int k = 0; k < m; ++k) h[i + k] = static_cast<uint16_t>(bits[k] >> 16);
        });
    }
}

inline vf block_scale(const char* block) {  // of a Q8_0 block: its first two bytes, an f16
    uint16_t d;
    __builtin_memcpy(&d, block, sizeof d);
    return vset_f16(d);
}

void widen_kernel(DType type, const void* x, int64_t n, float* out) {
    if (type == DType::kF32) {
        __builtin_memcpy(out, x, static_cast<size_t>(n) * sizeof(float));
    } else if (type == DType::kQ8_0) {
        auto* block = static_cast<const char*>(x);
        for (int64_t i = 0; i < n; i += 32, block += 34) {
            vf d = block_scale(block);
            for (int k = 0; k < 32; k += kLanes) {
                vstore(out + i + k, d * vload_i8(reinterpret_cast<const int8_t*>(block + 2) + k));
            }
        }
    } else {
        auto* h = static_cast<const uint16_t*>(x);
        bool bf16 = type == DType::kBF16;
        for_lanes(n, [&](int64_t i, int m) {
            if (m == kLanes) {
                vstore(out + i, bf16 ? vload_bf16(h + i) : vload_f16(h + i));
            } else {
                vstore_n(out + i, bf16 ? vload_bf16_n(h + i, m) : vload_f16_n(h + i, m), m);
            }
        });
    }
}

float max_kernel(const float* x, int64_t n) {
    vf m = vset(-__builtin_inff());
    int64_t whole = n / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) m = vmax(vload(x + i), m);
    float max = vmax_lane(m);
    for (int64_t i = whole; i < n; ++i) max = x[i] > max ? x[i] : max;
    return max;
}

double sum_exp_kernel(const float* x, int64_t n, float max) {
    constexpr int64_t kPiece = 16 * kLanes;  // summed in f32
    double total = 0;
    for (int64_t i = 0; i < n; i += kPiece) {
        vf sum = vzero();
        for_lanes(n - i < kPiece ? n - i : kPiece, [&](int64_t j, int m) {
            vf e = vexp2((load_up_to(x + i + j, m) - vset(max)) * vset(1.44269504f));
            alignas(64) float lanes[kLanes] = {};
            if (m < kLanes) {
                vstore_n(lanes, e, m);
                e = vload(lanes);
            }
            sum = sum + e;
        });
        total += vsum(sum);
    }
    return total;
}

}  // namespace
}  // namespace samba
