// From a GGUF model file to one of another type: down (q8_0, q4_k_m, …) and up (f32: the same values; f16 and bf16
// round). Metadata is kept.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dtype.h"
#include "models/progress.h"

namespace samba {

struct QuantizeOptions {
    std::string input, output;
    std::string type;                                      // a name of file_types()
    std::vector<std::pair<std::string, std::string>> set;  // metadata to change, KEY, VALUE: see settable_keys()
    bool force = false;                                    // replace an existing output
    int threads = 0;                                       // 0: all processors
    const std::atomic<bool>* cancel = nullptr;
    ProgressFn progress;
};

struct TensorReport {
    std::string name;
    DType from = DType::kF32, to = DType::kF32;
    int64_t rows = 0, cols = 0;
    uint64_t bytes_before = 0, bytes_after = 0;
    double relative_error = 0;  // ‖new - old‖ / ‖old‖; 0 where nothing changed
    double max_error = 0;       // the largest |new - old|
};

struct QuantizeReport {
    std::string type;
    std::vector<TensorReport> tensors;           // in file order
    uint64_t bytes_before = 0, bytes_after = 0;  // of the files
    double relative_error = 0;                   // of all matrices together
    std::string content_hash;
};

// Throws UsageError, FileError, Cancelled. The output appears only when whole.
QuantizeReport quantize_model(const QuantizeOptions& options);

// "f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "q4_k_m": what --type takes (case does not matter).
std::vector<std::string> file_types();

// The metadata keys that --set may write, with the form of their values ("general.license", "text").
std::vector<std::pair<std::string, std::string>> settable_keys();

}  // namespace samba
