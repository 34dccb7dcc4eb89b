// The depthwise convolution and the selective scan; lanes are channels. Compiled once for each instruction set
// (simd.h).
#pragma once
#include "kernels/cpu/op_row_kernel.h"

namespace samba {
namespace {

// The value j of kLanes channels, of rows of `width` values a channel; channels beyond n give 0.
inline vf load_column(const float* rows, int width, int j, int n) {
    alignas(64) float lanes[kLanes] = {};
    for (int c = 0; c < n; ++c) lanes[c] = rows[c * width + j];
    return vload(lanes);
}

// One tile of channels. Rows go from the last to the first, so that a row's predecessors are still raw.
void conv_tile(const ConvArgs& a, int64_t c, int n) {
    int past = a.width - 1;
    vf taps[8];
    int kept = a.width < 8 ? a.width : 8;  // taps in registers; wider kernels read the others from memory
    for (int j = 0; j < kept; ++j) taps[j] = load_column(a.taps + c * a.width, a.width, j, n);
    vf bias = a.bias ? load_up_to(a.bias + c, n) : vzero();
    for (int64_t t = a.last - 1; t >= a.first; --t) {
        vf s = bias;
        for (int j = 0; j < a.width; ++j) {
            int64_t row = t - past + j;
            vf x = row >= 0 ? load_up_to(a.u + row * a.stride + c, n)
                            : load_column(a.before + c * past, past, static_cast<int>(row + past), n);
            s = vfma(j < kept ? taps[j] : load_column(a.taps + c * a.width, a.width, j, n), x, s);
        }
        store_up_to(a.u + t * a.stride + c, vsilu(s), n);
    }
}

// As conv_tile for the usual width of 4, rows with all predecessors in memory, all lanes.
void conv_tile4(const ConvArgs& a, int64_t c, int64_t first) {
    const float* w = a.taps + c * 4;
    vf w0 = load_column(w, 4, 0, kLanes), w1 = load_column(w, 4, 1, kLanes);
    vf w2 = load_column(w, 4, 2, kLanes), w3 = load_column(w, 4, 3, kLanes);
    vf bias = a.bias ? vload(a.bias + c) : vzero();
    float* u = a.u + c;
    vf x3 = vload(u + (a.last - 1) * a.stride), x2 = vload(u + (a.last - 2) * a.stride);
    vf x1 = vload(u + (a.last - 3) * a.stride);
    for (int64_t t = a.last - 1; t >= first; --t) {
        float* row = u + t * a.stride;
        __builtin_prefetch(row + 4 * kLanes);  // of a later tile, while the columns of these rows are walked
        vf x0 = vload(row - 3 * a.stride);
        vf s = vfma(w3, x3, vfma(w2, x2, vfma(w1, x1, vfma(w0, x0, bias))));
        vstore(row, vsilu(s));
        x3 = x2;
        x2 = x1;
        x1 = x0;
    }
}

void conv_kernel(const ConvArgs& a) {
    for_lanes(a.channels, [&](int64_t c, int n) {
        int64_t first = a.first > 3 ? a.first : 3;
        ConvArgs rest = a;
        if (a.width == 4 && n == kLanes && first < a.last) {
            conv_tile4(a, c, first);
            rest.last = first;
        }
        if (rest.first < rest.last) conv_tile(rest, c, n);
    });
}

// The columns of kLanes rows of 4 values, or of 3 (then columns 1 … 3 of c).
inline void load_columns4(const float* rows, vf (&c)[4]) {
    for (int i = 0; i < 4; ++i) c[i] = load_quads(rows + 4 * i, 16);
    transpose_quads(c);
}
inline void load_columns3(const float* rows, vf (&c)[4]) {  // each row from the value before it
    for (int i = 0; i < 4; ++i) c[i] = load_quads(rows + 3 * i - 1, 12);
    transpose_quads(c);
}
inline void store_columns3(float* rows, vf x0, vf x1, vf x2) {
    alignas(64) float quads[4][kLanes];
    vf r[4] = {x0, x1, x2, x2};
    transpose_quads(r);
    for (int i = 0; i < 4; ++i) vstore(quads[i], r[i]);
    for (int c = 0; c < kLanes; ++c) __builtin_memcpy(rows + 3 * c, quads[c % 4] + c / 4 * 4, 3 * sizeof(float));
}

// A run of one row and width 4, and the state after it: the common case of decode steps.
void conv_one_kernel(const ConvArgs& a, float* after) {
    for_lanes(a.channels, [&](int64_t c, int n) {
        if (n < kLanes || c == 0) {  // the value before the first channel's state may be another's
            float raw[kLanes];
            for (int i = 0; i < n; ++i) raw[i] = a.u[c + i];
            conv_tile(a, c, n);
            for (int i = 0; i < n; ++i) {
                const float* old = a.before + 3 * (c + i);
                float next[3] = {old[1], old[2], raw[i]};
                __builtin_memcpy(after + 3 * (c + i), next, sizeof next);
            }
            return;
        }
        vf w[4], x[4], u = vload(a.u + c);
        load_columns4(a.taps + 4 * c, w);
        load_columns3(a.before + 3 * c, x);
        vf s = a.bias ? vload(a.bias + c) : vzero();
        s = vfma(w[3], u, vfma(w[2], x[3], vfma(w[1], x[2], vfma(w[0], x[1], s))));
        vstore(a.u + c, vsilu(s));
        store_columns3(after + 3 * c, x[2], x[3], u);
    });
}

// S (channels, d_state) of n_states states of n channels <-> one vector of channels a state.
inline void load_states(const float* s, int d_state, int n, int n_states, vf (&r)[kLanes]) {
    for (int c = 0; c < kLanes; ++c) r[c] = c < n ? load_up_to(s + c * d_state, n_states) : vzero();
    transpose(r);
}
inline void store_states(float* s, int d_state, int n, int n_states, const vf (&r)[kLanes]) {
    vf t[kLanes];
    for (int i = 0; i < kLanes; ++i) t[i] = r[i];
    transpose(t);
    for (int c = 0; c < n; ++c) store_up_to(s + c * d_state, t[c], n_states);
}

// What a tile of channels needs of its rows, computed once for all its states.
struct ScanTile {
    alignas(64) float dt[kScanRows][kLanes];   // softplus(dt)
    alignas(64) float dtu[kScanRows][kLanes];  // dt u
    alignas(64) float y[kScanRows][kLanes];    // sum over the states so far
};

// kLanes states, or fewer, of n channels, over the rows.
template <bool kAll>
void scan_states(const ScanArgs& a, ScanTile& tile, int64_t c, int n, int first_state, int n_states) {
    const int count = kAll ? kLanes : n_states;
    vf A[kLanes], S[kLanes];
    load_states(a.A + c * a.d_state + first_state, a.d_state, n, count, A);
    load_states(a.before + c * a.d_state + first_state, a.d_state, n, count, S);
    for (int i = 0; i < kLanes; ++i) A[i] = A[i] * vset(1.44269504f);
    for (int64_t t = 0; t < a.n_rows; ++t) {
        const float *B = a.B + t * a.bc_stride + first_state, *C = a.C + t * a.bc_stride + first_state;
        vf dt = vload(tile.dt[t]), dtu = vload(tile.dtu[t]);
        vf y = first_state == 0 ? vzero() : vload(tile.y[t]), y2 = vzero();
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) {
            S[i] = vfma(vexp2(dt * A[i]), S[i], dtu * vset(B[i]));
            (i % 2 ? y2 : y) = vfma(S[i], vset(C[i]), i % 2 ? y2 : y);
        }
        vstore(tile.y[t], y + y2);
        if (t >= a.first_kept || t == a.n_rows - 1) {
            float* plane = a.planes + (a.first_plane + t) % a.n_planes * a.plane_stride;
            store_states(plane + c * a.d_state + first_state, a.d_state, n, count, S);
        }
    }
}

void scan_tile(const ScanArgs& a, ScanTile& tile, int64_t c, int n) {
    for (int64_t t = 0; t < a.n_rows; ++t) {
        const float *dt_row = a.dt + t * a.dt_stride + c, *u = a.u + t * a.u_stride + c;
        __builtin_prefetch(dt_row + 2 * kLanes);
        __builtin_prefetch(u + 2 * kLanes);
        if (a.z) __builtin_prefetch(a.z + t * a.z_stride + c + 2 * kLanes);
        vf dt = vsoftplus(load_up_to(dt_row, n));
        vstore(tile.dt[t], dt);
        vstore(tile.dtu[t], dt * load_up_to(u, n));
    }
    for (int i = 0; i < a.d_state; i += kLanes) {
        int left = a.d_state - i;
        if (left >= kLanes) {
            scan_states<true>(a, tile, c, n, i, kLanes);
        } else {
            scan_states<false>(a, tile, c, n, i, left);
        }
    }
    vf D = load_up_to(a.D + c, n);
    for (int64_t t = 0; t < a.n_rows; ++t) {
        vf y = vfma(D, load_up_to(a.u + t * a.u_stride + c, n), vload(tile.y[t]));
        if (a.z) y = y * vsilu(load_up_to(a.z + t * a.z_stride + c, n));
        store_up_to(a.y + t * a.y_stride + c, y, n);
    }
}

void scan_kernel(const ScanArgs& a) {
    ScanTile tile;
    for_lanes(a.channels, [&](int64_t c, int n) { scan_tile(a, tile, c, n); });
}

}  // namespace
}  // namespace samba
