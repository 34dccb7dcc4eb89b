// What the bytes of a file mean: conversions bit by bit, block layouts against values computed by hand, and how close
// the quantisers come to the values that they were given.
#include "kernels/quant.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace samba;

namespace {

constexpr uint16_t kOne = 0x3c00, kHalf = 0x3800;  // f16

std::vector<float> normal_values(int64_t n, uint32_t seed, float sigma = 0.03f) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, sigma);
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = normal(random);
    return x;
}

std::vector<float> there_and_back(DType type, const std::vector<float>& x, const float* importance = nullptr) {
    auto n = static_cast<int64_t>(x.size());
    std::vector<char> bytes(row_bytes(type, n));
    std::vector<float> y(x.size());
    quantize_row(type, x.data(), bytes.data(), n, importance);
    dequantize_row(type, bytes.data(), y.data(), n);
    return y;
}

// sqrt(Σ w (y - x)² / Σ w x²)
double relative_error(const std::vector<float>& x, const std::vector<float>& y, const float* w = nullptr) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        double weight = w ? w[i] : 1, d = static_cast<double>(y[i]) - x[i];
        error += weight * d * d;
        norm += weight * x[i] * x[i];
    }
    return std::sqrt(error / norm);
}

template <class Block>
std::vector<float> decode(DType type, const Block& block) {
    std::vector<float> y(static_cast<size_t>(info(type).block_values));
    dequantize_row(type, &block, y.data(), info(type).block_values);
    return y;
}

}  // namespace

TEST_CASE("f16: every value widens exactly and narrows to itself") {
    for (uint32_t h = 0; h < 65536; ++h) {
        float f = f16_to_f32(static_cast<uint16_t>(h));
        int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
        if (exponent == 31 && mantissa != 0) {
            REQUIRE(std::isnan(f));
            REQUIRE(std::isnan(f16_to_f32(f32_to_f16(f))));
            continue;
        }
        double magnitude = exponent == 31  ? std::numeric_limits<double>::infinity()
                           : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
        REQUIRE(static_cast<double>(f) == (h & 0x8000 ? -magnitude : magnitude));
        REQUIRE(f32_to_f16(f) == h);
    }
}

TEST_CASE("f16: a tie goes to the even neighbour, everything else to the nearer") {
    for (uint16_t h = 0; h < 0x7bff; ++h) {  // up to the largest finite value
        float low = f16_to_f32(h), high = f16_to_f32(static_cast<uint16_t>(h + 1)), middle = low + (high - low) / 2;
        uint16_t even = h & 1 ? static_cast<uint16_t>(h + 1) : h;
        REQUIRE(f32_to_f16(middle) == even);
        REQUIRE(f32_to_f16(std::nextafter(middle, low)) == h);
        REQUIRE(f32_to_f16(std::nextafter(middle, high)) == h + 1);
    }
    REQUIRE(f32_to_f16(65519.996f) == 0x7bff);
    REQUIRE(f32_to_f16(65520.0f) == 0x7c00);  // infinity
    REQUIRE(f32_to_f16(-1e30f) == 0xfc00);
}

