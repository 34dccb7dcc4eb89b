// Any bytes as a model file: an error, or a model all of whose tensors lie inside the bytes.
#include <cstdlib>

#include "kernels/error.h"
#include "models/gguf.h"
#include "models/model_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace samba;
    try {
        Gguf gguf = Gguf::parse(data, size, "fuzz.gguf");
        for (const GgufTensor& t : gguf.tensors) {
            const auto* begin = static_cast<const uint8_t*>(t.data);
            if (begin < data || t.bytes > size || begin + t.bytes > data + size) std::abort();
        }
        ModelFile file = model_of(gguf);
        for (const auto& [name, t] : file.tensors) {
            if (t.bytes() > size) std::abort();
        }
    } catch (const Error&) {
    }
    return 0;
}
