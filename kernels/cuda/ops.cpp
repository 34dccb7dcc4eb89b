// The ops: what goes to which kernel.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quant_layout.h"
#include "kernels/error.h"

namespace samba::cuda {
namespace {

constexpr int kQuantMatvecRows = 32;         // up to here, quantised weights are read again for every 16 rows
constexpr int64_t kQuantMatvecCols = 24576;  // a row of them in 8 bits fits every chip's shared memory

bool aligned16(View v) { return v.stride % 8 == 0 && v.cols % 8 == 0 && reinterpret_cast<uintptr_t>(v.data) % 16 == 0; }

View rows_of(View v, int64_t first, int64_t n) { return v.slice(first, std::min(n, v.rows - first)); }

}  // namespace

// ---- products

void CudaBackend::few_rows(DType type, const DeviceWeight& w, FewRows p) {
    // Products in 8 bits read f16 themselves, whatever the number of rows: rounded to bf16 first, their bits were
    // others.
    const bool reads_f16 = info(type).quantized || stages_activations(gpu_, p.x.cols, p.x.rows);
    const bool f16 = p.x.type == DType::kF16 && reads_f16;
    if (type != DType::kF32 && p.norm == nullptr && ((p.x.type != DType::kBF16 && !f16) || !aligned16(p.x))) {
        p.x = converted(kInput, p.x, DType::kBF16);
    }
    if (type == DType::kBF16 || type == DType::kF16) p.ahead = product_after({w, p.pairing});
    if (type != DType::kF32) p.workspace = reinterpret_cast<unsigned char*>(work(kPrepared, prepared_bytes(p.x.cols)));
    switch (type) {
        case DType::kF32:
            return matvec_f32(gpu_, w, p);
        case DType::kF16:
            return matvec_f16(gpu_, w, p);
        case DType::kBF16:
            return matvec_bf16(gpu_, w, p);
        case DType::kQ8_0:
            return matvec_q8_0(gpu_, w, p);
        case DType::kQ4_0:
            return matvec_q4_0(gpu_, w, p);
        case DType::kQ4_K:
            return matvec_q4_k(gpu_, w, p);
        case DType::kQ5_K:
            return matvec_q5_k(gpu_, w, p);
        case DType::kQ6_K:
            return matvec_q6_k(gpu_, w, p);
    }
}

// A copy of x in another type, its columns padded with zeros to a multiple of 8.
View CudaBackend::converted(int work_id, View x, DType type) {
    const int64_t stride = padded_columns(static_cast<int>(x.cols));
    View to(work(work_id, static_cast<size_t>(x.rows) * row_bytes(type, stride)), x.rows, stride, type);
    convert(gpu_, x, to);
    to.cols = x.cols;
    return to;
}

// cuBLASLt, a piece of rows at a time where x or y must be converted.
void CudaBackend::many_rows(DType type, const DeviceWeight& w, View x, View y, bool add) {
    const DType needed = type == DType::kF32 ? DType::kF32 : DType::kBF16;
    const bool convert_x = x.type != needed, convert_y = y.type == DType::kF16;
    int64_t piece = x.rows;
    const int64_t values = static_cast<int64_t>(work_[kInput].bytes / sizeof(float));
    if (convert_x) piece = std::min(piece, std::max<int64_t>(1, values / padded_columns(w.cols)));
    if (convert_y) piece = std::min(piece, std::max<int64_t>(1, values / w.rows));
    for (int64_t first = 0; first < x.rows; first += piece) {
        View in = rows_of(x, first, piece), out = rows_of(y, first, piece);
        if (convert_x) in = converted(kInput, in, needed);
        if (!convert_y) {
            many_rows_bf16(type, w, in, out, add);
            continue;
        }
        View wide(work(kOutput, static_cast<size_t>(out.rows * w.rows) * sizeof(float)), out.rows, w.rows, DType::kF32);
        many_rows_bf16(type, w, in, wide, false);
        convert(gpu_, wide, out);
    }
}

// x in the type of the product: bf16, or f32 for F32 weights; other weights are widened, part by part.
void CudaBackend::many_rows_bf16(DType type, const DeviceWeight& w, View x, View y, bool add) {
    char* workspace = blas_workspace_.as<>();
    if (type == DType::kF32 || type == DType::kBF16) {
        View rows(const_cast<unsigned char*>(w.data), w.rows, w.cols, type);
        if (type == DType::kBF16) rows.stride = padded_columns(w.cols);
        return blas_->multiply(gpu_, workspace, x, rows, y, add);
    }
    const size_t row = row_bytes(DType::kBF16, padded_columns(w.cols));
    constexpr size_t kPiece = 64 << 20;
    const int64_t piece = std::max<int64_t>(kTile, static_cast<int64_t>(kPiece / row) / kTile * kTile);
    char* memory = work(kWeights, row * static_cast<size_t>(std::min<int64_t>(piece, w.rows)));
    for (int64_t first = 0; first < w.rows; first += piece) {
        View rows(memory, std::min<int64_t>(piece, w.rows - first), w.cols, DType::kBF16);
        rows.stride = padded_columns(w.cols);
        dequantize(gpu_, type, w, first, rows);
        blas_->multiply(gpu_, workspace, x, rows, y.columns(first, rows.rows), add);
    }
}

// `folded`: what else the products of a few rows do.
void CudaBackend::product(const Step& s, View x, const Weight& w, View y, FewRows folded) {
    const bool add = folded.add;
    if (add && y.type != DType::kF32) throw Error("cuda: a product adds to f32 values alone");
    int64_t first = 0;
    for (size_t i = 0; i < w.parts.size(); ++i) {
        const Weight::Part& part = w.parts[i];
        const DeviceWeight weight = device_weight(w, i);
        View out = y.columns(first, part.rows);
        const float* bias = w.bias == nullptr ? nullptr : w.bias + first;
        const bool decode_f32 = part.type == DType::kF32 && s.kind == StepKind::kDecode;
        const bool quantized = info(part.type).quantized;
        const int64_t at_once = part.type == DType::kF32 ? kMatvecF32Rows : kMatvecRows;
        int64_t few = at_once;
        if (decode_f32) few = x.rows;
        if (quantized) few = x.cols <= kQuantMatvecCols ? kQuantMatvecRows : 0;
        if (x.rows <= few) {
            for (int64_t row = 0; row < x.rows; row += at_once) {
                FewRows p = folded;
                p.x = rows_of(x, row, at_once), p.y = rows_of(out, row, at_once);
                p.bias = bias;
                few_rows(part.type, weight, p);
            }
        } else {
            many_rows(part.type, weight, x, out, add);
            if (bias != nullptr) add_bias(gpu_, bias, out);
        }
        first += part.rows;
    }
}

void CudaBackend::matmul(const Step& s, View x, const Weight& w, View y) { product(s, x, w, y); }

// ---- the others

void CudaBackend::embed(const Step& s, const Weight& table, std::span<RopeTable* const> ropes, View x) {
    bind(s);
    handed_on_ = {};
    EmbedArgs args;
    args.tables = tables_;
    args.decode = step_.decode;
    if (ropes.size() > kMaxRopes) throw Error("cuda: more than " + std::to_string(kMaxRopes) + " kinds of rotation");
    for (RopeTable* r : ropes) {
        args.ropes[args.n_ropes++] = {rope_turns(r->dim, r->theta), r->cos.f32(), r->sin.f32(), r->cos.stride,
                                      r->dim / 2};
    }
    cuda::embed(gpu_, args, step_, table, x);
}

// theta^(-2i/dim) for i < dim / 2, in turns a position, as 64-bit fractions: position times them wraps at whole turns.
const uint64_t* CudaBackend::rope_turns(int dim, double theta) {
    const auto key = std::pair(dim, theta);
    if (const auto it = turns_.find(key); it != turns_.end()) return it->second;
    if (turns_used_ + dim / 2 > kMaxTurns || capturing_) throw Error("cuda: too many kinds of rotation");
    std::vector<uint64_t> turns;
    for (int i = 0; i < dim / 2; ++i) {
        long double turn =
            std::pow(static_cast<long double>(theta), -2.0L * i / dim) / (2 * std::numbers::pi_v<long double>);
        turn -= std::floor(turn);
        turns.push_back(static_cast<uint64_t>(std::ldexp(turn, 64)));
    }
    uint64_t* to = turns_memory_.as<uint64_t>() + turns_used_;
    write(to, turns.data(), turns.size() * sizeof(uint64_t));
    turns_used_ += dim / 2;
    return turns_[key] = to;
}

void CudaBackend::rmsnorm(const Step&, View x, const Norm& norm, View y) {
    cuda::rmsnorm(gpu_, x, norm.weight.f32(), norm.eps, y);
}

void CudaBackend::conv_silu(const Step& s, View u, const Conv& conv, PlaneState state) {
    bind(s);
    if (conv.width() > kMaxConvWidth) {
        throw Error("cuda: a convolution over " + std::to_string(conv.width()) + " tokens; at most " +
                    std::to_string(kMaxConvWidth) + " are possible");
    }
    const auto edges = static_cast<size_t>(step_.n_tiles) * static_cast<size_t>((conv.width() - 1) * u.cols);
    cuda::conv_silu(gpu_, step_, tables_, u, conv, state,
                    step_.decode ? nullptr : reinterpret_cast<float*>(work(kEdges, edges * sizeof(float))));
}

void CudaBackend::selective_scan(const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                                 View y) {
    bind(s);
    const bool gated = in.z.data != nullptr;
    if (step_.decode && gated) return scan_decode(gpu_, step_, tables_, in, dt, w, state, y);
    if (in.d_state > kMaxStates) {
        throw Error("cuda: " + std::to_string(in.d_state) + " states a channel; at most " + std::to_string(kMaxStates) +
                    " are possible");
    }
    if (!gated) return scan_ungated(gpu_, step_, tables_, in, dt, w, state, y);
    scan_prefill(gpu_, step_, tables_, in, dt, nullptr, w, state, y);
}

void CudaBackend::head_norm_rope(const Step&, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv) {
    cuda::head_norm_rope(gpu_, w, rope, type, qkv);
}

void CudaBackend::attention(const Step& s, const Qkv& in, const Ring& ring, View y) {
    bind(s);
    if (ring.head_dim % 8 != 0 || ring.head_dim > kMaxHeadDim) {
        throw Error("cuda: heads of " + std::to_string(ring.head_dim) + " values; multiples of 8 up to " +
                    std::to_string(kMaxHeadDim) + " are possible");
    }
    if (!step_.decode) {
        const bool sixteen = ring.type == DType::kF16 || ring.type == DType::kBF16;
        const int d = ring.head_dim;
        const bool fast = sixteen && in.q.type == ring.type && (d == 64 || d == 128 || d == 256) && aligned16(in.q);
        fast ? attention_prefill(gpu_, step_, tables_, in, ring, y)
             : attention_generic(gpu_, step_, tables_, in, ring, y);
        return append_to_ring(gpu_, step_, tables_, in, ring);
    }
    // As many runs at a time as the partial sums have room for.
    const int n_heads = static_cast<int>(in.q.cols) / ring.head_dim;
    const int64_t row = decode_partial_values(ring.n_rows, n_heads, ring.head_dim);
    float* partial = reinterpret_cast<float*>(work(kPartial, static_cast<size_t>(row * kRunRows) * sizeof(float)));
    const auto room = static_cast<int64_t>(work_[kPartial].bytes / sizeof(float)) / row;
    RunGroup group;
    const int n_runs = static_cast<int>(s.runs.size());
    for (int i = 0; i < n_runs; ++i) {
        const Run& run = s.runs[static_cast<size_t>(i)];
        if (group.n_runs == 0) group = {i, 0, run.first_row, 0};
        ++group.n_runs;
        group.n_rows += run.n_rows;
        if (i + 1 == n_runs || group.n_rows + s.runs[static_cast<size_t>(i + 1)].n_rows > room) {
            attention_decode(gpu_, tables_, group, in, ring, y, partial);
            group = {};
        }
    }
}

void CudaBackend::decay_scan(const Step& s, const Decayed& in, PlaneState state, View y) {
    bind(s);
    cuda::decay_scan(gpu_, step_, tables_, in, state, y);
}

void CudaBackend::head_norm_gate(const Step&, View y, const Norm& norm, View gate) {
    cuda::head_norm_gate(gpu_, y, norm, gate);
}

void CudaBackend::mega_keys(const Step&, View z, const MegaKeys& w, const RopeTable& rope, DType ring_type, View q,
                            View k) {
    cuda::mega_keys(gpu_, z, w, rope, ring_type, q, k);
}

void CudaBackend::chunk_attention(const Step& s, const Qkv& in, const ChunkRing& ring, float scale, View y) {
    bind(s);
    cuda::chunk_attention(gpu_, step_, tables_, in, ring, scale, y);
}

void CudaBackend::silu(const Step&, View y) { cuda::silu(gpu_, y); }
void CudaBackend::mul_silu(const Step&, View y, View gate) { cuda::mul_silu(gpu_, y, gate); }
void CudaBackend::gated_residual(const Step&, View u, View h0, View h, View x) {
    handed_on_ = {};
    cuda::gated_residual(gpu_, u, h0, h, x);
}

void CudaBackend::silu_mul(const Step&, View gate_up, View h) { cuda::silu_mul(gpu_, gate_up, h); }

void CudaBackend::gather_rows(const Step&, View x, std::span<const int> rows, View y) {
    RowList list = {};
    for (size_t first = 0; first < rows.size(); first += kLogitRows) {
        const size_t n = std::min<size_t>(rows.size() - first, kLogitRows);
        std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(first), n, list.row);
        cuda::gather_rows(gpu_, x, list, y.slice(static_cast<int64_t>(first), static_cast<int64_t>(n)));
    }
}