TEST_CASE("bf16: round to nearest even, NaN stays NaN") {
    REQUIRE(f32_to_bf16(1.0f) == 0x3f80);
    REQUIRE(f32_to_bf16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);  // tie to even
    REQUIRE(f32_to_bf16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);
    REQUIRE(f32_to_bf16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
    REQUIRE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("type names are found whatever their case") {
    REQUIRE(parse_dtype("q4_k") == DType::kQ4_K);
    REQUIRE(parse_dtype("Bf16") == DType::kBF16);
    REQUIRE_FALSE(parse_dtype("q4_k_m"));
    REQUIRE_FALSE(parse_dtype(""));
}

TEST_CASE("Q8_0: d times q") {
    BlockQ8_0 b{kHalf, {}};
    b.q[0] = -128;
    b.q[31] = 127;
    auto y = decode(DType::kQ8_0, b);
    REQUIRE(y[0] == -64.0f);
    REQUIRE(y[31] == 63.5f);
}

TEST_CASE("Q4_0: low nibbles first, then high, less 8") {
    BlockQ4_0 b{kHalf, {}};
    b.q[0] = 0xf0;
    b.q[15] = 0x3c;
    auto y = decode(DType::kQ4_0, b);
    REQUIRE(y[0] == -4.0f);   // 0.5 * (0 - 8)
    REQUIRE(y[16] == 3.5f);   // 0.5 * (15 - 8)
    REQUIRE(y[15] == 2.0f);   // 0.5 * (12 - 8)
    REQUIRE(y[31] == -2.5f);  // 0.5 * (3 - 8)
    REQUIRE(y[1] == -4.0f);
}

TEST_CASE("Q4_K: six-bit scales and mins, nibbles of two sub-blocks in 32 bytes") {
    BlockQ4_K b{};
    b.d = kOne;
    b.dmin = kHalf;
    b.scales[0] = 3;            // scale of sub-block 0
    b.scales[4] = 2 | 2 << 6;   // min of 0; the high bits of the min of 4
    b.scales[1] = 3 << 6;       // the high bits of the scale of 5: 0b11....
    b.scales[5] = 2 << 6;       // the high bits of the min of 5: 0b10....
    b.scales[9] = 5 | 10 << 4;  // the low bits: scale 0b110101 = 53, min 0b101010 = 42
    b.q[0] = 7;
    b.q[64 + 31] = 9 << 4;
    auto y = decode(DType::kQ4_K, b);
    REQUIRE(y[0] == 3 * 7 - 0.5f * 2);
    REQUIRE(y[1] == -1.0f);
    REQUIRE(y[5 * 32 + 31] == 53 * 9 - 0.5f * 42);
    REQUIRE(y[5 * 32] == -21.0f);
    REQUIRE(y[4 * 32] == -16.0f);  // min 2 << 4 = 32
}

TEST_CASE("Q5_K: bit s of qh belongs to sub-block s") {
    BlockQ5_K b{};
    b.d = kOne;
    b.scales[2] = 2;  // sub-block 2
    b.scales[3] = 1;  // sub-block 3
    b.q[32 + 4] = 0x5a;
    b.qh[4] = 1 << 2;
    auto y = decode(DType::kQ5_K, b);
    REQUIRE(y[2 * 32 + 4] == 2 * (16 + 10));
    REQUIRE(y[3 * 32 + 4] == 5.0f);
    b.qh[4] = 1 << 3;
    y = decode(DType::kQ5_K, b);
    REQUIRE(y[2 * 32 + 4] == 20.0f);
    REQUIRE(y[3 * 32 + 4] == 21.0f);
}

TEST_CASE("Q6_K: four quarters of a half share ql and qh") {
    BlockQ6_K b{};
    b.d = kHalf;
    for (int i = 0; i < 16; ++i) b.scales[i] = static_cast<int8_t>(i - 8);
    b.ql[64 + 20] = 0xa5;       // second half, l = 20: low of quarters 0 and 2
    b.ql[64 + 32 + 20] = 0x3c;  // quarters 1 and 3
    b.qh[32 + 20] = 0b11'01'10'00;
    auto y = decode(DType::kQ6_K, b);
    auto value = [](int scale, int q) { return 0.5f * static_cast<float>(scale) * static_cast<float>(q - 32); };
    REQUIRE(y[128 + 20] == value(8 + 1 - 8, 0x05));
    REQUIRE(y[128 + 32 + 20] == value(8 + 3 - 8, 0x0c | 2 << 4));
    REQUIRE(y[128 + 64 + 20] == value(8 + 5 - 8, 0x0a | 1 << 4));
    REQUIRE(y[128 + 96 + 20] == value(8 + 7 - 8, 0x03 | 3 << 4));
    REQUIRE(y[0] == value(-8, 0));
}

// Bounds for normally distributed weights: the theory of a uniform quantiser of that many levels per sub-block gives
// about these; a quantiser that only takes minimum and maximum is 5 to 10 % worse and fails.
TEST_CASE("quantisers come close to normally distributed values") {
    auto x = normal_values(256 * 256, 1);
    REQUIRE(relative_error(x, there_and_back(DType::kF16, x)) < 2.2e-4);
    REQUIRE(relative_error(x, there_and_back(DType::kBF16, x)) < 1.7e-3);
    REQUIRE(relative_error(x, there_and_back(DType::kQ8_0, x)) < 5.5e-3);
    REQUIRE(relative_error(x, there_and_back(DType::kQ4_0, x)) < 0.082);
    REQUIRE(relative_error(x, there_and_back(DType::kQ4_K, x)) < 0.0700);
    REQUIRE(relative_error(x, there_and_back(DType::kQ5_K, x)) < 0.0345);
    REQUIRE(relative_error(x, there_and_back(DType::kQ6_K, x)) < 0.0168);
}

TEST_CASE("mins pay where a sub-block lies to one side of zero") {
    auto x = normal_values(256 * 16, 2);
    for (float& v : x) v -= 0.1f;
    REQUIRE(relative_error(x, there_and_back(DType::kQ4_K, x)) < 0.021);
    REQUIRE(relative_error(x, there_and_back(DType::kQ5_K, x)) < 0.0105);
}

TEST_CASE("importance moves the error to where it does not matter") {
    auto x = normal_values(256 * 64, 3);
    std::vector<float> w(x.size());
    for (size_t i = 0; i < w.size(); ++i) w[i] = i % 4 == 0 ? 25.0f : 1.0f;
    for (DType type : {DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
        INFO(info(type).name);
        double plain = relative_error(x, there_and_back(type, x), w.data());
        double weighted = relative_error(x, there_and_back(type, x, w.data()), w.data());
        REQUIRE(weighted < 0.97 * plain);
    }
}

TEST_CASE("values that a Q8_0 block held give the same block again") {
    auto x = normal_values(32 * 100, 4);
    auto once = there_and_back(DType::kQ8_0, x);
    REQUIRE(there_and_back(DType::kQ8_0, once) == once);
}

TEST_CASE("extreme blocks stay finite: zeros, one value, the tiny and the huge") {
    for (DType type : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
        INFO(info(type).name);
        std::vector<float> x(256, 0.0f);
        REQUIRE(there_and_back(type, x) == x);
        for (float value : {1.0f, -1.0f, 1e-7f, -3e-6f, 1e30f, -1e30f}) {
            x.assign(256, 0.0f);
            x[77] = value;
            for (float y : there_and_back(type, x)) REQUIRE(std::isfinite(y));
            x.assign(256, value);
            for (float y : there_and_back(type, x)) REQUIRE(std::isfinite(y));
        }
        x.assign(256, 0.0f);
        x[0] = 1.0f;
        REQUIRE(there_and_back(type, x)[0] == Approx(1.0f).epsilon(0.02));
        x.assign(256, -0.75f);
        REQUIRE(relative_error(x, there_and_back(type, x)) < 0.02);
    }
}
