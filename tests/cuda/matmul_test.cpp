// Products with every weight type, few rows and many: against the double-precision product of the dequantised weights.
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr DType kAll[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                          DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

std::vector<double> product(const Matrix& x, const Matrix& w, const std::vector<float>& bias = {}) {
    std::vector<double> y;
    for (int64_t i = 0; i < x.rows; ++i) {
        for (int64_t j = 0; j < w.rows; ++j) {
            double sum = bias.empty() ? 0 : bias[static_cast<size_t>(j)];
            for (int64_t k = 0; k < w.cols; ++k) sum += double{x.row(i)[k]} * w.row(j)[k];
            y.push_back(sum);
        }
    }
    return y;
}

// Few rows meet quantised weights as 8-bit integers: then the specification gets those too, and no bound is wider.
constexpr int64_t kFewRows = 32;
Matrix as_multiplied(const Matrix& x, DType weight) {
    return info(weight).quantized && x.rows <= kFewRows ? in_eight_bits(x) : x;
}

// Large products round the weights to bf16 once more (few values a sum vary), except F32 and BF16 ones.
double product_tolerance(DType weight, DType y, int64_t rows, bool f32) {
    const bool exact = weight == DType::kF32 || weight == DType::kBF16;
    const bool widened = !f32 && !exact && rows > (info(weight).quantized ? kFewRows : 16);
    return tolerance_of(y) + (widened ? 2 * kBf16 : 0);
}

struct Size {
    int64_t rows, cols;
};

}  // namespace

TEST_CASE("y = W x for each weight type, size and number of rows", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kAll), std::end(kAll)));
    const bool f32 = type == DType::kF32;
    const int block = info(type).block_values;
    Rig rig(f32);
    for (const Size size : {Size{16, 256}, Size{5, 512}, Size{40, 768}, Size{333, 1024}, Size{77, 2816}, Size{64, 96},
                            Size{50, 40}, Size{20, 13}}) {
        if (size.cols % block != 0) continue;
        Matrix w = random_matrix(size.rows, size.cols, 1);
        const Weight weight = rig.weight(w, type);
        for (const int n : {1, 3, 8, 9, 16, 27, 40, 70}) {
            const Matrix x = rounded(random_matrix(n, size.cols, 2), rig.act());
            const DType to = n % 2 ? DType::kF32 : rig.act();
            View y = rig.matrix(n, size.rows, to);
            for (const StepKind kind : {kDecode, kPrefill}) {
                rig->matmul(step_of(kind, 0, 0, n), rig.put(x, rig.act()), weight, y);
                INFO(info(type).name << ' ' << size.rows << " x " << size.cols << ", " << n << " rows");
                CHECK(nmse(rig.get(y).values, product(as_multiplied(x, type), w)) <
                      product_tolerance(type, to, n, f32));
            }
        }
    }
}

TEST_CASE("a row of up to sixteen has the same bits in any company", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kAll), std::end(kAll)));
    Rig rig(type == DType::kF32);
    Matrix w = random_matrix(100, 1024, 3);
    const Weight weight = rig.weight(w, type);
    const Matrix x = rounded(random_matrix(16, 1024, 4), rig.act());
    View in = rig.put(x, rig.act()), all = rig.matrix(16, 100, DType::kF32), one = rig.matrix(16, 100, DType::kF32);
    rig->matmul(step_of(kDecode, 0, 0, 16), in, weight, all);
    for (int i = 0; i < 16; ++i) rig->matmul(step_of(kDecode, 0, 0, 1), in.slice(i, 1), weight, one.slice(i, 1));
    CHECK(rig.get(all) == rig.get(one));
    rig->matmul(step_of(kDecode, 0, 0, 5), in.slice(3, 5), weight, one.slice(3, 5));
    rig->matmul(step_of(kDecode, 0, 0, 8), in.slice(8, 8), weight, one.slice(8, 8));
    CHECK(rig.get(all) == rig.get(one));
}

TEST_CASE("rows that one block has no room for: the same bits in any company", "[op]") {
    const DType type = GENERATE(DType::kBF16, DType::kF16);
    const int64_t rows = GENERATE(100, 2100, 2824);  // tiles: few; as many as blocks; two a block, the last in part
    const int64_t cols = GENERATE(6144, 8448);       // groups of 64: a multiple of all warps, and not
    Rig rig;
    Matrix w = random_matrix(rows, cols, 31), w_next = random_matrix(24, rows, 34);
    const std::vector<float> bias = random_matrix(1, rows, 35).values;
    const Weight weight = rig.weight(w, type, bias), after = rig.weight(w_next, type);
    const Norm norm{rig.vector(random_matrix(1, rows, 36, 0.3f, 1.0f)), 1e-5f};
    const Matrix x = rounded(random_matrix(16, cols, 32), rig.act()), y = random_matrix(16, rows, 33);
    View in = rig.put(x, rig.act()), one = rig.put(y, DType::kF32), next_one = rig.matrix(16, 24, DType::kF32);
    for (int i = 0; i < 16; ++i) {
        rig->matmul_add(step_of(kDecode, 0, 0, 1), in.slice(i, 1), weight, one.slice(i, 1), {});
        rig->norm_matmul(step_of(kDecode, 0, 0, 1), one.slice(i, 1), norm, after, next_one.slice(i, 1));
    }
    const Matrix alone = rig.get(one);
    if (rows == 100) {
        std::vector<double> expected = product(as_multiplied(x, type), w, bias);
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += y.values[i];
        CHECK(nmse(alone.values, expected) < product_tolerance(type, DType::kF32, 1, false));
    }
    for (const int n : {6, 8, 11, 16}) {
        View all = rig.put(y, DType::kF32), next = rig.matrix(n, 24, DType::kF32);
        rig->matmul_add(step_of(kDecode, 0, 0, n), in.slice(0, n), weight, all.slice(0, n), norm);
        rig->norm_matmul(step_of(kDecode, 0, 0, n), all.slice(0, n), norm, after, next);
        INFO(n << " rows");
        CHECK(rig.get(all.slice(0, n)) == rig.get(one.slice(0, n)));
        CHECK(rig.get(next) == rig.get(next_one.slice(0, n)));
    }
}

