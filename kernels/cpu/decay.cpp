// Gated linear attention and retention: each thread has some values of some heads, whose states it alone touches.
#include <algorithm>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {
namespace {

void scan_tile(const OpKernels& ops, const Step& s, const Decayed& in, PlaneState state, View y, int head,
               int first_value, float* room) {
    DecayArgs a;
    a.key_dim = in.key_dim;
    a.values = std::min(kValueTile, in.value_dim - first_value);
    a.value_stride = in.value_dim;
    a.q_stride = in.q.stride;
    a.k_stride = in.k.stride;
    a.v_stride = in.v.stride;
    a.y_stride = y.stride;
    a.same = in.gates.data == nullptr;
    a.decay_stride = a.same ? 0 : in.gates.stride;
    a.n_planes = state.n_planes;
    a.plane_stride = state.plane_stride;
    a.room = room;
    int64_t key = int64_t{head} * in.key_dim, value = int64_t{head} * in.value_dim + first_value;
    int64_t offset = key * in.value_dim + first_value;
    for (const Run& run : s.runs) {
        a.n_rows = run.n_rows;
        a.q = in.q.f32(run.first_row) + key;
        a.k = in.k.f32(run.first_row) + key;
        a.v = in.v.f32(run.first_row) + value;
        a.y = y.f32(run.first_row) + value;
        a.decay = a.same ? in.head_decay->f32() + head : in.gates.f32(run.first_row) + key;
        a.before = state.before(run.slot, run.position) + offset;
        a.planes = state.base + run.slot * state.slot_stride + offset;
        a.first_plane = static_cast<int>(run.position % state.n_planes);
        a.first_kept = run.n_rows - state.n_planes;
        ops.decay_scan(a);
    }
}

}  // namespace

void decay_scan(ThreadPool& pool, const Step& s, const Decayed& in, PlaneState state, View y) {
    const OpKernels& ops = op_kernels(pool.isa());
    int64_t tiles = (in.value_dim + kValueTile - 1) / kValueTile;
    pool.run([&](int thread, int n) {
        if (in.gates.data) {
            Range rows = share(in.gates.rows * in.gates.cols, thread, n, kChannelTile);
            for (int64_t at = rows.first; at < rows.last;) {  // pieces of rows
                int64_t row = at / in.gates.cols, col = at % in.gates.cols;
                int64_t size = std::min(in.gates.cols - col, rows.last - at);
                ops.gate_decay(in.gates.f32(row) + col, size, kGateDivisor);
                at += size;
            }
            pool.barrier();
        }
        alignas(64) float room[kMaxKeyDim * kValueTile];
        Range items = share(in.n_heads * tiles, thread, n);
        for (int64_t item = items.first; item < items.last; ++item) {
            scan_tile(ops, s, in, state, y, static_cast<int>(item / tiles), static_cast<int>(item % tiles) * kValueTile,
                      room);
        }
    });
}

void head_norm_gate(ThreadPool& pool, View y, const Norm& norm, View gate) {
    int64_t dim = norm.weight.cols, n_heads = y.cols / dim;
    pool.run([&](int thread, int n) {
        Range items = share(y.rows * n_heads, thread, n);
        for (int64_t item = items.first; item < items.last; ++item) {
            int64_t row = item / n_heads, col = item % n_heads * dim;
            float* head = y.f32(row) + col;
            rmsnorm_row(pool.isa(), head, norm.weight.f32(), norm.eps, dim, head);
            silu_mul_row(pool.isa(), gate.f32(row) + col, head, dim, head);
        }
    });
}

}  // namespace samba
