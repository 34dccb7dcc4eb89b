#include "models/tensor_encoder.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <thread>
#include <vector>

#include "kernels/quant.h"
#include "models/progress.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr int64_t kChunkValues = int64_t{1} << 21;  // of all threads together

// One thread's rows of a chunk.
struct Worker {
    std::vector<float> values, decoded;
    std::exception_ptr failure;
    EncodeError error;
};

[[noreturn]] void not_finite(const std::string& name, int64_t row, float value) {
    throw FileError("tensor " + in_quotes(name) + ", row " + std::to_string(row) + ": the value " +
                    std::to_string(value) + " is not finite");
}

void check_values(const std::string& name, DType type, int64_t row, const float* x, int64_t cols) {
    for (int64_t i = 0; i < cols; ++i) {
        if (!std::isfinite(x[i])) not_finite(name, row, x[i]);
        if (type == DType::kF16 && std::fabs(x[i]) >= 65520.0f) {
            throw FileError("tensor " + in_quotes(name) + ", row " + std::to_string(row) + ": the value " +
                            std::to_string(x[i]) + " is beyond F16 (use bf16 or f32)");
        }
    }
}

void compare(const float* x, const float* y, int64_t n, EncodeError& e) {
    for (int64_t i = 0; i < n; ++i) {
        double d = static_cast<double>(y[i]) - x[i];
        e.squared_error += d * d;
        e.squared_norm += static_cast<double>(x[i]) * x[i];
        e.max_error = std::max(e.max_error, std::fabs(d));
    }
}

}  // namespace

TensorEncoder::TensorEncoder(GgufWriter& writer, int threads, const std::atomic<bool>* cancel)
    : writer_(writer),
      threads_(threads > 0 ? std::min(threads, 256)
                           : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))),
      cancel_(cancel) {}

EncodeError TensorEncoder::encode(const std::string& name, DType type, int64_t rows, int64_t cols,
                                  const RowSource& source, bool measure) {
    size_t out_row = row_bytes(type, cols);
    int64_t share = std::max<int64_t>(1, kChunkValues / cols / threads_);  // rows of a thread in a chunk
    std::vector<Worker> workers(static_cast<size_t>(threads_));
    std::vector<char> out(static_cast<size_t>(std::min(rows, share * threads_)) * out_row);
    for (int64_t chunk = 0; chunk < rows; chunk += share * threads_) {
        if (cancel_ && cancel_->load()) throw Cancelled("interrupted");
        auto work = [&](int64_t t) {
            Worker& w = workers[static_cast<size_t>(t)];
            try {
                w.values.resize(static_cast<size_t>(cols));
                w.decoded.resize(measure ? static_cast<size_t>(cols) : 0);
                int64_t first = chunk + t * share, last = std::min(rows, first + share);
                for (int64_t r = first; r < last; ++r) {
                    char* to = out.data() + static_cast<size_t>(r - chunk) * out_row;
                    source(r, 1, w.values.data());
                    check_values(name, type, r, w.values.data(), cols);
                    quantize_row(type, w.values.data(), to, cols);
                    if (!measure) continue;
                    dequantize_row(type, to, w.decoded.data(), cols);
                    compare(w.values.data(), w.decoded.data(), cols, w.error);
                }
            } catch (...) {
                w.failure = std::current_exception();
            }
        };
        std::vector<std::jthread> helpers;
        for (int64_t t = 1; t < threads_ && chunk + t * share < rows; ++t) helpers.emplace_back(work, t);
        work(0);
        helpers.clear();  // joins
        for (const Worker& w : workers) {
            if (w.failure) std::rethrow_exception(w.failure);
        }
        writer_.write(out.data(), static_cast<size_t>(std::min(rows - chunk, share * threads_)) * out_row);
    }
    EncodeError total;
    for (const Worker& w : workers) {
        total.squared_error += w.error.squared_error;
        total.squared_norm += w.error.squared_norm;
        total.max_error = std::max(total.max_error, w.error.max_error);
    }
    return total;
}

}  // namespace samba
