// Any bytes as a safetensors file: an error, or tensors that can all be read to their last row.
#include <vector>

#include "kernels/error.h"
#include "models/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace samba;
    try {
        auto reader = parse_safetensors(data, size, "fuzz.safetensors");
        for (const CheckpointTensor& t : reader->tensors()) {
            std::vector<float> row(static_cast<size_t>(t.cols()));
            if (t.type) reader->read_rows(t, t.rows() - 1, 1, row.data());
        }
    } catch (const Error&) {
    }
    return 0;
}
