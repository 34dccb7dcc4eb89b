// The nouns of the kernels: View (activations), Tensor (weights as a file holds them), Weight (as a backend holds
// them).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/dtype.h"

namespace samba {

// A matrix of activations in a backend's memory, row-major (rows, cols), `stride` values from row to row. Not owned.
struct View {
    void* data = nullptr;
    int64_t rows = 0, cols = 0, stride = 0;
    DType type = DType::kF32;

    View() = default;
    View(void* d, int64_t r, int64_t c, DType t = DType::kF32) : data(d), rows(r), cols(c), stride(c), type(t) {}

    template <class T>
    T* row(int64_t i) const {
        return static_cast<T*>(data) + i * stride;
    }
    float* f32(int64_t i = 0) const { return row<float>(i); }

    View columns(int64_t first, int64_t n) const {
        View v = *this;
        v.data = static_cast<char*>(data) + first * info(type).block_bytes;
        v.cols = n;
        return v;
    }
    View slice(int64_t first_row, int64_t n_rows) const {
        View v = *this;
        v.data = static_cast<char*>(data) + first_row * stride * info(type).block_bytes;
        v.rows = n_rows;
        return v;
    }
};

// A tensor as a file holds it, in host memory: rows of `cols` values of `type`, packed. A vector has one row.
struct Tensor {
    DType type = DType::kF32;
    int64_t rows = 0, cols = 0;
    const void* data = nullptr;

    size_t bytes() const { return static_cast<size_t>(rows) * row_bytes(type, cols); }
    const void* row(int64_t i) const {
        return static_cast<const char*>(data) + static_cast<size_t>(i) * row_bytes(type, cols);
    }
};

// A matrix (rows, cols) that a backend multiplies with: one or more tensors of equal row length, one below the other
// (q, k, v; gate, up), each in its file type. Made by Backend::load, which also owns or maps the memory.
struct Weight {
    struct Part {
        DType type = DType::kF32;
        int64_t rows = 0;
        const void* data = nullptr;  // the backend's layout; on the CPU the file's own bytes
    };
    int64_t rows = 0, cols = 0;
    std::vector<Part> parts;
    const float* bias = nullptr;    // (rows) in the backend's memory, or null
    std::shared_ptr<void> storage;  // memory the backend allocated for it, if any

    bool empty() const { return rows == 0; }
    // The values of a weight of one F32 part (norms, biases, A, D, convolution taps), in the backend's memory.
    const float* f32() const { return static_cast<const float*>(parts.front().data); }
};

}  // namespace samba
