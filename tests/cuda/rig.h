// What the CUDA tests share: a backend with matrices going in and out, and the tolerances.
//
// Inputs are rounded to the type in which the device gets them before the specification sees them, so an error is that
// of the op itself. Tolerances are of the normalised mean square error (tests/kernels/harness.h).
#pragma once
#include <deque>
#include <memory>

#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "tests/kernels/harness.h"

namespace samba::test {

// f32 results: sums of some thousand f32 products, exponentials good to 2^-22: 1e-7 each, 1e-13 in the square.
inline constexpr double kF32 = 2e-12;
// Results rounded to bf16: half a unit of 2^-7, 2^-14 / 12 in the square, halved by the spread of mantissas: 2.5e-6.
inline constexpr double kBf16 = 4e-6;
inline constexpr double kF16 = 1e-7;
inline double tolerance_of(DType type) { return type == DType::kF32 ? kF32 : type == DType::kF16 ? kF16 : kBf16; }

inline Matrix rounded(Matrix m, DType type) {
    for (float& x : m.values) x = rounded(x, type);
    return m;
}

// As products of few rows with quantised weights see activations: 8-bit integers with one scale for 32 of them.
inline Matrix in_eight_bits(Matrix m) {
    for (size_t at = 0; at < m.values.size(); at += 32) {
        const std::span<float> block(m.values.data() + at, 32);
        float largest = 0;
        for (const float x : block) largest = std::max(largest, std::abs(x));
        const float inverse = largest > 0 ? 127.0f / largest : 0.0f, scale = largest / 127.0f;
        for (float& x : block) {
            x = static_cast<float>(std::nearbyint(static_cast<double>(x) * inverse)) * scale;
        }
    }
    return m;
}

inline std::span<const double> doubles(const std::vector<double>& v) { return v; }
inline std::vector<double> doubles(const Matrix& m) { return {m.values.begin(), m.values.end()}; }

class Rig {
  public:
    explicit Rig(bool f32 = false, bool graphs = true)
        : backend_(make_cuda_backend({.device = 0, .f32_activations = f32, .graphs = graphs})) {
        backend_->prepare({.max_rows = 512,
                           .n_slots = 16,
                           .d_model = 512,
                           .vocab_size = 100,
                           .max_cols = 4096,
                           .max_ring_rows = 512});
    }
    explicit Rig(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

    Backend& operator*() const { return *backend_; }
    Backend* operator->() const { return backend_.get(); }
    DType act() const { return backend_->activation_type(); }

    // A matrix on the device; what it holds at first is not zero, so that a result that was not written shows.
    View matrix(int64_t rows, int64_t cols, DType type) {
        const size_t bytes = static_cast<size_t>(rows) * row_bytes(type, cols);
        memory_.push_back(backend_->allocate(bytes));
        std::vector<unsigned char> poison(bytes, 0xff);  // NaN
        backend_->write(memory_.back().data(), poison.data(), bytes);
        return View(memory_.back().data(), rows, cols, type);
    }
    View put(const Matrix& m, DType type) {
        View v = matrix(m.rows, m.cols, type);
        write(m, v);
        return v;
    }
    void write(const Matrix& m, View v) {
        std::vector<char> row(row_bytes(v.type, m.cols));
        for (int64_t r = 0; r < m.rows; ++r) {
            quantize_row(v.type, m.row(r), row.data(), m.cols);
            backend_->write(v.row<char>(0) + r * static_cast<int64_t>(row_bytes(v.type, v.stride)), row.data(),
                            row.size());
        }
    }
    Matrix get(View v) {
        Matrix m(v.rows, v.cols);
        std::vector<char> row(row_bytes(v.type, v.cols));
        for (int64_t r = 0; r < v.rows; ++r) {
            backend_->read(row.data(), v.row<char>(0) + r * static_cast<int64_t>(row_bytes(v.type, v.stride)),
                           row.size());
            dequantize_row(v.type, row.data(), m.row(r), v.cols);
        }
        return m;
    }
    // A weight of that type; `values` become what it holds.
    Weight weight(Matrix& values, DType type, const std::vector<float>& bias = {}) {
        std::vector<char>& bytes = files_.emplace_back(static_cast<size_t>(values.rows) * row_bytes(type, values.cols));
        Tensor t{type, values.rows, values.cols, bytes.data()};
        for (int64_t r = 0; r < values.rows; ++r) {
            char* row = bytes.data() + static_cast<size_t>(r) * row_bytes(type, values.cols);
            quantize_row(type, values.row(r), row, values.cols);
            dequantize_row(type, row, values.row(r), values.cols);
        }
        if (bias.empty()) return backend_->load(std::span(&t, 1));
        Tensor b{DType::kF32, 1, static_cast<int64_t>(bias.size()), bias.data()};
        return backend_->load(std::span(&t, 1), &b);
    }
    Weight vector(const Matrix& values) {
        Matrix copy = values;
        return weight(copy, DType::kF32);
    }
    char* bytes(size_t n) {
        memory_.push_back(backend_->allocate(n));
        return memory_.back().data();
    }

  private:
    std::unique_ptr<Backend> backend_;
    std::deque<Buffer> memory_;
    std::deque<std::vector<char>> files_;
};

inline Step step_of(StepKind kind, std::vector<Run> runs) {
    Step s;
    s.kind = kind;
    int row = 0;
    for (Run& r : runs) r.first_row = row, row += r.n_rows;
    s.runs = std::move(runs);
    s.tokens.resize(static_cast<size_t>(row));
    return s;
}
inline Step step_of(StepKind kind, int slot, int64_t position, int n_rows) {
    return step_of(kind, {{slot, position, 0, n_rows, false}});
}

inline constexpr StepKind kDecode = StepKind::kDecode, kPrefill = StepKind::kPrefill;

}  // namespace samba::test
