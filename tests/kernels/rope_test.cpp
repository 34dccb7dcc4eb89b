// The rotary embedding, and heads of q, k and v as attention gets them.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

struct Heads {
    int n_heads, n_kv_heads, head_dim;
    Matrix values;  // (n_rows, (n_heads + 2 n_kv_heads) head_dim)

    Heads(int n_rows, int heads, int kv_heads, int dim)
        : n_heads(heads),
          n_kv_heads(kv_heads),
          head_dim(dim),
          values(random_matrix(n_rows, (heads + 2 * kv_heads) * dim, 11)) {}
    Qkv qkv() {
        View all = values.view();
        int64_t q = n_heads * head_dim, kv = n_kv_heads * head_dim;
        return {all.columns(0, q), all.columns(q, kv), all.columns(q + kv, kv)};
    }
};

}  // namespace

TEST_CASE("angles are right at every position, however far") {
    for (int dim : {2, 16, 64, 128}) {
        for (double theta : {10000.0, 500000.0}) {
            RopeFrequencies f(dim, theta);
            for (int64_t position : {0l, 1l, 77l, 2047l, 65536l, 999999937l, 1000000000l, 30000000001l}) {
                spec::Doubles cos, sin;
                spec::rope(position, dim, theta, cos, sin);
                std::vector<float> c(dim / 2), s(dim / 2);
                rope_row(f, position, c.data(), s.data());
                double worst = 0;
                for (int i = 0; i < dim / 2; ++i) {
                    worst = std::max({worst, std::abs(c[i] - cos[i]), std::abs(s[i] - sin[i])});
                }
                INFO("dim " << dim << ", position " << position);
                CHECK(worst < 1e-7);  // of f32 numbers up to 1: half a unit in the last place is 3e-8
            }
        }
    }
}

TEST_CASE("a step's rope table follows the positions of its runs, however it is shared") {
    Step s;
    s.runs = {{0, 5, 0, 3, false}, {1, 1000000, 3, 2, false}};
    s.tokens.resize(5);
    RopeFrequencies f(32, 10000);
    Matrix cos(5, 16), sin(5, 16);
    RopeTable table{32, 10000, cos.view(), sin.view()};
    rope_rows(s, f, table, {0, 4});
    rope_rows(s, f, table, {4, 5});
    int64_t positions[] = {5, 6, 7, 1000000, 1000001};
    for (int i = 0; i < 5; ++i) {
        std::vector<float> c(16), sn(16);
        rope_row(f, positions[i], c.data(), sn.data());
        CHECK(std::memcmp(c.data(), cos.row(i), 64) == 0);
        CHECK(std::memcmp(sn.data(), sin.row(i), 64) == 0);
    }
}

TEST_CASE("head_norm_rope: norm of each head, rotation of its first values, rounding to the ring's type") {
    auto [head_dim, dim] = GENERATE(std::pair{8, 8}, std::pair{40, 40}, std::pair{64, 64}, std::pair{128, 64},
                                    std::pair{64, 20}, std::pair{256, 256});
    DType type = GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0);
    bool with_norm = GENERATE(false, true);
    DType stored = type == DType::kQ8_0 ? DType::kF16 : type;
    for (Isa isa : isas()) {
        INFO(isa_name(isa) << ", head_dim " << head_dim << ", dim " << dim << ", " << info(type).name);
        Heads in(3, 4, 2, head_dim), out = in;
        Matrix q_norm = random_matrix(1, head_dim, 12, 0.2f, 1.0f), k_norm = random_matrix(1, head_dim, 13, 0.2f, 1.0f);
        QkvWeights w;
        w.n_heads = 4;
        w.n_kv_heads = 2;
        w.head_dim = head_dim;
        if (with_norm) {
            w.q_norm = {f32_weight(q_norm), 1e-5f};
            w.k_norm = {f32_weight(k_norm), 1e-5f};
        }
        Matrix cos(3, dim / 2), sin(3, dim / 2);
        RopeTable table{dim, 10000, cos.view(), sin.view()};
        for (int i = 0; i < 3; ++i) rope_row(RopeFrequencies(dim, 10000), 100 + i, cos.row(i), sin.row(i));
        ThreadPool pool(2, isa);
        head_norm_rope(pool, w, &table, type, out.qkv());

        spec::Doubles expected;
        for (int row = 0; row < 3; ++row) {
            spec::Doubles c, s;
            spec::rope(100 + row, dim, 10000, c, s);
            for (int h = 0; h < 8; ++h) {
                std::span<const float> x(in.values.row(row) + h * head_dim, head_dim), norm;
                if (with_norm && h < 6) norm = h < 4 ? q_norm.values : k_norm.values;
                spec::Doubles y = spec::head(x, norm, 1e-5, h < 6 ? c : spec::Doubles{}, h < 6 ? s : spec::Doubles{});
                expected.insert(expected.end(), y.begin(), y.end());
            }
        }
        CHECK(nmse(out.values.values, expected) < (stored == DType::kF32   ? kF32Nmse
                                                   : stored == DType::kF16 ? 1e-7
                                                                           : 1e-5));
        bool exact = true;  // and what comes out needs no further rounding
        for (float x : out.values.values) exact = exact && rounded(x, stored) == x;
        CHECK(exact);
    }
}

TEST_CASE("rounding to 16 bits agrees with the portable conversions in every range") {
    for (Isa isa : isas()) {
        for (DType type : {DType::kF16, DType::kBF16}) {
            FlushDenormals flush;  // as in the threads of a pool
            std::vector<float> special = {0.0f,           -0.0f,   1e-8f,           -3e-8f,        6e-8f,
                                          5.96046448e-8f, 6.1e-5f, 6.103515625e-5f, 3.05e-5f,      65504.f,
                                          65519.f,        65520.f, -1e6f,           1.0009765625f, 1.00048828125f,
                                          1.00146484375f, 0.1f,    -0.3333f,        1e-30f,        3e38f};
            special.resize(24, 2049.0f);
            Heads heads(1, 1, 1, 8);
            std::copy(special.begin(), special.end(), heads.values.values.begin());
            QkvWeights w;
            w.n_heads = w.n_kv_heads = 1;
            w.head_dim = 8;
            head_norm_rope(isa, w, nullptr, type, heads.qkv(), {0, 3});
            for (size_t i = 0; i < special.size(); ++i) {
                INFO(isa_name(isa) << ", " << info(type).name << ", " << special[i]);
                CHECK(heads.values.values[i] == rounded(special[i], type));
            }
        }
    }
}
