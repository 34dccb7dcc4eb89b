// Mega's ops: attention within chunks in any chunking of the text and with any number of threads, after going back, and
// for several sequences; its keys, gates and the scan without a gate.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

Step step_of(int64_t position, int n_rows, int slot = 0) {
    Step s;
    s.runs = {{slot, position, 0, n_rows, false}};
    s.tokens.resize(static_cast<size_t>(n_rows));
    return s;
}

struct ChunkCase {
    Matrix q, k, v, y;
    std::vector<char> memory;
    ChunkRing ring;
    AttentionScratch scratch;

    ChunkCase(int64_t n, int key_dim, int64_t value_dim, int64_t chunk, DType type, int n_slots = 1)
        : q(random_matrix(n, key_dim, 91)),
          k(random_matrix(n, key_dim, 92)),
          v(random_matrix(n, value_dim, 93)),
          y(n, value_dim) {
        for (Matrix* m : {&q, &k, &v}) {
            for (float& x : m->values) x = rounded(x, type);
        }
        ring.n_rows = chunk + kRingSlack, ring.chunk = chunk;
        ring.key_dim = key_dim, ring.value_dim = value_dim;
        ring.type = type;
        size_t keys = static_cast<size_t>(ring.n_rows) * ring.key_bytes();
        size_t values = static_cast<size_t>(ring.n_rows) * ring.value_bytes();
        ring.slot_stride = static_cast<int64_t>(keys + values);
        memory.assign(static_cast<size_t>(n_slots) * (keys + values), '\xff');  // NaN: nothing unwritten may be used
        ring.k = memory.data();
        ring.v = ring.k + keys;
    }
    void run(ThreadPool& pool, const Step& s, int64_t first, int64_t n) {
        chunk_attention(pool, scratch, s, {q.view(first, n), k.view(first, n), v.view(first, n)}, ring, 0.3f,
                        y.view(first, n));
    }
    void feed(ThreadPool& pool, int64_t from, int64_t n, const std::vector<int>& sizes) {
        for (size_t i = 0; from < n; ++i) {
            int rows = static_cast<int>(std::min<int64_t>(sizes[i % sizes.size()], n - from));
            run(pool, step_of(from, rows), from, rows);
            from += rows;
        }
    }
};

double tolerance(DType type) { return type == DType::kF32 ? kF32Nmse : type == DType::kF16 ? 1e-7 : 4e-6; }

}  // namespace

TEST_CASE("chunk_attention: the formula over the sequence, in any chunking of the text") {
    struct Shape {
        int key_dim;
        int64_t value_dim, chunk;
    };
    auto [key_dim, value_dim, chunk] =
        GENERATE(Shape{2, 3, 1}, Shape{32, 32, 12}, Shape{32, 100, 64}, Shape{256, 96, 200}, Shape{40, 65, 1000});
    DType type = GENERATE(DType::kF32, DType::kF16, DType::kBF16);
    const int64_t n = 290;
    for (Isa isa : isas()) {
        Matrix once;
        for (const auto& sizes : std::vector<std::vector<int>>{{512}, {1}, {7, 64, 1, 100, 8}}) {
            INFO(isa_name(isa) << ", " << info(type).name << ", keys " << key_dim << ", values " << value_dim
                               << ", chunks of " << chunk << ", steps of " << sizes[0]);
            ThreadPool pool(sizes[0] == 1 ? 1 : 3, isa);
            ChunkCase c(n, key_dim, value_dim, chunk, type);
            c.feed(pool, 0, n, sizes);
            if (once.rows == 0) {
                once = c.y;
                CHECK(nmse(c.y.values, spec::chunk_attention(c.q, c.k, c.v, chunk, 0.3f)) < tolerance(type));
            }
            CHECK(c.y == once);
        }
    }
}

