#include "kernels/quant_search.h"

#include <algorithm>
#include <cmath>

namespace samba {
namespace {

constexpr float kMaxF16 = 65504.0f;

// Nearest integer in [lo, hi] as a float; |v| < 2^22 after clamping, so adding 1.5 * 2^23 leaves no fraction bits.
inline float nearest(float v, float lo, float hi) {
    v = v > lo ? (v < hi ? v : hi) : lo;  // NaN becomes lo
    return (v + 12582912.0f) - 12582912.0f;
}

inline float to_f16_and_back(float v) { return f16_to_f32(f32_to_f16(std::clamp(v, -kMaxF16, kMaxF16))); }

// Sums in eight lanes, so that the compiler may use vector registers without reordering anything.
constexpr int kLanes = 8;
inline float sum(const float (&lane)[kLanes]) {
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

// The weighted moments that least squares of x on q needs.
struct Moments {
    float q = 0, qq = 0, qx = 0;
};

template <int N>
Moments moments(const float* x, const float* w, float inverse, float offset, float lo, float hi) {
    float q1[kLanes] = {}, q2[kLanes] = {}, qx[kLanes] = {};
    for (int i = 0; i < N; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            float q = nearest((x[i + l] + offset) * inverse, lo, hi);
            float wq = w[i + l] * q;
            q1[l] += wq;
            q2[l] += wq * q;
            qx[l] += wq * x[i + l];
        }
    }
    return {sum(q1), sum(q2), sum(qx)};
}

// Σ w (x - (scale q - min))² with the best q in [lo, hi].
template <int N>
float error_of(const float* x, const float* w, float scale, float min, float lo, float hi) {
    float inverse = scale != 0 ? 1.0f / scale : 0.0f, e[kLanes] = {};
    for (int i = 0; i < N; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) {
            float q = nearest((x[i + l] + min) * inverse, lo, hi);
            float diff = x[i + l] - (scale * q - min);
            e[l] += w[i + l] * diff * diff;
        }
    }
    return sum(e);
}

// x ≈ scale q - min
struct Affine {
    float scale = 0, min = 0;
};

// The best scale and min ≥ 0 of 32 values for q in 0..levels: from a row of starting grids, least squares and rounding
// in turn (Lloyd's iteration), the best of all that were seen.
Affine fit_affine(const float* x, const float* w, float levels) {
    constexpr int kN = 32;
    float lo = 0, hi = x[0], sum_w = 0, sum_x = 0;
    for (int i = 0; i < kN; ++i) {
        lo = std::min(lo, x[i]);
        hi = std::max(hi, x[i]);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (!(hi > lo) || !(sum_w > 0)) return {0, -lo};
    Affine best{(hi - lo) / levels, -lo};
    float best_error = error_of<kN>(x, w, best.scale, best.min, 0, levels);
    for (int step = -8; step <= 16; ++step) {
        Affine now{(hi - lo) / (levels + 0.25f * static_cast<float>(step) * levels / 15.0f), -lo};
        for (int round = 0; round < 3; ++round) {
            Moments m = moments<kN>(x, w, 1.0f / now.scale, now.min, 0, levels);
            float det = sum_w * m.qq - m.q * m.q;
            if (!(det > 0)) break;
            now.scale = (sum_w * m.qx - sum_x * m.q) / det;
            now.min = (now.scale * m.q - sum_x) / sum_w;
            if (now.min < 0) now = {m.qx / m.qq, 0};
            if (!(now.scale > 0)) break;
            float error = error_of<kN>(x, w, now.scale, now.min, 0, levels);
            if (error < best_error) {
                best_error = error;
                best = now;
            } else if (round > 0) {
                break;
            }
        }
    }
    return best;
}

// The best scale, of either sign, of N values for q in lo..hi (lo = -hi - 1).
template <int N>
float fit_symmetric(const float* x, const float* w, float lo, float hi) {
    float extreme = 0;
    for (int i = 0; i < N; ++i) extreme = std::fabs(x[i]) > std::fabs(extreme) ? x[i] : extreme;
    if (extreme == 0) return 0;
    float best = extreme / lo, best_error = error_of<N>(x, w, best, 0, lo, hi);
    for (float end : {lo, hi}) {
        for (int step = -6; step <= 10; ++step) {
            float scale = extreme / (end * (1.0f + 0.02f * static_cast<float>(step)));
            for (int round = 0; round < 2; ++round) {
                Moments m = moments<N>(x, w, 1.0f / scale, 0, lo, hi);
                if (!(m.qq > 0) || m.qx == 0) break;
                scale = m.qx / m.qq;
                float error = error_of<N>(x, w, scale, 0, lo, hi);
                if (error >= best_error) continue;
                best_error = error;
                best = scale;
            }
        }
    }
    return best;
}

// A block of 8 sub-blocks of 32: x ≈ d scale[j] q - dmin min[j], scale and min in 0..63, d and dmin of 16 bits.
struct AffineBlock {
    const float* x;
    const float* w;
    float levels;
    float d = 0, dmin = 0;
    int scale[8] = {}, min[8] = {};

    float error(int j, int sc, int m) const {
        return error_of<32>(x + 32 * j, w + 32 * j, d * static_cast<float>(sc), dmin * static_cast<float>(m), 0,
                            levels);
    }
    float error() const {
        float total = 0;
        for (int j = 0; j < 8; ++j) total += error(j, scale[j], min[j]);
        return total;
    }

    // With d and dmin as they are: from the scale and min next to the wanted ones, downhill among the neighbours.
    void round_scales(const Affine* wanted) {
        auto six_bits = [](float v, float unit) { return unit > 0 ? static_cast<int>(nearest(v / unit, 0, 63)) : 0; };
        for (int j = 0; j < 8; ++j) {
            if (wanted) {
                scale[j] = six_bits(wanted[j].scale, d);
                min[j] = six_bits(wanted[j].min, dmin);
            }
            float best = error(j, scale[j], min[j]);
            for (bool moved = true; moved;) {
                moved = false;
                int sc0 = scale[j], m0 = min[j];
                for (int sc = std::max(0, sc0 - 1); sc <= std::min(63, sc0 + 1); ++sc) {
                    for (int m = std::max(0, m0 - 1); m <= std::min(63, m0 + 1); ++m) {
                        float e = error(j, sc, m);
                        if (!(e < best)) continue;
                        best = e;
                        scale[j] = sc;
                        min[j] = m;
                        moved = true;
                    }
                }
            }
        }
    }

    // Least squares of x on a = scale q and b = min gives d and dmin.
    void fit_units() {
        double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
        for (int i = 0; i < 256; ++i) {
            int j = i / 32;
            float s = d * static_cast<float>(scale[j]), m = dmin * static_cast<float>(min[j]);
            double q = s > 0 ? nearest((x[i] + m) * (1.0f / s), 0, levels) : 0;
            double a = scale[j] * q, b = min[j];
            aa += w[i] * a * a;
            ab += w[i] * a * b;
            bb += w[i] * b * b;
            ax += w[i] * a * x[i];
            bx += w[i] * b * x[i];
        }
        double det = aa * bb - ab * ab;
        if (det > 1e-12 * aa * bb) {
            d = to_f16_and_back(static_cast<float>((ax * bb - bx * ab) / det));
            dmin = to_f16_and_back(static_cast<float>((ax * ab - bx * aa) / det));
        } else if (aa > 0) {
            d = to_f16_and_back(static_cast<float>(ax / aa));
        }
        d = std::max(d, 0.0f);
        dmin = std::max(dmin, 0.0f);
    }

    void search() {
        Affine wanted[8];
        float max_scale = 0, max_min = 0;
        for (int j = 0; j < 8; ++j) {
            wanted[j] = fit_affine(x + 32 * j, w + 32 * j, levels);
            max_scale = std::max(max_scale, wanted[j].scale);
            max_min = std::max(max_min, wanted[j].min);
        }
        d = to_f16_and_back(max_scale / 63);
        dmin = to_f16_and_back(max_min / 63);
        round_scales(wanted);
        AffineBlock best = *this;
        float best_error = error();
        for (int round = 0; round < 4; ++round) {
            fit_units();
            round_scales(nullptr);
            float e = error();
            if (!(e < best_error)) break;
            best_error = e;
            best = *this;
        }
        *this = best;
    }

    int quant(int i) const {
        float s = d * static_cast<float>(scale[i / 32]), m = dmin * static_cast<float>(min[i / 32]);
        return s > 0 ? static_cast<int>(nearest((x[i] + m) * (1.0f / s), 0, levels)) : 0;
    }

    // The inverse of unpack_scale.
    void pack_scales(uint8_t* s) const {
        for (int j = 0; j < 4; ++j) {
            s[j] = static_cast<uint8_t>(scale[j] | (scale[j + 4] >> 4) << 6);
            s[j + 4] = static_cast<uint8_t>(min[j] | (min[j + 4] >> 4) << 6);
            s[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
        }
    }
};

// Importance, or ones; a block that does not matter at all is treated as one where all matters alike.
struct Weights {
    float w[256];
    Weights(const float* importance, int n) {
        float total = 0;
        for (int i = 0; importance && i < n; ++i) total += importance[i];
        for (int i = 0; i < n; ++i) w[i] = total > 0 ? importance[i] : 1.0f;
    }
};

}  // namespace

void quantize(const float* x, const float* importance, BlockQ4_0& b) {
    Weights weights(importance, 32);
    float d = to_f16_and_back(fit_symmetric<32>(x, weights.w, -8, 7));
    b.d = f32_to_f16(d);
    float inverse = d != 0 ? 1.0f / d : 0.0f;
    auto quant = [&](int i) { return static_cast<int>(nearest(x[i] * inverse, -8, 7)) + 8; };
    for (int i = 0; i < 16; ++i) b.q[i] = static_cast<uint8_t>(quant(i) | quant(i + 16) << 4);
}

void quantize(const float* x, const float* importance, BlockQ4_K& b) {
    Weights weights(importance, 256);
    AffineBlock block{x, weights.w, 15.0f};
    block.search();
    b.d = f32_to_f16(block.d);
    b.dmin = f32_to_f16(block.dmin);
    block.pack_scales(b.scales);
    for (int k = 0; k < 4; ++k) {
        for (int i = 0; i < 32; ++i) {
            b.q[32 * k + i] = static_cast<uint8_t>(block.quant(64 * k + i) | block.quant(64 * k + 32 + i) << 4);
        }
    }
}

void quantize(const float* x, const float* importance, BlockQ5_K& b) {
    Weights weights(importance, 256);
    AffineBlock block{x, weights.w, 31.0f};
    block.search();
    b.d = f32_to_f16(block.d);
    b.dmin = f32_to_f16(block.dmin);
    block.pack_scales(b.scales);
    std::memset(b.qh, 0, sizeof b.qh);
    std::memset(b.q, 0, sizeof b.q);
    for (int i = 0; i < 256; ++i) {
        int q = block.quant(i), sub = i / 32, at = i % 32;
        b.q[32 * (sub / 2) + at] = static_cast<uint8_t>(b.q[32 * (sub / 2) + at] | (q & 15) << (4 * (sub & 1)));
        b.qh[at] = static_cast<uint8_t>(b.qh[at] | (q >> 4) << sub);
    }
}

namespace {

// A Q6_K block: x ≈ d scale[j] q in 16 sub-blocks of 16, scale of 8 bits, q in -32..31.
struct SymmetricBlock {
    const float* x;
    const float* w;
    float d = 0;
    int scale[16] = {};

    float error(int j, int sc) const {
        return error_of<16>(x + 16 * j, w + 16 * j, d * static_cast<float>(sc), 0, -32, 31);
    }
    float error() const {
        float total = 0;
        for (int j = 0; j < 16; ++j) total += error(j, scale[j]);
        return total;
    }
    void round_scales(const float* wanted) {
        for (int j = 0; j < 16; ++j) {
            if (wanted) scale[j] = d != 0 ? static_cast<int>(nearest(wanted[j] / d, -128, 127)) : 0;
            float best = error(j, scale[j]);
            for (bool moved = true; moved;) {
                moved = false;
                for (int sc : {std::max(-128, scale[j] - 1), std::min(127, scale[j] + 1)}) {
                    float e = error(j, sc);
                    if (!(e < best)) continue;
                    best = e;
                    scale[j] = sc;
                    moved = true;
                    break;
                }
            }
        }
    }
    int quant(int i) const {
        float s = d * static_cast<float>(scale[i / 16]);
        return s != 0 ? static_cast<int>(nearest(x[i] * (1.0f / s), -32, 31)) : 0;
    }
    void fit_unit() {
        double aa = 0, ax = 0;
        for (int i = 0; i < 256; ++i) {
            double a = scale[i / 16] * quant(i);
            aa += w[i] * a * a;
            ax += w[i] * a * x[i];
        }
        if (aa > 0) d = to_f16_and_back(static_cast<float>(ax / aa));
    }
    void search() {
        float wanted[16], extreme = 0;
        for (int j = 0; j < 16; ++j) {
            wanted[j] = fit_symmetric<16>(x + 16 * j, w + 16 * j, -32, 31);
            if (std::fabs(wanted[j]) > std::fabs(extreme)) extreme = wanted[j];
        }
        d = to_f16_and_back(extreme / -128);
        round_scales(wanted);
        SymmetricBlock best = *this;
        float best_error = error();
        for (int round = 0; round < 3; ++round) {
            fit_unit();
            round_scales(nullptr);
            float e = error();
            if (!(e < best_error)) break;
            best_error = e;
            best = *this;
        }
        *this = best;
    }
};

}  // namespace

void quantize(const float* x, const float* importance, BlockQ6_K& b) {
    Weights weights(importance, 256);
    SymmetricBlock block{x, weights.w};
    block.search();
    b.d = f32_to_f16(block.d);
    for (int j = 0; j < 16; ++j) b.scales[j] = static_cast<int8_t>(block.scale[j]);
    std::memset(b.ql, 0, sizeof b.ql);
    std::memset(b.qh, 0, sizeof b.qh);
    for (int i = 0; i < 256; ++i) {
        int q = block.quant(i) + 32, half = i / 128, part = i % 128 / 32, at = i % 32;
        uint8_t& low = b.ql[64 * half + 32 * (part & 1) + at];
        uint8_t& high = b.qh[32 * half + at];
        low = static_cast<uint8_t>(low | (q & 15) << (4 * (part >> 1)));
        high = static_cast<uint8_t>(high | (q >> 4) << (2 * part));
    }
}

}  // namespace samba
