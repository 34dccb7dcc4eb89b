// Row-wise ops against their formulas: norms, gates, look-ups.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

TEST_CASE("rmsnorm is x / sqrt(mean(x²) + eps) * weight") {
    for (Isa isa : isas()) {
        for (int64_t cols : {1, 7, 16, 63, 64, 65, 512, 1536, 2309}) {
            INFO(isa_name(isa) << ", " << cols << " columns");
            ThreadPool pool(2, isa);
            Matrix x = random_matrix(5, cols, 1, 3.0f), w = random_matrix(1, cols, 2, 0.3f, 1.0f), y(5, cols);
            Norm norm{f32_weight(w), 1e-5f};
            rmsnorm(pool, x.view(), norm, y.view());
            CHECK(nmse(y.values, spec::rmsnorm(x, w, 1e-5)) < kF32Nmse);

            Matrix one(1, cols);  // a row in other company, in place
            std::copy_n(x.row(3), cols, one.row(0));
            rmsnorm_row(isa, one.row(0), w.row(0), 1e-5f, cols, one.row(0));
            CHECK(std::memcmp(one.row(0), y.row(3), static_cast<size_t>(cols) * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("rmsnorm of small rows is governed by eps") {
    for (Isa isa : isas()) {
        Matrix x = random_matrix(1, 64, 3, 1e-4f), w(1, 64), y(1, 64);
        w.values.assign(64, 1.0f);
        rmsnorm_row(isa, x.row(0), w.row(0), 1e-5f, 64, y.row(0));
        CHECK(nmse(y.values, spec::rmsnorm(x, w, 1e-5)) < kF32Nmse);
    }
}

TEST_CASE("silu_mul is silu(gate) * up, for any size of gate, on any number of threads") {
    for (Isa isa : isas()) {
        for (int64_t d : {1, 15, 16, 17, 512, 1537}) {
            INFO(isa_name(isa) << ", d_ff " << d);
            Matrix both = random_matrix(9, 2 * d, 4, 6.0f), h(9, d), h3(9, d);
            both.values[0] = 88.8f;
            both.values[1] = -120.0f;
            ThreadPool pool(1, isa), three(3, isa);
            silu_mul(pool, both.view(), h.view());
            CHECK(nmse(h.values, spec::silu_mul(both)) < kF32Nmse);
            silu_mul(three, both.view(), h3.view());
            CHECK(h == h3);
            Matrix few(1, d);
            silu_mul(three, both.view(4, 1), few.view());
            CHECK(std::memcmp(few.row(0), h.row(4), static_cast<size_t>(d) * sizeof(float)) == 0);
        }
    }
}

TEST_CASE("silu keeps its relative precision from the far negative to the far positive") {
    for (Isa isa : isas()) {
        Matrix gate(1, 4000), one(1, 4000), h(1, 4000);
        for (int64_t i = 0; i < 4000; ++i) gate.row(0)[i] = static_cast<float>(i - 2000) * 0.04f;
        one.values.assign(4000, 1.0f);
        silu_mul_row(isa, gate.row(0), one.row(0), 4000, h.row(0));
        double worst = 0;
        for (int64_t i = 0; i < 4000; ++i) {
            double x = gate.row(0)[i], expected = x / (1 + std::exp(-x));
            if (x != 0) worst = std::max(worst, std::abs(h.row(0)[i] - expected) / std::abs(expected));
        }
        INFO(isa_name(isa));
        CHECK(worst < 4e-7);
    }
}

TEST_CASE("embed_row widens a row of the table, whose parts lie one below the other") {
    Matrix a = random_matrix(3, 64, 5), b = random_matrix(4, 64, 6);
    std::vector<char> packed(4 * row_bytes(DType::kQ8_0, 64));
    for (int64_t i = 0; i < 4; ++i) {
        quantize_row(DType::kQ8_0, b.row(i), packed.data() + static_cast<size_t>(i) * row_bytes(DType::kQ8_0, 64), 64);
    }
    Weight table;
    table.rows = 7;
    table.cols = 64;
    table.parts = {{DType::kF32, 3, a.values.data()}, {DType::kQ8_0, 4, packed.data()}};
    std::vector<float> x(64), expected(64);
    embed_row(table, 2, x.data());
    CHECK(std::memcmp(x.data(), a.row(2), 64 * sizeof(float)) == 0);
    embed_row(table, 6, x.data());
    dequantize_row(DType::kQ8_0, packed.data() + 3 * row_bytes(DType::kQ8_0, 64), expected.data(), 64);
    CHECK(x == expected);
}

TEST_CASE("gather_rows copies rows in the order asked for") {
    Matrix x = random_matrix(6, 33, 7), y(3, 33);
    std::vector<int> rows = {5, 0, 5};
    gather_rows(x.view(), rows, y.view());
    for (int i = 0; i < 3; ++i) CHECK(std::memcmp(y.row(i), x.row(rows[i]), 33 * sizeof(float)) == 0);
}
