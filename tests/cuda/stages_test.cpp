// Each fused stage of a decode step against its default body (kernels/backend.cpp), for every weight type and number of
// rows; a row has the same bits in any company of up to sixteen.
#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "tests/cuda/rig.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr DType kWeightTypes[] = {DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                  DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
// Both round their inner values to bf16 (2.5e-6 in the square each), though not at the same places; the default body of
// gate and up, which rounds before the silu of large values, does so most: 3e-5.
constexpr double kClose = 12 * kBf16;

struct Normed {
    Matrix x = random_matrix(16, 1024, 71, 3.0f);
    Norm norm;
    View in;

    explicit Normed(Rig& rig) {
        norm = {rig.vector(random_matrix(1, 1024, 72, 0.3f, 1.0f)), 1e-5f};
        in = rig.put(x, DType::kF32);
    }
};

// op(rows of x, y) fused and by the default body, for 16 rows; and for fewer the same bits.
template <class Fused, class Plain>
void check_rows(Rig& rig, int64_t cols, DType type, Fused&& fused, Plain&& plain) {
    View all = rig.matrix(16, cols, type), few = rig.matrix(16, cols, type), expected = rig.matrix(16, cols, type);
    fused(0, 16, all);
    plain(0, 16, expected);
    CHECK(nmse(rig.get(all).values, doubles(rig.get(expected))) < kClose);
    fused(0, 1, few.slice(0, 1));
    fused(1, 4, few.slice(1, 4));
    fused(5, 3, few.slice(5, 3));
    fused(8, 8, few.slice(8, 8));
    CHECK(rig.get(few) == rig.get(all));
}

}  // namespace

TEST_CASE("a norm folded into a product", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kWeightTypes), std::end(kWeightTypes)));
    INFO(info(type).name);
    Rig rig;
    Normed n(rig);
    for (const int64_t rows : {int64_t{333}, int64_t{48}}) {
        Matrix values = random_matrix(rows, 1024, 73);
        const std::vector<float> bias = random_matrix(1, rows, 74).values;
        const Weight w = rig.weight(values, type, rows == 48 ? bias : std::vector<float>());
        check_rows(
            rig, rows, DType::kBF16,
            [&](int first, int count, View y) {
                rig->norm_matmul(step_of(kDecode, 0, 0, count), n.in.slice(first, count), n.norm, w, y);
            },
            [&](int first, int count, View y) {
                rig->Backend::norm_matmul(step_of(kDecode, 0, 0, count), n.in.slice(first, count), n.norm, w, y);
            });
    }
}

TEST_CASE("gate and up in one product", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kWeightTypes), std::end(kWeightTypes)));
    INFO(info(type).name);
    Rig rig;
    Normed n(rig);
    for (const int64_t d_ff : {int64_t{16}, int64_t{304}, int64_t{40}}) {
        Matrix values = random_matrix(2 * d_ff, 1024, 75, 0.1f);
        const Weight w = rig.weight(values, type);
        check_rows(
            rig, d_ff, DType::kBF16,
            [&](int first, int count, View h) {
                rig->norm_gate_up(step_of(kDecode, 0, 0, count), n.in.slice(first, count), n.norm, w, h);
            },
            [&](int first, int count, View h) {
                rig->Backend::norm_gate_up(step_of(kDecode, 0, 0, count), n.in.slice(first, count), n.norm, w, h);
            });
    }
}

TEST_CASE("heads rotated by the product that makes them", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kWeightTypes), std::end(kWeightTypes)));
    const int head_dim = GENERATE(64, 128), dim = GENERATE(0, 32, 64), n_heads = 3, n_kv_heads = 2;
    INFO(info(type).name << ", heads of " << head_dim << ", rotated " << dim);
    Rig rig;
    Normed n(rig);
    QkvWeights w;
    w.n_heads = n_heads, w.n_kv_heads = n_kv_heads, w.head_dim = head_dim;
    const int64_t q = n_heads * head_dim, kv = n_kv_heads * head_dim;
    Matrix values = random_matrix(q + 2 * kv, 1024, 76, 0.1f);
    w.qkv = rig.weight(values, type);
    RopeTable rope{dim, 10000.0, View(), View()};
    if (dim > 0) {
        rope.cos = rig.put(random_matrix(16, dim / 2, 77), DType::kF32);
        rope.sin = rig.put(random_matrix(16, dim / 2, 78), DType::kF32);
    }
    const auto run = [&](bool fused, int first, int count, View y) {
        RopeTable own = rope;
        if (dim > 0) own.cos = rope.cos.slice(first, count), own.sin = rope.sin.slice(first, count);
        const Step s = step_of(kDecode, 0, 0, count);
        const Qkv out{y.columns(0, q), y.columns(q, kv), y.columns(q + kv, kv)};
        const View x = n.in.slice(first, count);
        const RopeTable* table = dim > 0 ? &own : nullptr;
        fused ? rig->norm_qkv_rope(s, x, n.norm, w, table, DType::kF16, out)
              : rig->Backend::norm_qkv_rope(s, x, n.norm, w, table, DType::kF16, out);
    };
    check_rows(
        rig, q + 2 * kv, DType::kF16, [&](int first, int count, View y) { run(true, first, count, y); },
        [&](int first, int count, View y) { run(false, first, count, y); });
}