TEST_CASE("chunk_attention: seven tokens back across the border of a chunk, and runs are sequences of their own") {
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        for (int64_t n : {60, 63, 64, 67, 71, 128}) {
            ChunkCase c(n, 16, 40, 64, DType::kF16);
            c.feed(pool, 0, n, {50});
            Matrix first = c.y;
            c.feed(pool, n - 7, n, {2, 1});
            CHECK(c.y == first);
        }
        ChunkCase alone(40, 16, 40, 12, DType::kF16), both(40, 16, 40, 12, DType::kF16, 3);
        alone.run(pool, step_of(0, 25), 0, 25);
        Matrix y = alone.y;
        alone.run(pool, step_of(0, 15), 25, 15);
        Step two;
        two.runs = {{2, 0, 0, 25, false}, {0, 0, 25, 15, false}};
        two.tokens.resize(40);
        both.run(pool, two, 0, 40);
        std::copy_n(alone.y.row(25), 15 * 40, y.row(25));
        CHECK(both.y == y);
    }
}

TEST_CASE("mega_keys, silu, mul_silu and gated_residual are their formulas") {
    const int64_t n = 9, dim = GENERATE(2, 16, 50);
    Matrix z = random_matrix(n, dim, 94), scale = random_matrix(2, dim, 95), shift = random_matrix(2, dim, 96);
    Matrix bias_q = random_matrix(1, dim, 97), bias_k = random_matrix(1, dim, 98);
    MegaKeys w{f32_weight(scale), f32_weight(shift), f32_weight(bias_q), f32_weight(bias_k)};
    auto expected = spec::mega_keys(z, scale, shift, bias_q, bias_k);
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        Matrix cos(n, dim / 2), sin(n, dim / 2), q(n, 2 * dim), k(n, 2 * dim), input = z;
        RopeTable rope{static_cast<int>(dim), 10000, cos.view(), sin.view()};
        rope_rows(step_of(0, static_cast<int>(n)), RopeFrequencies(rope.dim, rope.theta), rope, {0, n});
        mega_keys(pool, input.view(), w, rope, DType::kF32, q.view(), k.view());
        CHECK(nmse(q.values, expected.q) < kF32Nmse);
        CHECK(nmse(k.values, expected.k) < kF32Nmse);

        Matrix u = random_matrix(n, 77, 101, 3.0f), h0 = random_matrix(n, 77, 102), h = random_matrix(n, 77, 103),
               x = random_matrix(n, 77, 104), gated = x, plain = u, product = h;
        gated_residual(pool, u.view(), h0.view(), h.view(), gated.view());
        CHECK(nmse(gated.values, spec::gated_residual(u, h0, h, x)) < kF32Nmse);
        silu(pool, plain.view());
        CHECK(nmse(plain.values, spec::silu(u)) < kF32Nmse);
        mul_silu(pool, product.view(), u.view());
        spec::Doubles want = spec::silu(u);
        for (size_t i = 0; i < want.size(); ++i) want[i] *= h.values[i];
        CHECK(nmse(product.values, want) < kF32Nmse);
    }
}

TEST_CASE("a selective scan without z has no gate") {
    const int64_t n = 20, d = 33;
    Matrix u = random_matrix(n, d, 105), dt = random_matrix(n, d, 106), A = random_matrix(d, 16, 107);
    for (float& a : A.values) a = -std::exp(a);
    Matrix D = random_matrix(1, d, 108), dbc = random_matrix(n, 32, 109), z(n, d);
    z.values.assign(z.values.size(), 40.0f);  // silu(40) = 40 in f32
    ScanWeights w{{}, f32_weight(A), f32_weight(D)};
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        std::vector<float> one(static_cast<size_t>(d * 16)), two = one;
        PlaneState a{one.data(), d * 16, d * 16, 1}, b{two.data(), d * 16, d * 16, 1};
        Matrix gated(n, d), plain(n, d);
        selective_scan(pool, step_of(0, 20), {u.view(), z.view(), dbc.view(), 0, 16}, dt.view(), w, a, gated.view());
        selective_scan(pool, step_of(0, 20), {u.view(), {}, dbc.view(), 0, 16}, dt.view(), w, b, plain.view());
        for (float& y : plain.values) y *= 40.0f;
        CHECK(plain == gated);
        CHECK(one == two);
    }
}
