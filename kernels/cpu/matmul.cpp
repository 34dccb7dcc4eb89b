#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {
namespace {

// Of a thread: panels of repacked weights stay in the second-level cache, beside what the next are made of. A pair of
// panels of 16 rows takes up to 40 bytes a column (8 bits, and two f32 scales for 32), a copy of 16 rows of blocks up
// to 17. (AMX: two panels of a chunk, and a copy of up to 32 bytes a column, which is less; it asserts so.)
constexpr size_t kPanelBytes = 256 << 10;
constexpr int64_t kPanelColumnBytes = 40 + 17;

// Rows are converted in groups that a kernel takes together: up to 8 at once, up to 16 in two halves, more in equal
// parts of up to 6.
int64_t row_group(int64_t rows) {
    if (rows <= 8) return rows;
    if (rows <= 16) return (rows + 1) / 2;
    int64_t groups = (rows + 5) / 6;
    return (rows + groups - 1) / groups;
}

size_t round_up(size_t bytes) { return (bytes + 127) / 128 * 128; }

size_t converted_bytes(int64_t rows, int64_t cols) {
    int64_t blocks = (cols + 31) / 32;
    size_t block_bytes = std::max<size_t>(kActBlockBytes, 32 * sizeof(uint16_t));
    return round_up(static_cast<size_t>(rows * blocks) * block_bytes + kTileSlack);
}

}  // namespace

const MatmulKernels& matmul_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::kAvx512) return kAvx512Kernels;
    if (isa == Isa::kAvx2) return kAvx2Kernels;
#endif
    return kPortableKernels;
}

const Bf16Kernels& bf16_kernels(Isa isa) {
    static constexpr Bf16Kernels kNone{};
#if defined(__x86_64__)
    if (isa == Isa::kAmx) return kAmxBf16;
    if (isa == Isa::kAvx512) return kAvx512Bf16;
#endif
    return kNone;
}

RowFormat row_format(DType weight, StepKind kind, Isa isa) {
    const Bf16Kernels& kernels = bf16_kernels(isa);
    bool quantised = info(weight).quantized;
    bool bf16 =
        kind == StepKind::kPrefill && kernels.product && (weight == DType::kBF16 || (quantised && kernels.quantised));
    return bf16 ? RowFormat::kBf16 : quantised ? RowFormat::kInt8 : RowFormat::kF32;
}

void Matmul::reserve(int64_t max_rows, int64_t max_cols, int64_t norm_cols) {
    max_rows_ = max_rows;
    shared_ = {round_up(static_cast<size_t>(max_rows * norm_cols) * sizeof(float)),
               converted_bytes(max_rows, max_cols)};
    own_ = {round_up(kOwnValues * sizeof(float)), converted_bytes(1, kOwnValues)};
    panel_bytes_ = std::max(kPanelBytes, round_up(static_cast<size_t>(kPanelColumnBytes * max_cols)));
    piece_bytes_ = round_up(static_cast<size_t>(max_rows * kPieceCols) * sizeof(float));
    thread_bytes_ = own_.normed + own_.converted + round_up(panel_bytes_) + piece_bytes_;
    size_t bytes = shared_.normed + shared_.converted + thread_bytes_ * static_cast<size_t>(pool_.size());
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(128, round_up(bytes)));
    if (!memory) throw std::bad_alloc();
    memory_ = std::shared_ptr<std::byte>(memory, std::free);
}

View Matmul::piece(int thread, int64_t rows) const {
    std::byte* at =
        memory_.get() + shared_.normed + shared_.converted + thread_bytes_ * static_cast<size_t>(thread + 1);
    return {at - piece_bytes_, rows, static_cast<int64_t>(piece_bytes_ / sizeof(float)) / rows / kTile * kTile};
}

ActRows Matmul::rows_for(StepKind kind, RowFormat format, View x, bool normed, int owner) const {
    std::byte* at = memory_.get();
    size_t normed_bytes = shared_.normed;
    if (owner >= 0) {
        at += shared_.normed + shared_.converted + thread_bytes_ * static_cast<size_t>(owner);
        normed_bytes = own_.normed;
    }
    int64_t group = format == RowFormat::kBf16 ? bf16_kernels(pool_.isa()).group : row_group(x.rows);
    ActRows r{kind, format, x.rows, x.cols, group, x.f32(), x.stride, at + normed_bytes};
    if (normed) {
        r.f32 = reinterpret_cast<const float*>(at);
        r.stride = x.cols;
    }
    return r;
}

