// The selective scan: runs cut into tiles of rows, whose state is handed on through the state planes.
#include <algorithm>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {
namespace {

void scan_run(const OpKernels& ops, const Run& run, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
              View y, int64_t channel, int64_t n_channels) {
    ScanArgs a;
    a.channels = n_channels;
    a.d_state = in.d_state;
    a.A = w.A.f32() + channel * in.d_state;
    a.D = w.D.f32() + channel;
    a.u_stride = in.u.stride;
    a.z_stride = in.z.stride;
    a.dt_stride = dt.stride;
    a.y_stride = y.stride;
    a.bc_stride = in.dbc.stride;
    a.n_planes = state.n_planes;
    a.plane_stride = state.plane_stride;
    a.planes = state.base + run.slot * state.slot_stride + channel * in.d_state;
    for (int64_t t = 0; t < run.n_rows; t += kScanRows) {
        int64_t row = run.first_row + t;
        a.n_rows = std::min(kScanRows, run.n_rows - t);
        a.u = in.u.f32(row) + channel;
        a.z = in.z.data ? in.z.f32(row) + channel : nullptr;
        a.dt = dt.f32(row) + channel;
        a.y = y.f32(row) + channel;
        a.B = in.dbc.f32(row) + in.dt_rank;
        a.C = a.B + in.d_state;
        a.before = state.before(run.slot, run.position + t) + channel * in.d_state;
        a.first_plane = static_cast<int>((run.position + t) % state.n_planes);
        a.first_kept = run.n_rows - state.n_planes - t;
        ops.scan(a);
    }
}

}  // namespace

void selective_scan(Isa isa, const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state, View y,
                    Range channels) {
    for (const Run& run : s.runs) {
        scan_run(op_kernels(isa), run, in, dt, w, state, y, channels.first, channels.size());
    }
}

void selective_scan(ThreadPool& pool, const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                    View y) {
    pool.run([&](int thread, int n) {
        selective_scan(pool.isa(), s, in, dt, w, state, y, share(in.u.cols, thread, n, kChannelTile));
    });
}

}  // namespace samba