TEST_CASE("logits of some rows with the norm folded in", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kWeightTypes), std::end(kWeightTypes)));
    Rig rig;
    Normed n(rig);
    Matrix values = random_matrix(100, 1024, 79);
    const Weight head = rig.weight(values, type);
    Step s = step_of(kDecode, 0, 0, 8);
    s.wanted = {0, 2, 3, 7};
    View fused = rig.matrix(3, 100, DType::kF32), plain = rig.matrix(3, 100, DType::kF32);
    rig->logits(s, n.in, n.norm, head, 1, fused);
    rig->Backend::logits(s, n.in, n.norm, head, 1, plain);
    CHECK(nmse(rig.get(fused).values, doubles(rig.get(plain))) < kClose);
}

namespace {

// conv_matmul on copies of the same inputs: 16 slots whose planes hold random states.
struct ConvMatmul {
    struct Out {
        Matrix u, planes, dbc;
    };
    Rig& rig;
    int64_t d_inner, dbc_rows;
    int n_planes;
    Matrix u, planes;
    Conv conv;
    Weight x_proj;

    ConvMatmul(Rig& r, DType type, int64_t channels, int64_t rows, int planes_of_slot, bool bias)
        : rig(r), d_inner(channels), dbc_rows(rows), n_planes(planes_of_slot) {
        u = random_matrix(16, 2 * d_inner, 91);  // and z beside it
        planes = random_matrix(16 * n_planes, 3 * d_inner, 92);
        std::fill_n(planes.row(7 * n_planes), n_planes * 3 * d_inner, 0.0f);  // a fresh slot
        Matrix taps = random_matrix(d_inner, 4, 93, 0.5f), values = random_matrix(dbc_rows, d_inner, 94);
        conv.taps = rig.weight(taps, DType::kF32, bias ? random_matrix(1, d_inner, 95).values : std::vector<float>());
        x_proj = rig.weight(values, type);
    }
    // The runs' rows in steps of so many runs.
    Out run(bool fused, const std::vector<Run>& runs, const std::vector<int>& steps) const {
        const View all = rig.put(u, DType::kBF16), state = rig.put(planes, DType::kF32);
        const View dbc = rig.matrix(16, dbc_rows, DType::kBF16);
        const PlaneState plane_state{state.f32(), n_planes * 3 * d_inner, 3 * d_inner, n_planes};
        auto next = runs.begin();
        int64_t first = 0;
        for (const int n : steps) {
            const Step s = step_of(kDecode, std::vector<Run>(next, next + n));
            const View in = all.slice(first, s.n_rows()).columns(0, d_inner), out = dbc.slice(first, s.n_rows());
            fused ? rig->conv_matmul(s, in, conv, x_proj, plane_state, out)
                  : rig->Backend::conv_matmul(s, in, conv, x_proj, plane_state, out);
            next += n, first += s.n_rows();
        }
        return {rig.get(all), rig.get(state), rig.get(dbc.slice(0, first))};
    }
};

ScanWeights scan_weights(Rig& rig, DType type, int64_t d_inner, int64_t dt_rank, int64_t d_state) {
    ScanWeights w;
    Matrix dt_proj = random_matrix(d_inner, dt_rank, 81, 0.1f), A = random_matrix(d_inner, d_state, 82);
    for (float& a : A.values) a = -std::exp(a);
    w.dt_proj = rig.weight(dt_proj, type, random_matrix(1, d_inner, 83).values);
    w.A = rig.vector(A);
    w.D = rig.vector(random_matrix(1, d_inner, 84));
    return w;
}

// Slots and positions; a fresh state, states in every plane.
std::vector<Run> single_rows() {
    const int64_t positions[] = {0, 1, 5, 7, 8, 1000, 12345, 3};
    std::vector<Run> runs;
    for (int i = 0; i < 16; ++i) runs.push_back({i < 8 ? 7 - i : i, positions[i % 8] + i / 8, 0, 1, false});
    return runs;
}

}  // namespace

