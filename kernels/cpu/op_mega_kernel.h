// What Mega needs beside the others: gates, and attention within chunks. Compiled once for each instruction set
// (simd.h).
#pragma once
#include "kernels/cpu/op_row_kernel.h"

namespace samba {
namespace {

void silu_kernel(float* x, int64_t n) {
    for_lanes(n, [&](int64_t i, int m) { store_up_to(x + i, vsilu(load_up_to(x + i, m)), m); });
}

void gated_residual_kernel(const float* u, const float* h0, const float* h, int64_t n, float* x) {
    for_lanes(n, [&](int64_t i, int m) {
        vf gate = vset(1.0f) / (vset(1.0f) + vexp(-load_up_to(u + i, m))), old = load_up_to(x + i, m);
        vf made = vsilu(load_up_to(h0 + i, m) + load_up_to(h + i, m));
        store_up_to(x + i, vfma(gate, made - old, old), m);
    });
}

// A score sums its lanes over the row, then the lanes: the same order whatever the other keys and rows.
void chunk_scores_kernel(const ChunkScoreArgs& a) {
    for (int key = 0; key < a.n_keys; ++key) {
        const float* k = a.k + static_cast<int64_t>(key) * a.dim;
        for (int row = 0; row < a.n_rows; ++row) {
            const float* q = a.q + row * a.q_stride;
            vf sum = vzero();
            for_lanes(a.dim, [&](int64_t i, int m) { sum = vfma(load_up_to(q + i, m), load_up_to(k + i, m), sum); });
            a.scores[row * a.score_stride + key] = vsum(sum) * a.scale;
        }
    }
}

void softmax_kernel(float* x, int64_t n) {
    vf max = vset(max_kernel(x, n)), sum = vzero();
    for_lanes(n, [&](int64_t i, int m) {
        vf e = vexp(load_up_to(x + i, m) - max);
        store_up_to(x + i, e, m);
        if (m == kLanes) sum = sum + e;
    });
    float total = vsum(sum);
    for (int64_t i = n / kLanes * kLanes; i < n; ++i) total += x[i];
    vf scale = vset(1.0f / total);
    for_lanes(n, [&](int64_t i, int m) { store_up_to(x + i, load_up_to(x + i, m) * scale, m); });
}

void chunk_values_kernel(const ChunkValueArgs& a) {
    constexpr int kVectors = kChunkCols / kLanes;
    for (int row = 0; row < a.n_rows; ++row) {
        int64_t n = a.n_seen + row < a.n_keys ? a.n_seen + row : a.n_keys;
        const float* p = a.p + row * a.p_stride;
        float* to = a.acc + row * kChunkCols;
        vf acc[kVectors];
        for (int j = 0; j < kVectors; ++j) acc[j] = vload(to + j * kLanes);
        for (int64_t key = 0; key < n; ++key) {
            vf w = vset(p[key]);
            for (int j = 0; j < kVectors; ++j) acc[j] = vfma(w, vload(a.v + key * kChunkCols + j * kLanes), acc[j]);
        }
        for (int j = 0; j < kVectors; ++j) vstore(to + j * kLanes, acc[j]);
    }
}

}  // namespace
}  // namespace samba
