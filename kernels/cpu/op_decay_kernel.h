// The recurrence with decay (gated linear attention, retention); lanes are values of a head. Compiled once for each
// instruction set (simd.h).
#pragma once
#include "kernels/cpu/op_row_kernel.h"

namespace samba {
namespace {

void gate_decay_kernel(float* x, int64_t n, float divisor) {
    vf scale = vset(-1.0f / divisor);
    for_lanes(n, [&](int64_t i, int m) {  // logsigmoid(x) = -softplus(-x)
        store_up_to(x + i, vexp(vsoftplus(-load_up_to(x + i, m)) * scale), m);
    });
}

inline void copy_values(const float* from, float* to, int n) {
    __builtin_memcpy(to, from, static_cast<unsigned>(n) * sizeof(float));
}

// The state lies in a.room, whose lines stay in the cache over the rows. Values beyond a.values are zero there.
void decay_scan_kernel(const DecayArgs& a) {
    constexpr int kVectors = kValueTile / kLanes;
    float* S = a.room;
    for (int i = 0; i < a.key_dim; ++i) {
        float* row = S + i * kValueTile;
        for (int j = 0; j < kVectors; ++j) vstore(row + j * kLanes, vzero());
        copy_values(a.before + i * a.value_stride, row, a.values);
    }
    const vf scale = vset(1.0f / __builtin_sqrtf(static_cast<float>(a.key_dim)));
    for (int64_t t = 0; t < a.n_rows; ++t) {
        const float *q = a.q + t * a.q_stride, *k = a.k + t * a.k_stride, *decay = a.decay + t * a.decay_stride;
        float line[kValueTile] = {};
        copy_values(a.v + t * a.v_stride, line, a.values);
        vf v[kVectors], y[kVectors];
        for (int j = 0; j < kVectors; ++j) {
            v[j] = vload(line + j * kLanes);
            y[j] = vzero();
        }
        for (int i = 0; i < a.key_dim; ++i) {
            float* row = S + i * kValueTile;
            vf d = vset(a.same ? *decay : decay[i]), key = vset(k[i]), query = vset(q[i]);
            for (int j = 0; j < kVectors; ++j) {
                vf s = vfma(key, v[j], d * vload(row + j * kLanes));
                vstore(row + j * kLanes, s);
                y[j] = vfma(query, s, y[j]);
            }
        }
        for (int j = 0; j < kVectors; ++j) vstore(line + j * kLanes, y[j] * scale);
        copy_values(line, a.y + t * a.y_stride, a.values);
        if (t < a.first_kept) continue;
        float* plane = a.planes + (a.first_plane + t) % a.n_planes * a.plane_stride;
        for (int i = 0; i < a.key_dim; ++i) copy_values(S + i * kValueTile, plane + i * a.value_stride, a.values);
    }
}

}  // namespace
}  // namespace samba
