// A checkpoint to convert: named tensors of f32, f16 or bf16, read by rows. One reader for each container (safetensors,
// …).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace samba {

struct CheckpointTensor {
    std::string name;
    std::optional<DType> type;  // F32, F16 or BF16; none: another type, which cannot be read
    std::string type_name;      // as the container calls it
    std::vector<int64_t> shape;

    // As a matrix: the first dimension by all others; a vector is one row.
    int64_t rows() const { return shape.size() > 1 ? shape[0] : 1; }
    int64_t cols() const;
    std::string shape_text() const;  // "(1024, 1, 4)"
};

class CheckpointReader {
  public:
    virtual ~CheckpointReader() = default;
    virtual std::string where() const = 0;  // for messages
    // Sorted by name, each once.
    const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
    const CheckpointTensor* find(std::string_view name) const;
    // Rows first … first + n - 1, widened to f32, which is exact. Throws FileError for a type that cannot be read.
    // Safe to call from several threads.
    virtual void read_rows(const CheckpointTensor& tensor, int64_t first, int64_t n, float* out) const = 0;

  protected:
    std::vector<CheckpointTensor> tensors_;
};

}  // namespace samba
