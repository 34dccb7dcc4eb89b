// Matrix products of every weight type, instruction set and kind of step against the double-precision product of the
// dequantised weights with the activations as the product reads them; and the promise of equal bits.
#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "kernels/cpu/ops.h"
#include "tests/kernels/harness.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr StepKind kKinds[] = {StepKind::kDecode, StepKind::kPrefill};

// A weight with memory of its own. Quantised blocks are random bytes, so that every pattern of quants and scales
// occurs, with f16 factors near 1; they lie 2 bytes off any better alignment, as in a file.
struct OwnWeight {
    std::vector<std::vector<uint8_t>> memory;
    std::vector<float> bias, values;  // values: dequantised (rows, cols)
    Weight weight;

    OwnWeight(int64_t cols) { weight.cols = cols; }
    OwnWeight(DType type, int64_t rows, int64_t cols, uint32_t seed) : OwnWeight(cols) { add_part(type, rows, seed); }

    void add_part(DType type, int64_t rows, uint32_t seed) {
        size_t bytes = row_bytes(type, weight.cols), offset = info(type).quantized ? 2 : 0;
        uint8_t* at = memory.emplace_back(static_cast<size_t>(rows) * bytes + offset).data() + offset;
        std::mt19937 engine(seed);
        std::uniform_real_distribution<float> factor(0.5f, 1.5f);
        auto set_factor = [&](uint8_t* to) {
            uint16_t h = f32_to_f16(factor(engine));
            std::memcpy(to, &h, sizeof h);
        };
        Matrix x = random_matrix(rows, weight.cols, seed);
        for (int64_t i = 0; i < rows; ++i, at += bytes) {
            if (!info(type).quantized) {
                quantize_row(type, x.row(i), at, weight.cols);
            } else {
                for (size_t b = 0; b < bytes; ++b) at[b] = static_cast<uint8_t>(engine());
                size_t block = static_cast<size_t>(info(type).block_bytes);
                for (size_t b = 0; b < bytes; b += block) {
                    set_factor(at + b + (type == DType::kQ6_K ? 208 : 0));
                    if (type == DType::kQ4_K || type == DType::kQ5_K) set_factor(at + b + 2);
                }
            }
            values.resize(values.size() + static_cast<size_t>(weight.cols));
            dequantize_row(type, at, &values[values.size() - static_cast<size_t>(weight.cols)], weight.cols);
        }
        weight.parts.push_back({type, rows, memory.back().data() + offset});
        weight.rows += rows;
    }
    void add_bias() {
        bias = random_matrix(1, weight.rows, 99).values;
        weight.bias = bias.data();
    }
};

// x as a product of that format reads it.
Matrix as_read(const Matrix& x, RowFormat format) {
    Matrix r = x;
    if (format == RowFormat::kBf16) {
        for (float& v : r.values) v = rounded(v, DType::kBF16);
    }
    for (size_t first = 0; format == RowFormat::kInt8 && first < r.values.size(); first += 32) {
        float amax = 0;
        for (size_t i = first; i < first + 32; ++i) amax = std::max(amax, std::fabs(r.values[i]));
        for (size_t i = first; i < first + 32; ++i) {
            float q = amax > 0 ? std::nearbyint(r.values[i] * (127.0f / amax)) : 0.0f;
            r.values[i] = q * (amax / 127.0f);
        }
    }
    return r;
}

// Weights as a product of that format reads them.
OwnWeight as_read(OwnWeight w, RowFormat format) {
    if (format == RowFormat::kBf16) {
        for (float& v : w.values) v = rounded(v, DType::kBF16);
    }
    return w;
}

std::vector<double> spec(const Matrix& x, const OwnWeight& w) {
    std::vector<double> y;
    for (int64_t t = 0; t < x.rows; ++t) {
        for (int64_t j = 0; j < w.weight.rows; ++j) {
            const float* row = w.values.data() + j * x.cols;
            double sum = w.weight.bias ? w.weight.bias[j] : 0.0;
            for (int64_t k = 0; k < x.cols; ++k) sum += static_cast<double>(row[k]) * x.row(t)[k];
            y.push_back(sum);
        }
    }
    return y;
}

