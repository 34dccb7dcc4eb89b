// Any bytes as the config.json of a small checkpoint: an error, or a plan.
#include <string>

#include "kernels/error.h"
#include "models/huggingface.h"
#include "models/safetensors.h"
#include "tests/models/tiny_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace samba;
    static const std::string bytes = safetensors_bytes(TinyCheckpoint().tensors);
    static const auto reader =
        parse_safetensors(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), "checkpoint");
    try {
        plan_huggingface(*reader, {reinterpret_cast<const char*>(data), size}, "config.json");
    } catch (const Error&) {
    }
    return 0;
}
