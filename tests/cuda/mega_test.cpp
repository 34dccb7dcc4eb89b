// Mega's ops on the device: attention within chunks however the text is fed, after going back, and for several
// sequences; its keys, gates and the scan without a gate.
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

struct ChunkCase {
    Matrix q, k, v;
    View q_view, k_view, v_view, y;
    ChunkRing ring;

    // `act`: the type of q, k, v and y.
    ChunkCase(Rig& rig, int64_t n, int key_dim, int64_t value_dim, int64_t chunk, DType type, DType act,
              int n_slots = 1)
        : q(rounded(random_matrix(n, key_dim, 91), type)),
          k(rounded(random_matrix(n, key_dim, 92), type)),
          v(rounded(random_matrix(n, value_dim, 93), type)) {
        q_view = rig.put(q, act), k_view = rig.put(k, act), v_view = rig.put(v, act);
        y = rig.matrix(n, value_dim, act);
        ring.n_rows = chunk + kRingSlack, ring.chunk = chunk;
        ring.key_dim = key_dim, ring.value_dim = value_dim;
        ring.type = type;
        const size_t keys = static_cast<size_t>(ring.n_rows) * ring.key_bytes();
        const size_t values = static_cast<size_t>(ring.n_rows) * ring.value_bytes();
        ring.slot_stride = static_cast<int64_t>(keys + values);
        ring.k = rig.bytes(static_cast<size_t>(n_slots) * (keys + values));
        ring.v = ring.k + keys;
    }
    void run(Rig& rig, const Step& s, int64_t first, int64_t n) {
        rig->chunk_attention(s, {q_view.slice(first, n), k_view.slice(first, n), v_view.slice(first, n)}, ring, 0.3f,
                             y.slice(first, n));
    }
    void feed(Rig& rig, StepKind kind, int64_t from, int64_t n, const std::vector<int>& sizes) {
        for (size_t i = 0; from < n; ++i) {
            const int rows = static_cast<int>(std::min<int64_t>(sizes[i % sizes.size()], n - from));
            run(rig, step_of(kind, 0, from, rows), from, rows);
            from += rows;
        }
    }
};

}  // namespace

TEST_CASE("chunk_attention: the formula over the sequence, however it is fed", "[op]") {
    struct Shape {
        int key_dim;
        int64_t value_dim, chunk;
    };
    auto [key_dim, value_dim, chunk] =
        GENERATE(Shape{32, 32, 12}, Shape{32, 100, 64}, Shape{256, 700, 200}, Shape{40, 65, 1000});
    auto [type, act] = GENERATE(std::pair{DType::kF32, DType::kF32}, std::pair{DType::kF16, DType::kF16},
                                std::pair{DType::kF16, DType::kF32}, std::pair{DType::kBF16, DType::kBF16});
    Rig rig(act == DType::kF32);
    const int64_t n = 290;
    struct Feed {
        StepKind kind;
        std::vector<int> sizes;
    };
    for (const Feed& how :
         {Feed{kPrefill, {1000}}, Feed{kPrefill, {7, 64, 1, 100}}, Feed{kDecode, {1}}, Feed{kDecode, {8, 3}}}) {
        INFO(info(type).name << ", keys " << key_dim << ", values " << value_dim << ", chunks of " << chunk
                             << ", steps of " << how.sizes[0]);
        ChunkCase c(rig, n, key_dim, value_dim, chunk, type, act);
        c.feed(rig, how.kind, 0, n, how.sizes);
        CHECK(nmse(rig.get(c.y).values, spec::chunk_attention(c.q, c.k, c.v, chunk, 0.3f)) < tolerance_of(type));
    }
}

TEST_CASE("chunk_attention: a row's bits are the same in any company, and seven tokens back", "[op]") {
    Rig rig;
    const DType f16 = DType::kF16;
    ChunkCase one(rig, 150, 16, 40, 64, f16, f16), eight(rig, 150, 16, 40, 64, f16, f16);
    one.feed(rig, kDecode, 0, 150, {1});
    eight.feed(rig, kDecode, 0, 150, {8, 3});
    CHECK(rig.get(one.y) == rig.get(eight.y));
    const Matrix first = rig.get(eight.y);
    eight.feed(rig, kDecode, 143, 150, {2, 1});
    CHECK(rig.get(eight.y) == first);

    ChunkCase alone(rig, 40, 16, 40, 12, f16, f16), both(rig, 40, 16, 40, 12, f16, f16, 3);
    alone.run(rig, step_of(kPrefill, 0, 0, 25), 0, 25);
    alone.run(rig, step_of(kPrefill, 0, 0, 15), 25, 15);
    both.run(rig, step_of(kPrefill, {{2, 0, 0, 25, false}, {0, 0, 0, 15, false}}), 0, 40);
    CHECK(rig.get(both.y) == rig.get(alone.y));
}

