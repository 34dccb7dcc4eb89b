// Gated linear attention and retention with their carried states: against the formulas of the whole sequence, in any
// chunking and with any number of threads, and after going back.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

Step step_of(int64_t position, int n_rows) {
    Step s;
    s.runs = {{0, position, 0, n_rows, false}};
    s.tokens.resize(static_cast<size_t>(n_rows));
    return s;
}

struct DecayCase {
    spec::DecayInput in;
    Weight head_decay;
    std::vector<float> planes;
    PlaneState state;

    DecayCase(int64_t n, int n_heads, int key_dim, int value_dim, bool gated, int n_planes) {
        in = spec::decay_input(n, n_heads, key_dim, value_dim, gated);
        head_decay = f32_weight(in.head_decay);
        int64_t size = int64_t{n_heads} * key_dim * value_dim;
        planes.resize(static_cast<size_t>(n_planes * size));
        state = {planes.data(), n_planes * size, size, n_planes};
    }
    // Rows first … of the sequence into y; the gates are a copy, which the op overwrites.
    void run(ThreadPool& pool, const Step& s, Matrix& y, int64_t first, int64_t n) {
        Matrix gates = in.gates;
        Decayed d{in.q.view(first, n),
                  in.k.view(first, n),
                  in.v.view(first, n),
                  {},
                  &head_decay,
                  in.n_heads,
                  static_cast<int>(in.q.cols / in.n_heads),
                  static_cast<int>(in.v.cols / in.n_heads)};
        if (gates.rows > 0) d.gates = gates.view(first, n), d.head_decay = nullptr;
        decay_scan(pool, s, d, state, y.view(first, n));
    }
    std::span<const float> plane(int64_t position) const {
        return {state.after(0, position), static_cast<size_t>(state.plane_stride)};
    }
};

}  // namespace

TEST_CASE("decay_scan: the recurrence over the sequence, and its state, in any chunking") {
    struct Shape {
        int n_heads, key_dim, value_dim;
    };
    auto [n_heads, key_dim, value_dim] = GENERATE(Shape{1, 1, 1}, Shape{2, 8, 16}, Shape{3, 24, 48}, Shape{1, 19, 33},
                                                  Shape{2, 256, 40}, Shape{1, 512, 7});
    bool gated = GENERATE(false, true);
    const int64_t n = 90;
    DecayCase whole(n, n_heads, key_dim, value_dim, gated, 1);
    spec::ScanOutput expected = spec::decay(whole.in);
    for (Isa isa : isas()) {
        Matrix once;
        for (int n_planes : {1, 3, 8}) {
            for (const auto& chunks : std::vector<std::vector<int>>{{90}, {1}, {3, 64, 1, 8, 70}}) {
                INFO(isa_name(isa) << ", " << n_heads << " heads of " << key_dim << " and " << value_dim << ", "
                                   << n_planes << " planes, chunks of " << chunks[0]);
                ThreadPool pool(chunks[0] == 1 ? 1 : 3, isa);
                DecayCase c(n, n_heads, key_dim, value_dim, gated, n_planes);
                Matrix y(n, int64_t{n_heads} * value_dim);
                int64_t position = 0;
                for (size_t i = 0; position < n; ++i) {
                    int rows = static_cast<int>(std::min<int64_t>(chunks[i % chunks.size()], n - position));
                    c.run(pool, step_of(position, rows), y, position, rows);
                    position += rows;
                }
                if (once.rows == 0) {
                    once = y;
                    CHECK(nmse(y.values, expected.y) < kF32Nmse);
                }
                CHECK(y == once);  // n decode steps are a scan of n, bit for bit
                for (int64_t t = n - n_planes; t < n; ++t) {
                    CHECK(nmse(c.plane(t), expected.states[static_cast<size_t>(t)]) < kF32Nmse);
                }
            }
        }
    }
}

TEST_CASE("decay_scan: going back up to 7 tokens is a smaller position, and runs are sequences of their own") {
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        DecayCase c(40, 2, 16, 32, true, 8);
        Matrix y(40, 64);
        c.run(pool, step_of(0, 30), y, 0, 30);
        Matrix first = y;
        for (int64_t t = 23; t < 30; ++t) c.run(pool, step_of(t, 1), y, t, 1);
        CHECK(y == first);

        std::vector<float> two(2 * c.planes.size());
        c.state.base = two.data();
        Step both = step_of(0, 20);
        both.runs = {{1, 0, 0, 12, false}, {0, 5, 12, 8, false}};
        c.run(pool, both, y, 0, 20);
        CHECK(std::memcmp(y.row(0), first.row(0), 12 * 64 * sizeof(float)) == 0);
        CHECK(std::memcmp(y.row(12), first.row(12), 64 * sizeof(float)) != 0);
    }
}

TEST_CASE("head_norm_gate: each head's norm, times silu of its gate") {
    int dim = GENERATE(1, 16, 33, 512);
    const int64_t n = 5;
    Matrix y = random_matrix(n, 3 * dim, 61), gate = random_matrix(n, 3 * dim, 62, 2.0f);
    Matrix weight = random_matrix(1, dim, 63, 0.3f, 1.0f);
    spec::Doubles expected = spec::head_norm_gate(y, weight, gate, 1e-5);
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        Matrix out = y;
        head_norm_gate(pool, out.view(), {f32_weight(weight), 1e-5f}, gate.view());
        CHECK(nmse(out.values, expected) < kF32Nmse);
    }
}