TEST_CASE("the convolution in the product that reads it", "[op]") {
    const DType type = GENERATE(from_range(std::begin(kWeightTypes), std::end(kWeightTypes)));
    const auto [d_inner, dbc_rows] = GENERATE(table<int64_t, int64_t>(
        {{512, 48}, {768, 208}, {1536, 80}, {1536, 101}, {4096, 160}, {4096, 3}, {5632, 208}, {12288, 48}}));
    INFO(info(type).name << ", d_inner " << d_inner << ", rows of dbc " << dbc_rows);
    Rig rig;
    const ConvMatmul c(rig, type, d_inner, dbc_rows, 8, d_inner != 768);
    const ConvMatmul::Out fused = c.run(true, single_rows(), {16}), plain = c.run(false, single_rows(), {16});
    CHECK(fused.u == plain.u);
    CHECK(fused.planes == plain.planes);
    CHECK(nmse(fused.dbc.values, doubles(plain.dbc)) < kClose);
    for (const std::vector<int>& steps : {std::vector<int>{1, 3, 4, 8}, {7, 9}, {2, 10, 4}}) {
        const ConvMatmul::Out few = c.run(true, single_rows(), steps);
        CHECK(few.u == fused.u);
        CHECK(few.planes == fused.planes);
        CHECK(few.dbc == fused.dbc);
    }
}

TEST_CASE("the convolution in the product that reads it, runs of several rows", "[op]") {
    const DType type = GENERATE(DType::kBF16, DType::kQ4_K);
    const int n_planes = GENERATE(8, 3, 1);
    INFO(info(type).name << ", " << n_planes << " planes");
    Rig rig;
    const ConvMatmul c(rig, type, 1024, 96, n_planes, true);
    const std::vector<Run> runs = {
        {2, 5, 0, 3, false}, {7, 0, 0, 1, false}, {5, 1000, 0, 4, false}, {1, 8, 0, 3, false}};
    std::vector<Run> rows;
    for (const Run& r : runs) {
        for (int t = 0; t < r.n_rows; ++t) rows.push_back({r.slot, r.position + t, 0, 1, false});
    }
    const ConvMatmul::Out fused = c.run(true, runs, {4}), plain = c.run(false, runs, {4}),
                          alone = c.run(true, rows, std::vector<int>(rows.size(), 1));
    CHECK(fused.u == plain.u);
    CHECK(fused.planes == plain.planes);
    CHECK(nmse(fused.dbc.values, doubles(plain.dbc)) < kClose);
    CHECK(alone.u == fused.u);
    CHECK(alone.planes == fused.planes);
    CHECK(alone.dbc == fused.dbc);
}

TEST_CASE("dt computed by the scan that reads it", "[op]") {
    const DType type = GENERATE(DType::kBF16, DType::kF16, DType::kQ8_0);
    const int dt_rank = GENERATE(8, 96, 224), d_state = GENERATE(16, 5);
    const int64_t d_inner = 75, rows = 7;
    if (dt_rank % info(type).block_values != 0) return;
    INFO(info(type).name << ", dt_rank " << dt_rank << ", d_state " << d_state);
    Rig rig;
    const ScanWeights w = scan_weights(rig, type, d_inner, dt_rank, d_state);
    const int64_t cols = (dt_rank + 2 * d_state + 7) / 8 * 8;
    View uz = rig.put(random_matrix(rows, 2 * d_inner, 85), DType::kBF16),
         dbc = rig.put(random_matrix(rows, cols, 86), DType::kBF16);
    const size_t state_bytes = static_cast<size_t>(8 * d_inner * d_state) * sizeof(float);
    Matrix y[2], states[2];
    for (const int fused : {0, 1}) {
        auto* base = reinterpret_cast<float*>(rig.bytes(state_bytes));
        const PlaneState state{base, 8 * d_inner * d_state, d_inner * d_state, 8};
        View out = rig.matrix(rows, d_inner, DType::kBF16);
        for (int first = 0; first < rows; first += fused ? 7 : 3) {
            const int n = std::min<int>(fused ? 7 : 3, static_cast<int>(rows) - first);
            const View own = uz.slice(first, n);
            const Scan in{own.columns(0, d_inner), own.columns(d_inner, d_inner), dbc.slice(first, n), dt_rank,
                          d_state};
            const Step s = step_of(kDecode, 0, first, n);
            fused ? rig->dt_scan(s, in, w, state, out.slice(first, n))
                  : rig->Backend::dt_scan(s, in, w, state, out.slice(first, n));
        }
        y[fused] = rig.get(out);
        states[fused] = rig.get(View(base, 8, d_inner * d_state));
    }
    CHECK(nmse(y[1].values, doubles(y[0])) < kClose);
    CHECK(nmse(states[1].values, doubles(states[0])) < kF32);
}

