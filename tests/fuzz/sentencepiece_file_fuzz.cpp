// Any bytes as a tokenizer.model: an error, or pieces.
#include <cstdlib>

#include "kernels/error.h"
#include "models/sentencepiece_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace samba;
    try {
        auto file = parse_sentencepiece({reinterpret_cast<const char*>(data), size}, "fuzz.model");
        if (file.pieces.empty() || file.eos >= static_cast<int>(file.pieces.size())) std::abort();
    } catch (const Error&) {
    }
    return 0;
}
