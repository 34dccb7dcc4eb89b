// What the kernel tests share: random data, the instruction sets present, the distance to a specification.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/quant.h"
#include "kernels/view.h"

namespace samba::test {

// Each instruction set of this machine.
inline std::vector<Isa> isas() {
    std::vector<Isa> all;
    for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
        if (isa <= cpu_isa()) all.push_back(isa);
    }
    return all;
}

// A matrix of activations with memory of its own.
struct Matrix {
    int64_t rows = 0, cols = 0;
    std::vector<float> values;

    Matrix() = default;
    Matrix(int64_t r, int64_t c) : rows(r), cols(c), values(static_cast<size_t>(r * c)) {}
    float* row(int64_t i) { return values.data() + i * cols; }
    const float* row(int64_t i) const { return values.data() + i * cols; }
    View view() { return View(values.data(), rows, cols); }
    View view(int64_t first, int64_t n) { return view().slice(first, n); }
    bool operator==(const Matrix& other) const {  // bit for bit
        return rows == other.rows && cols == other.cols &&
               std::memcmp(values.data(), other.values.data(), values.size() * sizeof(float)) == 0;
    }
};

// Normal values of that standard deviation; the same seed gives the same matrix.
inline Matrix random_matrix(int64_t rows, int64_t cols, uint32_t seed, float deviation = 1.0f, float mean = 0.0f) {
    Matrix m(rows, cols);
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(mean, deviation);
    for (float& x : m.values) x = normal(engine);
    return m;
}

// A value rounded to a 16-bit type and back (F32: itself).
inline float rounded(float x, DType type) {
    if (type == DType::kF16) return f16_to_f32(f32_to_f16(x));
    return type == DType::kBF16 ? bf16_to_f32(f32_to_bf16(x)) : x;
}

// A weight of one F32 part over that memory.
inline Weight f32_weight(const Matrix& m, const float* bias = nullptr) {
    Weight w;
    w.rows = m.rows;
    w.cols = m.cols;
    w.parts = {{DType::kF32, m.rows, m.values.data()}};
    w.bias = bias;
    return w;
}

// Normalised mean square error: sum (x - ref)² / sum ref².
inline double nmse(std::span<const float> x, std::span<const double> ref) {
    double error = 0, scale = 0;
    for (size_t i = 0; i < ref.size(); ++i) {
        error += (x[i] - ref[i]) * (x[i] - ref[i]);
        scale += ref[i] * ref[i];
    }
    return error == 0 ? 0 : error / scale;  // NaN where x is
}

// Tolerances of nmse. Sums of a few thousand f32 products err by some 1e-7 relative, so 1e-13 in the square.
inline constexpr double kF32Nmse = 1e-12;

}  // namespace samba::test
