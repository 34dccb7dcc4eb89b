// Streams a tensor into a file: rows of f32 come from a function, are converted on several threads and written in
// order.
#pragma once
#include <atomic>
#include <functional>
#include <string>

#include "kernels/dtype.h"
#include "models/gguf.h"

namespace samba {

// Fills rows first … first + n - 1; called on several threads at once.
using RowSource = std::function<void(int64_t first, int64_t n, float* out)>;

struct EncodeError {  // of the written values against the source's
    double squared_error = 0, squared_norm = 0, max_error = 0;
};

class TensorEncoder {
  public:
    // threads 0: all processors.
    TensorEncoder(GgufWriter& writer, int threads, const std::atomic<bool>* cancel);

    // Throws FileError for a value that is not finite or that F16 cannot hold, Cancelled. With `measure` the values are
    // decoded again and compared.
    EncodeError encode(const std::string& name, DType type, int64_t rows, int64_t cols, const RowSource& source,
                       bool measure);

  private:
    GgufWriter& writer_;
    int threads_;
    const std::atomic<bool>* cancel_;
};

}  // namespace samba