TEST_CASE("a step that finds its work memory too small, after many other shapes, is a graph later like those", "[op]") {
    Rig rig;
    Matrix small = random_matrix(32, 64, 41), wide = random_matrix(96, 1024, 42);
    const Weight products = rig.weight(small, DType::kBF16), quantized = rig.weight(wide, DType::kQ8_0);
    const Matrix many_values = rounded(random_matrix(40, 1024, 44), rig.act());
    const View in = rig.put(rounded(random_matrix(40, 64, 43), rig.act()), rig.act()),
               many = rig.put(many_values, rig.act());
    const View out = rig.matrix(40, 32, DType::kF32), widened = rig.matrix(40, 96, DType::kF32);
    Step s = step_of(kDecode, 0, 0, 1);
    const auto submit = [&](int shape, bool grows) {
        s.wanted = {shape};
        rig->submit(s, [&](const Step& step) {
            for (int i = 0; i < 20; ++i) rig->matmul(step, in.slice(i, 1), products, out.slice(i, 1));
            if (grows) rig->matmul(step, many, quantized, widened);  // so many rows are widened to bf16 first
            for (int i = 20; i < 40; ++i) rig->matmul(step, in.slice(i, 1), products, out.slice(i, 1));
        });
        rig->receive();
        return rig.get(out);
    };
    const Matrix expected = submit(0, false);
    for (int shape = 1; shape < 24; ++shape) CHECK(submit(shape, false) == expected);
    for (int i = 0; i < 4; ++i) CHECK(submit(24, true) == expected);
    CHECK(nmse(rig.get(widened).values, product(many_values, wide)) < 1e-3);
    for (int shape = 0; shape < 24; ++shape) CHECK(submit(shape, false) == expected);
}

TEST_CASE("f16 activations of quantised weights: the same bits in any company, however wide", "[op]") {
    const DType type = GENERATE(DType::kQ8_0, DType::kQ4_K, DType::kQ6_K);
    Rig rig;
    const int64_t cols = GENERATE(4096, 8192);
    Matrix w = random_matrix(32, cols, 17);
    const Weight weight = rig.weight(w, type);
    const Matrix x = rounded(random_matrix(8, cols, 18), DType::kF16);
    View in = rig.put(x, DType::kF16), all = rig.matrix(8, 32, DType::kF32), one = rig.matrix(8, 32, DType::kF32);
    rig->matmul(step_of(kDecode, 0, 0, 8), in, weight, all);
    for (int i = 0; i < 8; ++i) rig->matmul(step_of(kDecode, 0, 0, 1), in.slice(i, 1), weight, one.slice(i, 1));
    CHECK(rig.get(all) == rig.get(one));
    CHECK(nmse(rig.get(all).values, product(in_eight_bits(x), w)) < kF32);
}

