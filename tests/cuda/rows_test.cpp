// Row-wise ops against their formulas in double precision.
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

TEST_CASE("rmsnorm", "[op]") {
    Rig rig(GENERATE(false, true));
    for (const int64_t cols : {8, 100, 512, 2816}) {
        const Matrix x = random_matrix(5, cols, 21, 3.0f), w = random_matrix(1, cols, 22, 0.3f, 1.0f);
        View y = rig.matrix(5, cols, rig.act());
        rig->rmsnorm(step_of(kDecode, 0, 0, 5), rig.put(x, DType::kF32), {rig.vector(w), 1e-5f}, y);
        CHECK(nmse(rig.get(y).values, spec::rmsnorm(x, w, 1e-5)) < tolerance_of(rig.act()));
    }
}

TEST_CASE("silu of the first half times the second", "[op]") {
    Rig rig(GENERATE(false, true));
    for (const int64_t cols : {3, 8, 64, 1000, 4096}) {
        const Matrix x = rounded(random_matrix(6, 2 * cols, 23, 2.0f), rig.act());
        View h = rig.matrix(6, cols, rig.act());
        rig->silu_mul(step_of(kPrefill, 0, 0, 6), rig.put(x, rig.act()), h);
        CHECK(nmse(rig.get(h).values, spec::silu_mul(x)) < tolerance_of(rig.act()));
    }
}

TEST_CASE("rows are gathered", "[op]") {
    Rig rig;
    const Matrix x = random_matrix(200, 70, 24);
    std::vector<int> rows;
    for (int i = 0; i < 100; ++i) rows.push_back(i * 37 % 200);
    View y = rig.matrix(100, 70, DType::kF32);
    rig->gather_rows(step_of(kPrefill, 0, 0, 200), rig.put(x, DType::kF32), rows, y);
    const Matrix got = rig.get(y);
    for (int i = 0; i < 100; ++i) CHECK(std::equal(got.row(i), got.row(i) + 70, x.row(rows[static_cast<size_t>(i)])));
}

TEST_CASE("embedding rows of every type, and the angles of any position", "[op]") {
    const DType type = GENERATE(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K,
                                DType::kQ5_K, DType::kQ6_K);
    Rig rig(type == DType::kF32);
    Matrix table = random_matrix(100, 512, 25);
    const Weight weight = rig.weight(table, type);
    RopeTable ropes[2] = {{64, 10000.0, rig.matrix(12, 32, DType::kF32), rig.matrix(12, 32, DType::kF32)},
                          {48, 500000.0, rig.matrix(12, 24, DType::kF32), rig.matrix(12, 24, DType::kF32)}};
    RopeTable* const list[] = {&ropes[0], &ropes[1]};
    Step s = step_of(kDecode, {{2, 1'000'000'007, 0, 5, false}, {0, 0, 0, 1, false}, {1, 1'234'567, 0, 6, false}});
    for (size_t i = 0; i < s.tokens.size(); ++i) s.tokens[i] = static_cast<int32_t>(i * 31 % 100);
    View x = rig.matrix(12, 512, DType::kF32);
    rig->embed(s, weight, list, x);
    const Matrix got = rig.get(x);
    for (int64_t r = 0; r < 12; ++r) {
        const float* row = table.row(s.tokens[static_cast<size_t>(r)]);
        CHECK(std::equal(row, row + 512, got.row(r)));
    }
    for (const RopeTable& rope : ropes) {
        const Matrix cos = rig.get(rope.cos), sin = rig.get(rope.sin);
        for (const Run& run : s.runs) {
            for (int i = 0; i < run.n_rows; ++i) {
                spec::Doubles c, n;
                spec::rope(run.position + i, rope.dim, rope.theta, c, n);
                for (size_t k = 0; k < c.size(); ++k) {
                    CHECK(std::abs(cos.row(run.first_row + i)[k] - c[k]) < 2e-7);
                    CHECK(std::abs(sin.row(run.first_row + i)[k] - n[k]) < 2e-7);
                }
            }
        }
    }
}

TEST_CASE("heads: norm, rotation, rounding to the ring's type", "[op]") {
    const bool f32 = GENERATE(false, true), norms = GENERATE(false, true);
    Rig rig(f32);
    const DType buffer = f32 ? DType::kF32 : DType::kF16;
    const int n_heads = 6, n_kv_heads = 2, head_dim = GENERATE(64, 40), dim = GENERATE(0, 16, 40), rows = 5;
    const int64_t q = n_heads * head_dim, kv = n_kv_heads * head_dim;
    const Matrix x = rounded(random_matrix(rows, q + 2 * kv, 31), buffer);
    const Matrix qn = random_matrix(1, head_dim, 32, 0.2f, 1.0f), kn = random_matrix(1, head_dim, 33, 0.2f, 1.0f);
    QkvWeights w;
    w.n_heads = n_heads, w.n_kv_heads = n_kv_heads, w.head_dim = head_dim;
    if (norms) w.q_norm = {rig.vector(qn), 1e-5f}, w.k_norm = {rig.vector(kn), 1e-5f};
    RopeTable rope{dim, 10000.0, View(), View()};
    Matrix cos(rows, dim / 2), sin(rows, dim / 2);
    std::vector<spec::Doubles> cs(rows), sn(rows);
    for (int r = 0; r < rows; ++r) {
        if (dim > 0) spec::rope(1000 + r, dim, 10000.0, cs[static_cast<size_t>(r)], sn[static_cast<size_t>(r)]);
        std::copy(cs[static_cast<size_t>(r)].begin(), cs[static_cast<size_t>(r)].end(), cos.row(r));
        std::copy(sn[static_cast<size_t>(r)].begin(), sn[static_cast<size_t>(r)].end(), sin.row(r));
    }
    if (dim > 0) rope.cos = rig.put(cos, DType::kF32), rope.sin = rig.put(sin, DType::kF32);
    View all = rig.put(x, buffer);
    rig->head_norm_rope(step_of(kDecode, 0, 1000, rows), w, dim > 0 ? &rope : nullptr, DType::kF16,
                        {all.columns(0, q), all.columns(q, kv), all.columns(q + kv, kv)});
    const Matrix got = rig.get(all);
    spec::Doubles expected;
    for (int r = 0; r < rows; ++r) {
        for (int h = 0; h < n_heads + 2 * n_kv_heads; ++h) {
            const bool v = h >= n_heads + n_kv_heads;
            std::span<const float> head(x.row(r) + h * head_dim, static_cast<size_t>(head_dim));
            std::span<const float> norm;
            if (norms && !v) norm = h < n_heads ? qn.values : kn.values;
            const size_t i = static_cast<size_t>(r);
            const spec::Doubles one =
                spec::head(head, norm, 1e-5, v ? spec::Doubles() : cs[i], v ? spec::Doubles() : sn[i]);
            expected.insert(expected.end(), one.begin(), one.end());
        }
    }
    CHECK(nmse(got.values, expected) < kF16);
    CHECK(got == rounded(got, DType::kF16));
}