void CudaBackend::sample(const Step& s, int first, View logits) {
    bind(s);
    if (s.sample) {
        WantedRows wanted = {};
        for (int64_t i = 0; i < logits.rows; ++i) {
            const int row = s.wanted[static_cast<size_t>(first + i)];
            for (size_t r = 0; r < s.runs.size(); ++r) {
                const int local = row - s.runs[r].first_row;
                if (local >= 0 && local < s.runs[r].n_rows) {
                    wanted.run[i] = static_cast<int32_t>(r), wanted.row[i] = local;
                }
            }
        }
        cuda::sample(gpu_, tables_, sampling_, wanted, first, logits, changes_logits(s));
    }
    if (s.on_logits) {
        const size_t row = static_cast<size_t>(logits.cols) * sizeof(float);
        if (!logits_memory_) {
            void* p = nullptr;
            check(cudaHostAlloc(&p, row * kLogitRows, cudaHostAllocDefault), "host memory for logits");
            logits_memory_ = HostPointer(p);
        }
        check(cudaMemcpy2DAsync(logits_memory_.get(), row, logits.data,
                                static_cast<size_t>(logits.stride) * sizeof(float), row,
                                static_cast<size_t>(logits.rows), cudaMemcpyDeviceToHost, gpu_.stream),
              "copy of logits");
        check(cudaStreamSynchronize(gpu_.stream), "a step");
        s.on_logits(first, View(logits_memory_.get(), logits.rows, logits.cols));
    }
    if (s.on_logprobs) {  // at the end of the step: one wait for all of its rows
        if (!logprobs_memory_) {
            void* p = nullptr;
            const auto rows = static_cast<size_t>(std::max(limits_.max_rows, kRunRows * limits_.n_slots));
            check(cudaHostAlloc(&p, rows * sizeof(float), cudaHostAllocDefault), "host memory for log-probabilities");
            logprobs_memory_ = HostPointer(p);
        }
        auto* logprobs = static_cast<float*>(logprobs_memory_.get());
        Targets targets = {};
        std::copy_n(s.targets.begin() + first, logits.rows, targets.id);
        cuda::target_logprobs(gpu_, logits, targets, logprobs + first);
        if (static_cast<size_t>(first + logits.rows) == s.wanted.size()) {
            check(cudaStreamSynchronize(gpu_.stream), "a step");
            s.on_logprobs(0, {logprobs, s.wanted.size()});
        }
    }
}

}  // namespace samba::cuda
