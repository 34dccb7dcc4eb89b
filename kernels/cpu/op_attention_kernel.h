// The two halves of attention: a block of keys for the queries of one token (decode; lanes are head dimensions), and a
// block of keys for a tile of queries (prefill; lanes are queries). Compiled once for each instruction set (simd.h).
#pragma once
#include "kernels/cpu/op_row_kernel.h"

namespace samba {
namespace {

// ---- decode ---------------------------------------------------------------------------------------------------------

// Values i … i + kLanes - 1 of a stored row of one type; `load_n` for the end of a row.
struct RowsF32 {
    static constexpr int bytes(int n) { return 4 * n; }
    static vf load(const char* row, int i) { return vload(reinterpret_cast<const float*>(row) + i); }
    static vf load_n(const char* row, int i, int n) { return vload_n(reinterpret_cast<const float*>(row) + i, n); }
};
struct RowsF16 {
    static constexpr int bytes(int n) { return 2 * n; }
    static vf load(const char* row, int i) { return vload_f16(reinterpret_cast<const uint16_t*>(row) + i); }
    static vf load_n(const char* row, int i, int n) {
        return vload_f16_n(reinterpret_cast<const uint16_t*>(row) + i, n);
    }
};
struct RowsBF16 {
    static constexpr int bytes(int n) { return 2 * n; }
    static vf load(const char* row, int i) { return vload_bf16(reinterpret_cast<const uint16_t*>(row) + i); }
    static vf load_n(const char* row, int i, int n) {
        return vload_bf16_n(reinterpret_cast<const uint16_t*>(row) + i, n);
    }
};
struct RowsQ8_0 {  // head_dim is a multiple of 32, so of kLanes
    static constexpr int bytes(int n) { return n / 32 * 34; }
    static vf load(const char* row, int i) {
        const char* block = row + i / 32 * 34;
        return block_scale(block) * vload_i8(reinterpret_cast<const int8_t*>(block + 2) + i % 32);
    }
    static vf load_n(const char* row, int i, int) { return load(row, i); }
};

inline constexpr int kDecodeQueries = 4;  // that share one widening of a row

// scores[q][key] = scale · (q · key) for kLanes keys, the first n of them real; the others score kMasked. A dot product
// sums its lanes over the row, then the lanes, in the same order whatever the number of keys and queries.
template <class Rows, int kQueries, int kDim>
void score_keys(const DecodeArgs& a, const float* const* q, int first_key, int n, float (*scores)[kKeyBlock]) {
    constexpr int kKeys = kQueries == 1 ? 4 : 2;  // that share a load of the query
    vf sums[kQueries][kLanes];
    const int head_dim = kDim ? kDim : a.head_dim, row_bytes = Rows::bytes(head_dim);
    const int whole = head_dim / kLanes * kLanes, rest = head_dim - whole;
    for (int key = 0; key < kLanes; key += kKeys) {
        const char* row[kKeys];
        for (int k = 0; k < kKeys; ++k) row[k] = a.k + (first_key + (key + k < n ? key + k : n - 1)) * row_bytes;
        const char* v = a.v + (first_key + key) * row_bytes;
        for (int b = 0; b < kKeys * row_bytes; b += 64) __builtin_prefetch(v + b, 0, 2);
        vf s[kQueries][kKeys];
        for (int j = 0; j < kQueries; ++j) {
            for (int k = 0; k < kKeys; ++k) s[j][k] = vzero();
        }
        for (int i = 0; i < whole; i += kLanes) {
            vf x[kKeys];
            for (int k = 0; k < kKeys; ++k) x[k] = Rows::load(row[k], i);
            for (int j = 0; j < kQueries; ++j) {
                vf y = vload(q[j] + i);
                for (int k = 0; k < kKeys; ++k) s[j][k] = vfma(x[k], y, s[j][k]);
            }
        }
        for (int k = 0; k < kKeys && rest; ++k) {
            vf x = Rows::load_n(row[k], whole, rest);
            for (int j = 0; j < kQueries; ++j) s[j][k] = vfma(x, vload_n(q[j] + whole, rest), s[j][k]);
        }
        for (int j = 0; j < kQueries; ++j) {
            for (int k = 0; k < kKeys; ++k) sums[j][key + k] = s[j][k];
        }
    }
    for (int j = 0; j < kQueries; ++j) {
        vstore(scores[j] + first_key, sum_rows(sums[j]) * vset(a.scale));
        for (int key = n; key < kLanes; ++key) scores[j][first_key + key] = kMasked;
    }
}

// acc[q] = sum over the keys, in order, of p[q][key] · v[key], for kVectors vectors of dimensions from i on.
template <class Rows, int kQueries, int kDim, int kVectors, bool kWhole = true>
void weigh_values(const DecodeArgs& a, int i, int n_last, const float (*p)[kKeyBlock], float* out, int out_stride) {
    const int row_bytes = Rows::bytes(kDim ? kDim : a.head_dim);
    vf acc[kQueries][kVectors];
    for (int j = 0; j < kQueries; ++j) {
        for (int c = 0; c < kVectors; ++c) acc[j][c] = vzero();
    }
    for (int key = 0; key < a.n_keys; ++key) {
        const char* row = a.v + key * row_bytes;
        const char* next = a.k + (key + kKeyBlock) * row_bytes;  // of the next block
        for (int b = 0; b < row_bytes && i == 0; b += 64) __builtin_prefetch(next + b, 0, 2);
        for (int c = 0; c < kVectors; ++c) {
            vf x = kWhole ? Rows::load(row, i + c * kLanes) : Rows::load_n(row, i, n_last);
            for (int j = 0; j < kQueries; ++j) acc[j][c] = vfma(vset(p[j][key]), x, acc[j][c]);
        }
    }
    for (int j = 0; j < kQueries; ++j) {
        for (int c = 0; c < kVectors; ++c) {
            store_up_to(out + j * out_stride + i + c * kLanes, acc[j][c], n_last);
        }
    }
}

// kDim: head_dim where it is a usual one, else 0.
template <class Rows, int kQueries, int kDim>
void decode_queries(const DecodeArgs& a, const float* const* q, float* out) {
    alignas(64) float p[kQueries][kKeyBlock];
    const int head_dim = kDim ? kDim : a.head_dim, stride = kPartialHead + head_dim;
    const int lanes = (a.n_keys + kLanes - 1) / kLanes * kLanes;
    for (int key = 0; key < lanes; key += kLanes) {
        score_keys<Rows, kQueries, kDim>(a, q, key, a.n_keys - key < kLanes ? a.n_keys - key : kLanes, p);
    }
    for (int j = 0; j < kQueries; ++j) {
        vf max = vset(kMasked), sum = vzero();
        for (int key = 0; key < lanes; key += kLanes) max = vmax(max, vload(p[j] + key));
        float m = vmax_lane(max);
        for (int key = 0; key < lanes; key += kLanes) {
            vf e = vexp2(vload(p[j] + key) - vset(m));
            vstore(p[j] + key, e);
            sum = sum + e;
        }
        out[j * stride] = m;
        out[j * stride + 1] = vsum(sum);
    }
    float* acc = out + kPartialHead;
    int i = 0;
    for (; kQueries == 1 && i + 8 * kLanes <= head_dim; i += 8 * kLanes) {
        weigh_values<Rows, kQueries, kDim, 8>(a, i, kLanes, p, acc, stride);
    }
    for (; i + 4 * kLanes <= head_dim; i += 4 * kLanes) {
        weigh_values<Rows, kQueries, kDim, 4>(a, i, kLanes, p, acc, stride);
    }
    for (; i + kLanes <= head_dim; i += kLanes) {
        weigh_values<Rows, kQueries, kDim, 1>(a, i, kLanes, p, acc, stride);
    }
    if (i < head_dim) weigh_values<Rows, kQueries, kDim, 1, false>(a, i, head_dim - i, p, acc, stride);
}

template <class Rows, int kDim>
void decode_rows(const DecodeArgs& a) {
    int stride = kPartialHead + a.head_dim, j = 0;
    for (; j + kDecodeQueries <= a.n_queries; j += kDecodeQueries) {
        decode_queries<Rows, kDecodeQueries, kDim>(a, a.q + j, a.out + j * stride);
    }
    for (; j < a.n_queries; ++j) decode_queries<Rows, 1, kDim>(a, a.q + j, a.out + j * stride);
}

template <class Rows>
void decode_type(const DecodeArgs& a) {
    if (a.head_dim == 64) {
        decode_rows<Rows, 64>(a);
    } else if (a.head_dim == 128) {
        decode_rows<Rows, 128>(a);
    } else {
        decode_rows<Rows, 0>(a);
    }
}

void decode_kernel(const DecodeArgs& a) {
    if (a.type == DType::kF32) {
        decode_type<RowsF32>(a);
    } else if (a.type == DType::kF16) {
        decode_type<RowsF16>(a);
    } else if (a.type == DType::kBF16) {
        decode_type<RowsBF16>(a);
    } else {
        decode_type<RowsQ8_0>(a);
    }
}

// The softmax over the keys of two partials.
void fold_kernel(float* into, const float* partial, int head_dim) {
    float m = into[0] > partial[0] ? into[0] : partial[0];
    alignas(64) float s[kLanes] = {};
    s[0] = into[0] - m;
    s[1] = partial[0] - m;
    vstore(s, vexp2(vload(s)));
    vf old_scale = vset(s[0]), new_scale = vset(s[1]);
    into[1] = into[1] * s[0] + partial[1] * s[1];
    into[0] = m;
    float* acc = into + kPartialHead;
    const float* add = partial + kPartialHead;
    for_lanes(head_dim, [&](int64_t i, int n) {
        vf x = load_up_to(acc + i, n) * old_scale;
        store_up_to(acc + i, vfma(load_up_to(add + i, n), new_scale, x), n);
    });
}

// ---- prefill --------------------------------------------------------------------------------------------------------

inline constexpr int kTileVectors = kLanes == 16 ? 4 : 2;  // vectors of queries in registers, beside 4 rows

// out[r][query] (+)= sum over i of rows[r][i] · x[i][query], for r < 4; the sum runs over i in order.
template <int kVectors, bool kAdd>
inline void multiply4(const float* rows, int64_t row_step, int64_t i_step, const float* x, int first, int last,
                      float* out, const float* scale) {
    vf acc[4][kVectors];
    for (int r = 0; r < 4; ++r) {
        for (int c = 0; c < kVectors; ++c) {
            acc[r][c] = kAdd ? vload(out + r * kQueryTile + c * kLanes) * vload(scale + c * kLanes) : vzero();
        }
    }
    for (int i = first; i < last; ++i) {
        vf q[kVectors];
        for (int c = 0; c < kVectors; ++c) q[c] = vload(x + i * kQueryTile + c * kLanes);
        for (int r = 0; r < 4; ++r) {
            vf k = vset(rows[r * row_step + i * i_step]);
            for (int c = 0; c < kVectors; ++c) acc[r][c] = vfma(k, q[c], acc[r][c]);
        }
    }
    for (int r = 0; r < 4; ++r) {
        for (int c = 0; c < kVectors; ++c) vstore(out + r * kQueryTile + c * kLanes, acc[r][c]);
    }
}

// Scores become weights; the running maximum and sum move on; scale = what the earlier sums are worth now.
template <int kVectors>
inline void soften(const PrefillArgs& a, int c0, int first, int last, float* scale) {
    for (int c = c0; c < c0 + kVectors * kLanes; c += kLanes) {
        vf old = vload(a.max + c), max = old, lo = vload(a.first_seen + c), hi = vload(a.last_seen + c);
        for (int key = first; key < last; ++key) {
            float* p = a.p + key * kQueryTile + c;
            vf s = vload(p);
            if (a.masked) {
                s = vselect_between(lo, vset(static_cast<float>(key)), hi, s, vset(kMasked));
                vstore(p, s);
            }
            max = vmax(max, s);
        }
        vf change = vexp2(old - max), sum = vload(a.sum + c) * change;
        for (int key = first; key < last; ++key) {
            float* p = a.p + key * kQueryTile + c;
            vf e = vexp2(vload(p) - max);
            vstore(p, e);
            sum = sum + e;
        }
        vstore(a.max + c, max);
        vstore(a.sum + c, sum);
        vstore(scale + c - c0, change);
    }
}

template <int kVectors>
void prefill_lanes(const PrefillArgs& a, int c0) {
    int first = a.first_key / 4 * 4,
        last = (a.last_key + 3) / 4 * 4;  // within the block, whose size is a multiple of 4
    for (int key = first; key < last; key += 4) {
        multiply4<kVectors, false>(a.k + key * a.head_dim, a.head_dim, 1, a.q + c0, 0, a.head_dim,
                                   a.p + key * kQueryTile + c0, nullptr);
    }
    alignas(64) float scale[kVectors * kLanes];
    soften<kVectors>(a, c0, a.first_key, a.last_key, scale);
    for (int i = 0; i < a.head_dim; i += 4) {
        multiply4<kVectors, true>(a.v + i, 1, a.head_dim, a.p + c0, a.first_key, a.last_key,
                                  a.acc + i * kQueryTile + c0, scale);
    }
}

void prefill_kernel(const PrefillArgs& a) {
    int c = 0;
    for (; c + kTileVectors * kLanes <= a.n_queries; c += kTileVectors * kLanes) prefill_lanes<kTileVectors>(a, c);
    if (kTileVectors == 4 && a.n_queries - c > 2 * kLanes) {
        prefill_lanes<kTileVectors>(a, c);
        return;
    }
    if (a.n_queries - c > kLanes) {
        prefill_lanes<2>(a, c);
    } else if (a.n_queries > c) {
        prefill_lanes<1>(a, c);
    }
}

}  // namespace
}  // namespace samba
