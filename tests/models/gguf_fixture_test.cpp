// A file written by the Python package `gguf` (gguf_python.py make): blocks of every type, random in every bit, decode
// to the very values that gguf gave.
#include <catch2/catch.hpp>

#include "kernels/quant.h"
#include "models/gguf.h"
#include "tests/npy.h"

using namespace samba;

TEST_CASE("blocks of every type decode to the values of the gguf package, bit by bit") {
    const std::string folder = std::string(SAMBA_SOURCE_DIR) + "/tests/models/fixtures/";
    Gguf file = Gguf::open(folder + "types.gguf");
    auto expected = read_npy<float>(folder + "types.npy");
    REQUIRE(file.tensors.size() == std::size(kTypes));
    const float* at = expected.data();
    for (const GgufTensor& t : file.tensors) {
        INFO(t.name);
        CHECK(parse_dtype(t.name) == t.type);
        REQUIRE(t.dims == std::vector<uint64_t>{256, 2});
        float values[512];
        dequantize_row(t.type, t.data, values, 512);
        for (int i = 0; i < 512; ++i) REQUIRE(values[i] == at[i]);
        at += 512;
    }
    CHECK(at == expected.data() + expected.size());
}