TEST_CASE("quantised weights of long rows, of two tiles a block, of several turns: the same bits in any company",
          "[op]") {
    struct Size {
        DType type;
        int64_t rows, cols;
    };
    std::vector<Size> sizes = {{DType::kQ8_0, 9000, 3840}, {DType::kQ4_K, 9000, 3840}};  // several turns of 132 blocks
    for (const DType type : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
        sizes.push_back({type, 1500, 8448});
        sizes.push_back({type, 2500, 2048});
    }
    const Size size = GENERATE_REF(from_range(sizes));
    INFO(info(size.type).name << ' ' << size.rows << " x " << size.cols);
    Rig rig;
    Matrix w = random_matrix(size.rows, size.cols, 37);
    const Weight weight = rig.weight(w, size.type);
    const Matrix x = rounded(random_matrix(3, size.cols, 38), rig.act());
    const auto empty = [&] { return rig.matrix(3, size.rows, DType::kF32); };
    View in = rig.put(x, rig.act()), all = empty(), one = empty();
    rig->matmul(step_of(kDecode, 0, 0, 3), in, weight, all);
    for (int i = 0; i < 3; ++i) rig->matmul(step_of(kDecode, 0, 0, 1), in.slice(i, 1), weight, one.slice(i, 1));
    CHECK(rig.get(all) == rig.get(one));
    CHECK(nmse(rig.get(all).values, product(in_eight_bits(x), w)) < kF32);
    if (size.cols > 4096) return;
    const Norm norm{rig.vector(random_matrix(1, size.cols, 39, 0.3f, 1.0f)), 1e-5f};
    View stream = rig.put(random_matrix(3, size.cols, 40), DType::kF32), expected = empty();
    all = empty(), one = empty();
    rig->norm_matmul(step_of(kDecode, 0, 0, 3), stream, norm, weight, all);
    for (int i = 0; i < 3; ++i) {
        rig->norm_matmul(step_of(kDecode, 0, 0, 1), stream.slice(i, 1), norm, weight, one.slice(i, 1));
    }
    CHECK(rig.get(all) == rig.get(one));
    rig->Backend::norm_matmul(step_of(kDecode, 0, 0, 3), stream, norm, weight, expected);
    CHECK(nmse(rig.get(all).values, doubles(rig.get(expected))) < 12 * kBf16);  // it rounds to bf16 before the 8 bits
}

TEST_CASE("products add to the residual stream, with a bias", "[op]") {
    const DType type = GENERATE(DType::kF32, DType::kBF16, DType::kQ4_K, DType::kF16);
    const bool f32 = type == DType::kF32;
    Rig rig(f32);
    Matrix w = random_matrix(96, 512, 5);
    const std::vector<float> bias = random_matrix(1, 96, 6).values;
    const Weight weight = rig.weight(w, type, bias);
    for (const int n : {2, 33}) {
        const Matrix y = rounded(random_matrix(n, 512, 7), rig.act()), x = random_matrix(n, 96, 8);
        View stream = rig.put(x, DType::kF32);
        rig->matmul_add(step_of(kDecode, 0, 0, n), rig.put(y, rig.act()), weight, stream, {});
        std::vector<double> expected = product(as_multiplied(y, type), w, bias);
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += x.values[i];
        CHECK(nmse(rig.get(stream).values, expected) < product_tolerance(type, DType::kF32, n, f32));
    }
}

TEST_CASE("a weight of several tensors: of one type they become one matrix, of several they stay apart", "[op]") {
    Rig rig;
    const int64_t rows[] = {24, 40, 8};
    for (const bool mixed : {false, true}) {
        const DType types[] = {DType::kQ4_K, mixed ? DType::kQ6_K : DType::kQ4_K, mixed ? DType::kBF16 : DType::kQ4_K};
        std::vector<Matrix> parts;
        std::vector<std::vector<char>> bytes;
        std::vector<Tensor> tensors;
        for (int i = 0; i < 3; ++i) {
            Matrix m = random_matrix(rows[i], 512, static_cast<uint32_t>(10 + i));
            bytes.emplace_back(static_cast<size_t>(m.rows) * row_bytes(types[i], 512));
            tensors.push_back({types[i], m.rows, 512, bytes.back().data()});
            for (int64_t r = 0; r < m.rows; ++r) {
                char* at = bytes.back().data() + static_cast<size_t>(r) * row_bytes(types[i], 512);
                quantize_row(types[i], m.row(r), at, 512);
                dequantize_row(types[i], at, m.row(r), 512);
            }
            parts.push_back(std::move(m));
        }
        const Weight weight = rig->load(tensors);
        CHECK(weight.parts.size() == (mixed ? 3 : 1));
        for (const int n : {1, 50}) {
            const Matrix x = rounded(random_matrix(n, 512, 14), DType::kBF16);
            View y = rig.matrix(n, 72, DType::kF16);
            rig->matmul(step_of(kPrefill, 0, 0, n), rig.put(x, DType::kBF16), weight, y);
            int64_t first = 0;
            for (size_t i = 0; i < parts.size(); ++i) {
                const View part = y.columns(first, parts[i].rows);
                CHECK(nmse(rig.get(part).values, product(as_multiplied(x, types[i]), parts[i])) < kBf16 + kF16);
                first += parts[i].rows;
            }
        }
    }
}

TEST_CASE("activations that are not aligned, and columns of a wider matrix", "[op]") {
    Rig rig;
    Matrix w = random_matrix(48, 96, 15);
    const Weight weight = rig.weight(w, DType::kBF16);
    const Matrix wide = rounded(random_matrix(20, 131, 16), DType::kBF16);
    View in = rig.put(wide, DType::kBF16);
    Matrix x(20, 96);
    for (int64_t r = 0; r < 20; ++r) std::copy_n(wide.row(r) + 3, 96, x.row(r));
    for (const int n : {4, 20}) {
        View y = rig.matrix(n, 48, DType::kF32);
        rig->matmul(step_of(kDecode, 0, 0, n), in.columns(3, 96).slice(0, n), weight, y);
        Matrix first(n, 96);
        std::copy_n(x.row(0), n * 96, first.row(0));
        CHECK(nmse(rig.get(y).values, product(first, w)) < kF32);
    }
}