Matrix product(ThreadPool& pool, StepKind kind, View x, const Weight& w, const Norm* norm = nullptr) {
    Matmul matmul(pool);
    matmul.reserve(x.rows, x.cols, x.cols);
    Matrix y(x.rows, w.rows);
    matmul.product(kind, x, norm, w, y.view());
    return y;
}

// Of nmse. Against activations as read: sums of up to 1536 f32 products err by some 1e-7. Against the activations
// themselves: an 8-bit value errs by amax / 127 / sqrt(12), about 0.5 % of the deviation (2.5e-5 in the square); a bf16
// one by up to 2^-8 relative (some 2.5e-6 in the square), and so does a quantised weight that is rounded to bf16,
// beside the activation: of a single row of weights that averages too little, so the first bound alone holds it.
struct Tolerance {
    double as_read, given;
};
Tolerance tolerance(DType type, RowFormat format) {
    if (format == RowFormat::kInt8) return {1e-12, 1e-4};
    if (format == RowFormat::kF32) return {1e-12, 1e-12};
    return {1e-12, info(type).quantized ? 8e-6 : 4e-6};
}

// Odd numbers of columns, as the type allows, and more than any kernel takes at once.
std::vector<int64_t> column_cases(DType type) {
    if (info(type).block_values == 256) return {256, 768, 1792};
    if (info(type).block_values == 32) return {32, 96, 1536, 1568};
    return {1, 7, 31, 96, 203, 1536, 3073};
}

std::string label(DType type, Isa isa, StepKind kind) {
    return std::string(info(type).name) + ", " + isa_name(isa) + (kind == StepKind::kDecode ? ", decode" : ", prefill");
}

}  // namespace

