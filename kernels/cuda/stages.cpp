// Stages of a decode step of few rows as one kernel each, or two where the rows are prepared first. Where a stage's
// form does not apply (f32 activations, more rows, weights of several types that would be paired), its default body
// does the work.
#include <algorithm>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quant_layout.h"
#include "kernels/cuda/quotient.cuh"

namespace samba::cuda {
namespace {

// Rows of so many columns that a product may normalise: they stand in shared memory as bf16, beside the least ring and
// the sums of all warps. All chips have room for eight rows of 3328.
int normed_rows(const Gpu& gpu, int64_t cols) {
    const int64_t rest = (gpu.max_shared > (200 << 10) ? 65 : 60) << 10;  // of 16 warps, of 8
    const int64_t row = (cols + 96) * 2;
    if (kMatvecRows * row + rest <= static_cast<int64_t>(gpu.max_shared)) return kMatvecRows;
    return cols <= 3328 ? 8 : 0;
}

// Whether conv_proj's clusters, of eight rows each, can take the step: no run goes on in another's rows.
bool in_clusters(const Step& s) {
    return s.n_rows() <= kMatvecRows && std::all_of(s.runs.begin(), s.runs.end(), [](const Run& r) {
               return r.first_row / kConvProjRows == (r.first_row + r.n_rows - 1) / kConvProjRows;
           });
}

bool is_ring_type(DType ring, DType values) { return values == (ring == DType::kQ8_0 ? DType::kF16 : ring); }

}  // namespace

// Whether a matvec may normalise the rows of x itself.
bool CudaBackend::folds_norm(const Step& s, View x, int64_t n_rows, const Weight& w) const {
    if (options_.f32_activations || s.kind != StepKind::kDecode || n_rows > normed_rows(gpu_, x.cols)) return false;
    if (x.cols % 8 != 0 || x.stride % 4 != 0 || x.type != DType::kF32) return false;
    if (reinterpret_cast<uintptr_t>(x.data) % 16 != 0) return false;
    return std::none_of(w.parts.begin(), w.parts.end(), [](const Weight::Part& p) { return p.type == DType::kF32; });
}

// Whether a product that adds to x prepares it for the next norm: several rows, for 16-bit weights (as its own are:
// those of the next product are not known here).
bool CudaBackend::hands_on(const Step& s, const Weight& w, View x) const {
    const DType type = w.parts.front().type;
    const bool sixteen = type == DType::kBF16 || type == DType::kF16;
    return sixteen && w.parts.size() == 1 && x.rows > 1 && x.rows <= kMatvecRows && folds_norm(s, x, x.rows, w);
}

void CudaBackend::matmul_add(const Step& s, View y, const Weight& w, View x, const Norm& next) {
    FewRows p;
    p.add = true;
    handed_on_ = {};
    if (!next.weight.empty() && hands_on(s, w, x)) {
        p.next = reinterpret_cast<unsigned char*>(work(kHandedOn, prepared_bytes(x.cols)));
        p.next_norm = next.weight.f32();
    }
    product(s, y, w, x, p);
    if (p.next != nullptr) handed_on_ = {x.data, x.rows, p.next_norm};
}

// y = W rmsnorm(x), part by part; `p` says what else is folded in.
void CudaBackend::normed_products(View x, const Norm& norm, const Weight& w, View y, FewRows p) {
    const int rotated = p.rotated_rows;
    int64_t first = 0;
    p.x = x, p.norm = norm.weight.f32(), p.eps = norm.eps;
    const bool handed_on = !p.gather && handed_on_ == HandedOn{x.data, x.rows, p.norm};
    for (size_t i = 0; i < w.parts.size(); ++i) {
        const auto rows = w.parts[i].rows;
        const bool quantized = info(w.parts[i].type).quantized;
        p.handed_on = handed_on && !quantized ? reinterpret_cast<unsigned char*>(work_[kHandedOn].as<>()) : nullptr;
        p.y = p.pairing == FewRows::kGateUp ? y : y.columns(first, rows);
        p.bias = w.bias == nullptr ? nullptr : w.bias + first;
        p.rotated_rows = static_cast<int>(std::clamp<int64_t>(rotated - first, 0, rows));
        few_rows(w.parts[i].type, device_weight(w, i), p);
        first += rows;
    }
}

void CudaBackend::norm_matmul(const Step& s, View x, const Norm& norm, const Weight& w, View y) {
    if (!folds_norm(s, x, x.rows, w)) return Backend::norm_matmul(s, x, norm, w, y);
    normed_products(x, norm, w, y, FewRows());
}

void CudaBackend::norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h) {
    if (!folds_norm(s, x, x.rows, gate_up) || gate_up.parts.size() != 1 || h.cols % kTile != 0) {
        return Backend::norm_gate_up(s, x, norm, gate_up, h);
    }
    FewRows p;
    p.pairing = FewRows::kGateUp;
    normed_products(x, norm, gate_up, h, p);
}