void Matmul::prepare(const ActRows& rows, View x, const Norm* norm, Range which) const {
    const MatmulKernels& kernels = matmul_kernels(pool_.isa());
    const Bf16Kernels& bf16 = bf16_kernels(pool_.isa());
    for (int64_t first = which.first; first < which.last; first += rows.group) {
        int64_t n = std::min(rows.group, which.last - first);
        const float* in = rows.f32 + first * rows.stride;
        if (norm) {
            auto* normed = const_cast<float*>(in);
            for (int64_t i = 0; i < n; ++i) {
                rmsnorm_row(pool_.isa(), x.f32(first + i), norm->weight.f32(), norm->eps, x.cols,
                            normed + i * rows.stride);
            }
        }
        if (rows.format == RowFormat::kInt8) {
            std::byte* group = rows.converted + first * (rows.cols / 32) * kActBlockBytes;
            kernels.quantize(in, rows.stride, static_cast<int>(n), rows.cols, group);
        } else if (rows.format == RowFormat::kBf16) {
            int64_t row_bytes = (rows.cols + bf16.pad - 1) / bf16.pad * bf16.pad * 2;
            bf16.convert(in, rows.stride, static_cast<int>(n), rows.cols, rows.converted + first * row_bytes);
        }
    }
}

// A stage's first weights come from memory while its rows are made ready.
void Matmul::ask_for(const Weight& w, Range rows) {
    constexpr int64_t kAhead = 24 << 10;  // bytes; half of a first-level cache
    for (const Weight::Part& part : w.parts) {
        if (rows.first < part.rows) {
            auto stride = static_cast<int64_t>(row_bytes(part.type, w.cols));
            const char* at = static_cast<const char*>(part.data) + rows.first * stride;
            int64_t bytes = std::min(kAhead, std::min(rows.size(), part.rows - rows.first) * stride);
            for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
            return;
        }
        rows = {rows.first - part.rows, rows.last - part.rows};
    }
}

ActRows Matmul::rows(StepKind kind, RowFormat format, View x, const Norm* norm, int thread, int n_threads) const {
    bool own = x.rows * ((x.cols + 31) / 32 * 32) <= kOwnValues;
    ActRows r = rows_for(kind, format, x, norm != nullptr, own ? thread : -1);
    if (norm || format != RowFormat::kF32) {
        prepare(r, x, norm, own ? Range{0, x.rows} : share(x.rows, thread, n_threads, r.group));
        if (!own) pool_.barrier();
    }
    return r;
}

bool Matmul::uniform(StepKind kind, const Weight& w) const {
    RowFormat first = row_format(w.parts.front().type, kind, pool_.isa());
    return std::all_of(w.parts.begin(), w.parts.end(),
                       [&](const Weight::Part& p) { return row_format(p.type, kind, pool_.isa()) == first; });
}

void Matmul::product(StepKind kind, View x, const Norm* norm, const Weight& w, View y, bool add) {
    for (RowFormat format : {RowFormat::kF32, RowFormat::kBf16, RowFormat::kInt8}) {
        bool used = std::any_of(w.parts.begin(), w.parts.end(),
                                [&](const Weight::Part& p) { return row_format(p.type, kind, pool_.isa()) == format; });
        if (!used) continue;
        pool_.run([&](int thread, int n_threads) {
            Range out = share(w.rows, thread, n_threads, kTile);
            ask_for(w, out);
            ActRows in = rows(kind, format, x, norm, thread, n_threads);
            multiply(in, w, out, y.columns(out.first, out.size()), add, thread);
        });
    }
}

void Matmul::multiply(const ActRows& x, const Weight& w, Range out, View y, bool add, int thread) const {
    const MatmulKernels& kernels = matmul_kernels(pool_.isa());
    std::byte* own = memory_.get() + shared_.normed + shared_.converted + thread_bytes_ * static_cast<size_t>(thread);
    int64_t part_first = 0;
    for (const Weight::Part& part : w.parts) {
        Range rows{std::max(out.first, part_first), std::min(out.last, part_first + part.rows)};
        if (rows.first < rows.last && row_format(part.type, x.kind, pool_.isa()) == x.format) {
            ProductArgs a;
            a.type = part.type;
            a.w_stride = static_cast<int64_t>(row_bytes(part.type, w.cols));
            a.w = static_cast<const char*>(part.data) + (rows.first - part_first) * a.w_stride;
            a.n_out = rows.size();
            a.cols = w.cols;
            a.x = x.f32;
            a.x_stride = x.stride;
            a.converted = x.converted;
            a.n_rows = x.rows;
            a.group = x.group;
            a.y = y.f32() + (rows.first - out.first);
            a.y_stride = y.stride;
            a.bias = w.bias ? w.bias + rows.first : nullptr;
            a.add = add;
            a.in_file_order = in_file_order_;
            a.panel = own + own_.normed + own_.converted;
            a.panel_bytes = panel_bytes_;
            auto* kernel = x.format == RowFormat::kInt8   ? kernels.int8_product
                           : x.format == RowFormat::kBf16 ? bf16_kernels(pool_.isa()).product
                                                          : kernels.f32_product;
            kernel(a);
        }
        part_first += part.rows;
    }
}

}  // namespace samba
