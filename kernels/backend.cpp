#include "kernels/backend.h"

namespace samba {

void Backend::norm_matmul(const Step& s, View x, const Norm& norm, const Weight& w, View y) {
    View h = scratch(0, x.rows, x.cols, activation_type());
    rmsnorm(s, x, norm, h);
    matmul(s, h, w, y);
}

void Backend::conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state, View dbc) {
    conv_silu(s, u, conv, state);
    matmul(s, u, x_proj, dbc);
}

void Backend::dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) {
    View dt = scratch(1, in.u.rows, in.u.cols, DType::kF32);
    matmul(s, in.dbc.columns(0, in.dt_rank), w.dt_proj, dt);
    selective_scan(s, in, dt, w, state, y);
}

void Backend::norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                            DType ring_type, Qkv out) {
    View all = out.q;  // q, k and v are neighbouring columns of one buffer
    all.cols = w.qkv.rows;
    norm_matmul(s, x, norm, w.qkv, all);
    head_norm_rope(s, w, rope, ring_type, out);
}

void Backend::norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h) {
    View both = scratch(2, x.rows, gate_up.rows, activation_type());
    norm_matmul(s, x, norm, gate_up, both);
    silu_mul(s, both, h);
}

void Backend::logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits) {
    View rows = scratch(3, logits.rows, x.cols, DType::kF32);
    gather_rows(s, x, std::span(s.wanted).subspan(first, logits.rows), rows);
    norm_matmul(s, rows, norm, head, logits);
}

}  // namespace samba