// Without head norms, a tile of a head and the one that it is rotated with are enough.
void CudaBackend::norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                                DType ring_type, Qkv out) {
    const int half = rope == nullptr ? 0 : rope->dim / 2;
    const bool tiles = w.head_dim % (2 * kTile) == 0 && half % kTile == 0 &&
                       quotient_fits(w.qkv.rows / (2 * kTile), w.head_dim / (2 * kTile));
    const bool plain = w.q_norm.weight.empty() && w.k_norm.weight.empty() && is_ring_type(ring_type, out.q.type);
    const bool whole = std::all_of(w.qkv.parts.begin(), w.qkv.parts.end(),
                                   [&](const Weight::Part& part) { return part.rows % w.head_dim == 0; });
    if (!tiles || !plain || !whole || !folds_norm(s, x, x.rows, w.qkv)) {
        return Backend::norm_qkv_rope(s, x, norm, w, rope, ring_type, out);
    }
    FewRows p;
    p.pairing = FewRows::kRotary;
    p.head_dim = w.head_dim;
    p.rotated_rows = rope == nullptr ? 0 : (w.n_heads + w.n_kv_heads) * w.head_dim;
    p.rope_half = half;
    if (rope != nullptr) p.cos = rope->cos.f32(), p.sin = rope->sin.f32(), p.rope_stride = rope->cos.stride;
    View all = out.q;  // q, k and v are neighbouring columns of one buffer
    all.cols = w.qkv.rows;
    normed_products(x, norm, w.qkv, all, p);
}

void CudaBackend::logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits) {
    if (!folds_norm(s, x, logits.rows, head)) return Backend::logits(s, x, norm, head, first, logits);
    FewRows p;
    std::copy_n(s.wanted.begin() + first, logits.rows, p.rows.row);
    // All rows as they are may have been handed on.
    p.gather = logits.rows != x.rows;
    for (int i = 0; i < logits.rows; ++i) p.gather = p.gather || p.rows.row[i] != i;
    normed_products(x, norm, head, logits, p);
}

void CudaBackend::conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state,
                              View dbc) {
    bind(s);
    const bool few = step_.decode && in_clusters(s);
    const bool form = u.type == DType::kBF16 && u.cols % 8 == 0 && conv.width() == kConvProjWidth &&
                      x_proj.parts.size() == 1 && x_proj.parts.front().type != DType::kF32;
    if (few && form && conv_proj(gpu_, step_, tables_, u, conv, x_proj, state, dbc)) return;
    Backend::conv_matmul(s, u, conv, x_proj, state, dbc);
}

// In a prefill the scan adds the bias: that saves a pass over dt.
void CudaBackend::prefill_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) {
    const View dt = scratch(1, in.u.rows, in.u.cols, DType::kF32);
    Weight plain = w.dt_proj;
    plain.bias = nullptr;
    matmul(s, in.dbc.columns(0, in.dt_rank), plain, dt);
    scan_prefill(gpu_, step_, tables_, in, dt, w.dt_proj.bias, w, state, y);
}

void CudaBackend::dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) {
    bind(s);
    const bool gated = in.z.data != nullptr;
    if (gated && !step_.decode && in.d_state <= kMaxStates) return prefill_scan(s, in, w, state, y);
    const DType type = w.dt_proj.parts.front().type;
    const bool sixteen = type == DType::kBF16 || type == DType::kF16;
    const bool aligned = in.dbc.stride % 8 == 0 && reinterpret_cast<uintptr_t>(in.dbc.data) % 16 == 0;
    // Each row would read W_dt again: of many rows the product is better made first.
    const bool few = step_.n_rows <= kMatvecRows;
    if (!step_.decode || !few || !gated || !sixteen || !aligned || w.dt_proj.parts.size() != 1 ||
        in.u.type != DType::kBF16 || in.dt_rank % 8 != 0) {
        return Backend::dt_scan(s, in, w, state, y);
    }
    dt_scan_decode(gpu_, step_, tables_, in, w, state, y);
}

}  // namespace samba::cuda
