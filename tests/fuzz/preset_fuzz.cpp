// Any bytes as a preset: an error, or a config whose tensors have shapes.
#include <cstdlib>

#include "kernels/error.h"
#include "models/model_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace samba;
    try {
        Config config = parse_preset({reinterpret_cast<const char*>(data), size}, "fuzz.json");
        for (const TensorSpec& t : expected_tensors(config)) {
            if (t.rows <= 0 || t.cols <= 0) std::abort();
        }
        if (n_parameters(config) <= 0) std::abort();
    } catch (const Error&) {
    }
    return 0;
}