TEST_CASE("a product equals the double-precision product, for every type, instruction set and kind of step") {
    for (const TypeInfo& type : kTypes) {
        for (int64_t cols : column_cases(type.type)) {
            for (int64_t n_out : {1, 21, 64}) {
                OwnWeight w(type.type, n_out, cols, 1);
                Matrix x = random_matrix(17, cols, 2);
                std::vector<double> given = spec(x, w);
                for (Isa isa : isas()) {
                    ThreadPool pool(2, isa);
                    for (StepKind kind : kKinds) {
                        CAPTURE(label(type.type, isa, kind), cols, n_out);
                        RowFormat format = row_format(type.type, kind, isa);
                        Matrix y = product(pool, kind, x.view(), w.weight);
                        CHECK(nmse(y.values, spec(as_read(x, format), as_read(w, format))) <
                              tolerance(type.type, format).as_read);
                        bool one_rounded = n_out == 1 && format == RowFormat::kBf16 && info(type.type).quantized;
                        if (cols > 32 && !one_rounded) {
                            CHECK(nmse(y.values, given) < tolerance(type.type, format).given);
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE("a row has the same bits in any company of rows and with any number of threads") {
    for (const TypeInfo& type : kTypes) {
        for (int64_t cols : {256, 1792}) {
            OwnWeight w(type.type, 50, cols, 3);
            w.add_bias();
            Matrix x = random_matrix(cols == 256 ? 511 : 180, cols, 4);
            for (Isa isa : isas()) {
                ThreadPool pool(2, isa);
                for (StepKind kind : kKinds) {
                    Matrix all = product(pool, kind, x.view(), w.weight);
                    RowFormat format = row_format(type.type, kind, isa);
                    CHECK(nmse(all.values, spec(as_read(x, format), as_read(w, format))) < 1e-12);
                    int64_t first = 0;
                    for (int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 64, 65}) {
                        if (first + n > x.rows) break;
                        CAPTURE(label(type.type, isa, kind), cols, n);
                        ThreadPool other(static_cast<int>(1 + n % 4), isa);
                        Matrix some = product(other, kind, x.view(first, n), w.weight);
                        CHECK(std::equal(some.values.begin(), some.values.end(), all.row(first)));
                        first += n + 1;
                    }
                }
            }
        }
    }
}

TEST_CASE("the widest rows fit the work memory") {
    for (DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
        OwnWeight w(type, 40, 9984, 16);
        Matrix x = random_matrix(20, 9984, 17);
        std::vector<double> expected = spec(x, w);
        for (Isa isa : isas()) {
            ThreadPool pool(1, isa);
            for (StepKind kind : kKinds) {
                CAPTURE(label(type, isa, kind));
                CHECK(nmse(product(pool, kind, x.view(), w.weight).values, expected) <
                      tolerance(type, row_format(type, kind, isa)).given);
            }
        }
    }
}

TEST_CASE("a weight of several parts, also of unlike types, with a bias, is one product") {
    struct Parts {
        DType types[3];
    };
    for (Parts parts :
         {Parts{{DType::kQ4_K, DType::kQ4_K, DType::kQ6_K}}, Parts{{DType::kF32, DType::kF32, DType::kF32}},
          Parts{{DType::kBF16, DType::kQ8_0, DType::kF16}}}) {
        OwnWeight w(256);
        w.add_part(parts.types[0], 40, 5);
        w.add_part(parts.types[1], 24, 6);
        w.add_part(parts.types[2], 7, 7);
        w.add_bias();
        Matrix x = random_matrix(9, 256, 8);
        for (Isa isa : isas()) {
            ThreadPool pool(3, isa);
            Matmul matmul(pool);
            for (StepKind kind : kKinds) {
                Matrix y = product(pool, kind, x.view(), w.weight);
                CHECK(nmse(y.values, spec(x, w)) < 1e-4);
                CHECK(matmul.uniform(kind, w.weight) == (parts.types[0] != DType::kBF16));
            }
        }
    }
}

TEST_CASE("a product is added to what is there when asked for") {
    for (DType type : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
        OwnWeight w(type, 37, 256, 9);
        w.add_bias();
        Matrix x = random_matrix(10, 256, 10);
        for (Isa isa : isas()) {
            ThreadPool pool(2, isa);
            Matmul matmul(pool);
            matmul.reserve(10, 256, 256);
            for (StepKind kind : kKinds) {
                Matrix y = random_matrix(10, 37, 11), expected = y, alone = product(pool, kind, x.view(), w.weight);
                for (size_t i = 0; i < y.values.size(); ++i) expected.values[i] += alone.values[i];
                matmul.product(kind, x.view(), nullptr, w.weight, y.view(), true);
                CHECK(y == expected);
            }
        }
    }
}

TEST_CASE("a product with a norm is the product of the normed rows, rows may be apart") {
    for (int64_t n : {1, 7, 100}) {
        Matrix wide = random_matrix(n, 600, 13);
        for (DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
            const int64_t cols = type == DType::kQ4_K ? 512 : 320;
            OwnWeight w(type, 50, cols, 12);
            Matrix scale = random_matrix(1, cols, 14, 0.1f, 1.0f), normed(n, cols);
            Norm norm{f32_weight(scale), 1e-5f};
            View x = wide.view().columns(3, cols);
            for (Isa isa : isas()) {
                ThreadPool pool(2, isa);
                for (StepKind kind : kKinds) {
                    rmsnorm(pool, x, norm, normed.view());
                    CHECK(product(pool, kind, x, w.weight, &norm) == product(pool, kind, normed.view(), w.weight));
                }
            }
        }
    }
}

TEST_CASE("activations of zeros, of huge and of tiny values stay what they are") {
    OwnWeight w(DType::kQ8_0, 20, 64, 15);
    Matrix x(3, 64);
    for (int64_t i = 0; i < 64; ++i) {
        x.row(1)[i] = 1e30f * static_cast<float>(i % 5 - 2);
        x.row(2)[i] = 1e-30f * static_cast<float>(i % 5 - 2);
    }
    for (Isa isa : isas()) {
        ThreadPool pool(1, isa);
        Matrix y = product(pool, StepKind::kDecode, x.view(), w.weight);
        for (int64_t j = 0; j < 20; ++j) CHECK(y.row(0)[j] == 0.0f);
        for (int64_t t : {1, 2}) {
            std::vector<double> all = spec(as_read(x, RowFormat::kInt8), w);
            CHECK(nmse({y.row(t), 20}, std::span(all).subspan(static_cast<size_t>(20 * t), 20)) < 1e-10);
        }
    }
}
