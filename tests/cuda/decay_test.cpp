// Gated linear attention and retention on the device: against the formulas over the whole sequence, in any chunks and
// both kinds of step, several sequences at once, and after going back.
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

struct DecayCase {
    spec::DecayInput in;
    Weight head_decay;
    View q, k, v, gates, y;
    int key_dim, value_dim;
    PlaneState state;
    int64_t size;

    DecayCase(Rig& rig, int64_t n, int n_heads, int keys, int values, bool gated, int n_slots = 2)
        : in(spec::decay_input(n, n_heads, keys, values, gated)), key_dim(keys), value_dim(values) {
        for (Matrix* m : {&in.q, &in.k, &in.v}) *m = rounded(*m, rig.act());
        q = rig.put(in.q, rig.act()), k = rig.put(in.k, rig.act()), v = rig.put(in.v, rig.act());
        if (gated) gates = rig.put(in.gates, DType::kF32);
        head_decay = rig.vector(in.head_decay);
        y = rig.matrix(n, int64_t{n_heads} * values, rig.act());
        size = int64_t{n_heads} * keys * values;
        clear(rig, n_slots);
    }
    void clear(Rig& rig, int n_slots) {
        auto* base = reinterpret_cast<float*>(rig.bytes(static_cast<size_t>(n_slots * 8 * size) * sizeof(float)));
        state = {base, 8 * size, size, 8};
    }
    void run(Rig& rig, const Step& s, int64_t first, int64_t n) {
        Decayed d{q.slice(first, n), k.slice(first, n), v.slice(first, n), {},
                  &head_decay,       in.n_heads,        key_dim,           value_dim};
        if (in.gates.rows > 0) d.gates = gates.slice(first, n), d.head_decay = nullptr;
        rig->decay_scan(s, d, state, y.slice(first, n));
    }
    Matrix after(Rig& rig, int slot, int64_t position) const {
        return rig.get(View(state.after(slot, position), 1, size));
    }
};

}  // namespace

TEST_CASE("decay_scan: y and states in any chunks", "[op]") {
    Rig rig(GENERATE(false, true));
    struct Shape {
        int n_heads, key_dim, value_dim;
    };
    auto [n_heads, key_dim, value_dim] =
        GENERATE(Shape{2, 8, 16}, Shape{1, 19, 33}, Shape{4, 192, 384}, Shape{2, 256, 512}, Shape{1, 300, 7});
    const bool gated = GENERATE(false, true);
    const int64_t n = 75;
    DecayCase c(rig, n, n_heads, key_dim, value_dim, gated);
    const spec::ScanOutput expected = spec::decay(c.in);
    struct Feed {
        StepKind kind;
        std::vector<int> chunks;
    };
    for (const Feed& how :
         {Feed{kPrefill, {1000}}, Feed{kPrefill, {1, 7, 33, 5}}, Feed{kDecode, {1}}, Feed{kDecode, {3, 8, 1, 5}}}) {
        INFO(n_heads << " heads of " << key_dim << " and " << value_dim << ", chunks of " << how.chunks[0]);
        c.clear(rig, 2);
        int64_t position = 0;
        for (size_t i = 0; position < n; ++i) {
            const int rows = static_cast<int>(std::min<int64_t>(how.chunks[i % how.chunks.size()], n - position));
            c.run(rig, step_of(how.kind, 1, position, rows), position, rows);
            position += rows;
        }
        CHECK(nmse(rig.get(c.y).values, expected.y) < tolerance_of(rig.act()));
        for (int64_t p = n - 8; p < n; ++p) {
            CHECK(nmse(c.after(rig, 1, p).values, expected.states[static_cast<size_t>(p)]) < 1e-11);
        }
    }
}

TEST_CASE("decay_scan: sequences of one step are those of each alone, and seven tokens may be fed again", "[op]") {
    Rig rig;
    DecayCase c(rig, 60, 2, 24, 40, true, 4);
    for (const StepKind kind : {kPrefill, kDecode}) {
        const std::vector<int> rows = kind == kPrefill ? std::vector<int>{3, 40, 17} : std::vector<int>{1, 8, 3, 1};
        c.clear(rig, 4);
        std::vector<Run> runs;
        int first = 0;
        for (size_t i = 0; i < rows.size(); ++i) {
            const int slot = 3 - static_cast<int>(i);
            const int64_t position = static_cast<int64_t>(i) * 1000;
            c.run(rig, step_of(kind, slot, position, rows[i]), first, rows[i]);
            runs.push_back({slot, position, 0, rows[i], false});
            first += rows[i];
        }
        const Matrix alone = rig.get(c.y.slice(0, first));
        c.clear(rig, 4);
        c.run(rig, step_of(kind, runs), 0, first);
        CHECK(rig.get(c.y.slice(0, first)) == alone);
    }
    c.clear(rig, 1);
    c.run(rig, step_of(kPrefill, 0, 0, 40), 0, 40);
    const Matrix once = rig.get(c.y.slice(0, 40));
    for (int64_t t = 33; t < 40; ++t) c.run(rig, step_of(kDecode, 0, t, 1), t, 1);
    CHECK(rig.get(c.y.slice(0, 40)) == once);
}

TEST_CASE("head_norm_gate: each head's norm, times silu of its gate", "[op]") {
    Rig rig(GENERATE(false, true));
    constexpr int64_t kRows = 40;  // enough values for roundings to average, also of heads of one value
    for (const int dim : {1, 16, 33, 512}) {
        const Matrix y = rounded(random_matrix(kRows, 3 * dim, 61), rig.act());
        const Matrix gate = rounded(random_matrix(kRows, 3 * dim, 62, 2.0f), rig.act());
        const Matrix weight = random_matrix(1, dim, 63, 0.3f, 1.0f);
        View out = rig.put(y, rig.act());
        rig->head_norm_gate(step_of(kDecode, 0, 0, kRows), out, {rig.vector(weight), 1e-5f}, rig.put(gate, rig.act()));
        CHECK(nmse(rig.get(out).values, spec::head_norm_gate(y, weight, gate, 1e-5)) < tolerance_of(rig.act()));
    }
}