TEST_CASE("dt computed by the scan that reads it: sequences together have the bits of each alone", "[op]") {
    const DType type = GENERATE(DType::kBF16, DType::kF16);
    const int dt_rank = GENERATE(96, 160), n = GENERATE(12, 16);
    const int64_t d_inner = 75, d_state = 16, cols = dt_rank + 2 * d_state;
    Rig rig;
    const ScanWeights w = scan_weights(rig, type, d_inner, dt_rank, d_state);
    const View uz = rig.put(random_matrix(n, 2 * d_inner, 85), DType::kBF16),
               dbc = rig.put(random_matrix(n, cols, 86), DType::kBF16);
    const Matrix planes = random_matrix(n * 8, d_inner * d_state, 87);
    Matrix y[2], states[2];
    for (const int together : {0, 1}) {
        const View all = rig.put(planes, DType::kF32), out = rig.matrix(n, d_inner, DType::kBF16);
        const PlaneState state{all.f32(), 8 * d_inner * d_state, d_inner * d_state, 8};
        for (int first = 0; first < n; first += together ? n : 1) {
            const int rows = together ? n : 1;
            std::vector<Run> runs;
            for (int i = first; i < first + rows; ++i) runs.push_back({i, 100 + 7 * i, 0, 1, false});
            const View own = uz.slice(first, rows);
            rig->dt_scan(step_of(kDecode, runs),
                         {own.columns(0, d_inner), own.columns(d_inner, d_inner), dbc.slice(first, rows), dt_rank,
                          static_cast<int>(d_state)},
                         w, state, out.slice(first, rows));
        }
        y[together] = rig.get(out);
        states[together] = rig.get(all);
    }
    CHECK(y[1] == y[0]);
    CHECK(states[1] == states[0]);
}

TEST_CASE("rows that a product prepares for the next one's norm have the bits of each row alone", "[op]") {
    const DType type = GENERATE(DType::kBF16, DType::kF16);
    const int64_t d = GENERATE(64, 1024, 1544, 2560);
    const int n = GENERATE(16, 13, 2);
    Rig rig;
    Matrix out_proj = random_matrix(d, 256, 71, 0.1f), in_proj = random_matrix(48, d, 72);
    const Weight out = rig.weight(out_proj, type), in = rig.weight(in_proj, type);
    const Norm next{rig.vector(random_matrix(1, d, 73, 0.3f, 1.0f)), 1e-5f},
        other{rig.vector(random_matrix(1, d, 74, 0.3f, 1.0f)), 1e-5f};
    const Matrix x = random_matrix(n, d, 75);
    const View y = rig.put(rounded(random_matrix(n, 256, 76), rig.act()), rig.act());
    View reversed;
    // Twice, as in two sub-layers: what is prepared is that of the last product, and for its norm alone. Logits of all
    // rows read it too; of some, or in another order, they do not.
    const auto run = [&](View rows, View stream, View once, View twice, View of_other, View logits) {
        Step s = step_of(kDecode, 0, 0, static_cast<int>(rows.rows));
        s.wanted.resize(static_cast<size_t>(rows.rows));
        std::iota(s.wanted.begin(), s.wanted.end(), 0);
        rig->matmul_add(s, rows, out, stream, next);
        rig->norm_matmul(s, stream, next, in, once);
        rig->matmul_add(s, rows, out, stream, next);
        rig->norm_matmul(s, stream, other, in, of_other);
        rig->norm_matmul(s, stream, next, in, twice);
        rig->logits(s, stream, next, in, 0, logits);
        if (rows.rows == 1) return;
        std::reverse(s.wanted.begin(), s.wanted.end());
        rig->logits(s, stream, next, in, 0, reversed);
    };
    const auto outputs = [&] { return rig.matrix(n, 48, DType::kF32); };
    reversed = outputs();
    View together = rig.put(x, DType::kF32), alone = rig.put(x, DType::kF32);
    View got[] = {outputs(), outputs(), outputs(), outputs()},
         expected[] = {outputs(), outputs(), outputs(), outputs()};
    run(y, together, got[0], got[1], got[2], got[3]);
    for (int i = 0; i < n; ++i) {
        run(y.slice(i, 1), alone.slice(i, 1), expected[0].slice(i, 1), expected[1].slice(i, 1), expected[2].slice(i, 1),
            expected[3].slice(i, 1));
    }
    CHECK(rig.get(together) == rig.get(alone));
    for (int i = 0; i < 4; ++i) CHECK(rig.get(got[i]) == rig.get(expected[i]));
    for (int i = 0; i < n; ++i) CHECK(rig.get(reversed.slice(i, 1)) == rig.get(got[3].slice(n - 1 - i, 1)));
}