TEST_CASE("mega_keys, silu, mul_silu and gated_residual are their formulas", "[op]") {
    Rig rig(GENERATE(false, true));
    const DType act = rig.act();
    const Step step = step_of(kDecode, 0, 0, 8);
    const int64_t n = 8, dim = GENERATE(2, 16, 300);
    const Matrix z = rounded(random_matrix(n, dim, 94), act), scale = random_matrix(2, dim, 95),
                 shift = random_matrix(2, dim, 96), bias_q = random_matrix(1, dim, 97),
                 bias_k = random_matrix(1, dim, 98);
    const MegaKeys w{rig.vector(scale), rig.vector(shift), rig.vector(bias_q), rig.vector(bias_k)};
    const auto expected = spec::mega_keys(z, scale, shift, bias_q, bias_k);
    Matrix cos(n, dim / 2), sin(n, dim / 2);
    for (int64_t t = 0; t < n; ++t) {
        spec::Doubles c, s;
        spec::rope(t, static_cast<int>(dim), 10000, c, s);
        std::copy(c.begin(), c.end(), cos.row(t));
        std::copy(s.begin(), s.end(), sin.row(t));
    }
    const RopeTable rope{static_cast<int>(dim), 10000, rig.put(cos, DType::kF32), rig.put(sin, DType::kF32)};
    View q = rig.matrix(n, 2 * dim, act), k = rig.matrix(n, 2 * dim, act);
    rig->mega_keys(step, rig.put(z, act), w, rope, act, q, k);
    CHECK(nmse(rig.get(q).values, expected.q) < tolerance_of(act));
    CHECK(nmse(rig.get(k).values, expected.k) < tolerance_of(act));

    const Matrix u = rounded(random_matrix(n, 777, 101, 3.0f), act), h0 = rounded(random_matrix(n, 777, 102), act),
                 h = rounded(random_matrix(n, 777, 103), act), x = random_matrix(n, 777, 104);
    View gated = rig.put(x, DType::kF32), plain = rig.put(u, act), product = rig.put(h, act);
    rig->gated_residual(step, rig.put(u, act), rig.put(h0, act), rig.put(h, act), gated);
    CHECK(nmse(rig.get(gated).values, spec::gated_residual(u, h0, h, x)) < kF32);
    rig->silu(step, plain);
    spec::Doubles want = spec::silu(u);
    CHECK(nmse(rig.get(plain).values, want) < tolerance_of(act));
    rig->mul_silu(step, product, rig.put(u, act));
    for (size_t i = 0; i < want.size(); ++i) want[i] *= h.values[i];
    CHECK(nmse(rig.get(product).values, want) < tolerance_of(act));
}

TEST_CASE("a selective scan without z has no gate", "[op]") {
    Rig rig(GENERATE(false, true));
    const DType act = rig.act();
    const int64_t n = 40, d = 70;
    const int d_state = GENERATE(16, 40);
    spec::ScanInput in;
    in.u = rounded(random_matrix(n, d, 105), act), in.dt = random_matrix(n, d, 106, 2.0f, -2.0f);
    in.A = random_matrix(d, d_state, 107), in.D = random_matrix(1, d, 108);
    for (float& a : in.A.values) a = -std::exp(a);
    in.B = rounded(random_matrix(n, d_state, 109), act), in.C = rounded(random_matrix(n, d_state, 110), act);
    in.z = Matrix(n, d);
    in.z.values.assign(in.z.values.size(), 64.0f);  // silu(64) = 64
    spec::ScanOutput expected = spec::scan(in);
    for (double& y : expected.y) y /= 64;
    Matrix dbc(n, 2 * d_state);
    for (int64_t t = 0; t < n; ++t) {
        std::copy_n(in.B.row(t), d_state, dbc.row(t));
        std::copy_n(in.C.row(t), d_state, dbc.row(t) + d_state);
    }
    const ScanWeights w{{}, rig.vector(in.A), rig.vector(in.D)};
    const View u = rig.put(in.u, act), bc = rig.put(dbc, act), dt = rig.put(in.dt, DType::kF32);
    for (const int rows : {40, 8, 1}) {
        auto* base = reinterpret_cast<float*>(rig.bytes(static_cast<size_t>(8 * d * d_state) * sizeof(float)));
        const PlaneState state{base, 8 * d * d_state, d * d_state, 8};
        View y = rig.matrix(n, d, act);
        for (int64_t t = 0; t < n; t += rows) {
            rig->selective_scan(step_of(rows > 8 ? kPrefill : kDecode, 0, t, rows),
                                {u.slice(t, rows), {}, bc.slice(t, rows), 0, d_state}, dt.slice(t, rows), w, state,
                                y.slice(t, rows));
        }
        CHECK(nmse(rig.get(y).values, expected.y) < tolerance_of(act));
        const Matrix last = rig.get(View(state.after(0, n - 1), 1, d * d_state));
        CHECK(nmse(last.values, expected.states.back()) < 1e-11);
    }
}
