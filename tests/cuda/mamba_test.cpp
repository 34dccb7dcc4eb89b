// The convolution and the scan with their carried states: against the formulas over the whole sequence, in any chunks
// and both kinds of step, several sequences at once, with 1 and 8 planes, and after going back.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

// State planes of some slots on the device.
struct Planes {
    PlaneState state;
    int64_t size;

    Planes(Rig& rig, int n_slots, int n_planes, int64_t n) : size(n) {
        auto* base = reinterpret_cast<float*>(rig.bytes(static_cast<size_t>(n_slots * n_planes * n) * sizeof(float)));
        state = {base, n_planes * n, n, n_planes};
    }
    Matrix after(Rig& rig, int slot, int64_t position) const {
        return rig.get(View(state.after(slot, position), 1, size));
    }
};

struct Feed {
    StepKind kind;
    std::vector<int> chunks;
};

// Feeds rows 0 … n - 1 in chunks of those sizes, repeated.
template <class Op>
void feed(int slot, int64_t n, const Feed& how, Op&& op) {
    int64_t position = 0;
    for (size_t i = 0; position < n; ++i) {
        const int rows = static_cast<int>(std::min<int64_t>(how.chunks[i % how.chunks.size()], n - position));
        op(step_of(how.kind, slot, position, rows), position, rows);
        position += rows;
    }
}

const std::vector<Feed> kFeeds = {
    {kPrefill, {1000}}, {kPrefill, {1, 7, 64, 130, 5}}, {kDecode, {1}}, {kDecode, {3, 8, 1, 5}}};

}  // namespace

TEST_CASE("convolution: y and state in any chunks", "[op]") {
    Rig rig(GENERATE(false, true));
    const int width = GENERATE(4, 1, 2, 7);
    const int64_t n = 300, channels = GENERATE(24, 131);
    const Matrix u = rounded(random_matrix(n, channels, 41), rig.act()),
                 taps = random_matrix(channels, width, 42, 0.5f);
    const std::vector<float> bias = random_matrix(1, channels, 43).values;
    const bool biased = width != 2;
    Conv conv;
    Matrix copy = taps;
    conv.taps = rig.weight(copy, DType::kF32, biased ? bias : std::vector<float>());
    const spec::Doubles expected =
        spec::conv_silu(u, taps, biased ? std::span<const float>(bias) : std::span<const float>());
    for (const Feed& how : kFeeds) {
        INFO("width " << width << ", channels " << channels << ", chunks of " << how.chunks[0]);
        Planes planes(rig, 3, 8, channels * (width - 1));
        View x = rig.put(u, rig.act());
        feed(2, n, how, [&](const Step& s, int64_t first, int rows) {
            rig->conv_silu(s, x.slice(first, rows), conv, planes.state);
        });
        CHECK(nmse(rig.get(x).values, expected) < tolerance_of(rig.act()));
        for (int64_t position = n - 8; position < n && width > 1; ++position) {
            const Matrix state = planes.after(rig, 2, position);
            bool same = true;
            for (int64_t c = 0; c < channels; ++c) {
                for (int j = 0; j < width - 1; ++j) {
                    same = same && state.values[static_cast<size_t>(c * (width - 1) + j)] ==
                                       u.row(position - (width - 2) + j)[c];
                }
            }
            CHECK(same);
        }
    }
}

namespace {

struct ScanCase {
    spec::ScanInput in;
    int dt_rank;
    ScanWeights w;
    View uz, dbc, dt, y;

    ScanCase(Rig& rig, int64_t n, int64_t d_inner, int d_state, int rank = 5) : dt_rank(rank) {
        const DType act = rig.act();
        in.u = rounded(random_matrix(n, d_inner, 51), act);
        in.z = rounded(random_matrix(n, d_inner, 52, 2.0f), act);
        in.dt = random_matrix(n, d_inner, 53, 2.0f, -2.0f);
        in.B = rounded(random_matrix(n, d_state, 54), act);
        in.C = rounded(random_matrix(n, d_state, 55), act);
        in.A = random_matrix(d_inner, d_state, 56);
        for (float& a : in.A.values) a = -std::exp(1.5f * a);
        in.D = random_matrix(1, d_inner, 57, 0.5f, 1.0f);
        w.A = rig.vector(in.A);
        w.D = rig.vector(in.D);
        Matrix both(n, 2 * d_inner), low(n, dt_rank + 2 * d_state);
        for (int64_t t = 0; t < n; ++t) {
            std::copy_n(in.u.row(t), d_inner, both.row(t));
            std::copy_n(in.z.row(t), d_inner, both.row(t) + d_inner);
            std::copy_n(in.B.row(t), d_state, low.row(t) + dt_rank);
            std::copy_n(in.C.row(t), d_state, low.row(t) + dt_rank + d_state);
        }
        uz = rig.put(both, act);
        dbc = rig.put(low, act);
        dt = rig.put(in.dt, DType::kF32);
        y = rig.matrix(n, d_inner, act);
    }
    void run(Rig& rig, const Step& s, int64_t first, int64_t n, PlaneState state) {
        const int64_t d = in.u.cols;
        const View rows = uz.slice(first, n);
        rig->selective_scan(
            s, {rows.columns(0, d), rows.columns(d, d), dbc.slice(first, n), dt_rank, static_cast<int>(in.B.cols)},
            dt.slice(first, n), w, state, y.slice(first, n));
    }
};

}  // namespace

TEST_CASE("scan: y and states in any chunks", "[op]") {
    Rig rig(GENERATE(false, true));
    const int d_state = GENERATE(16, 8, 5, 40);
    const int64_t n = 300, d_inner = GENERATE(64, 75);
    const int dt_rank = GENERATE(5, 8);  // B and C lie at any place, or where four are read at a time
    ScanCase c(rig, n, d_inner, d_state, dt_rank);
    const spec::ScanOutput expected = spec::scan(c.in);
    for (const Feed& how : kFeeds) {
        INFO("d_state " << d_state << ", d_inner " << d_inner << ", dt_rank " << dt_rank << ", chunks of "
                        << how.chunks[0]);
        Planes planes(rig, 2, 8, d_inner * d_state);
        feed(1, n, how, [&](const Step& s, int64_t first, int rows) { c.run(rig, s, first, rows, planes.state); });
        CHECK(nmse(rig.get(c.y).values, expected.y) < tolerance_of(rig.act()));
        for (int64_t position = n - 8; position < n; ++position) {
            const auto& state = expected.states[static_cast<size_t>(position)];
            CHECK(nmse(planes.after(rig, 1, position).values, state) < 1e-11);
        }
    }
}

TEST_CASE("scan: blocks of any number of channels, the last one's not all there", "[op]") {
    Rig rig(GENERATE(false, true));
    // With 132 multiprocessors: 16 channels a block, 24, 32, 48, and 32 in two waves of blocks. So many rows that every
    // tile's place is taken again, and pieces that end before, at and behind the ends of tiles.
    const int64_t n = 260, d_inner = GENERATE(4, 20, 2124, 3176, 4252, 6340);
    struct Case {
        Feed how;
        int n_planes;
    };
    const Case cases[] = {
        {{kPrefill, {1000}}, 8}, {{kPrefill, {24, 49, 1, 47, 3, 25, 48}}, 3}, {{kPrefill, {97, 50}}, 1}};
    ScanCase c(rig, n, d_inner, 16, 8);
    const spec::ScanOutput expected = spec::scan(c.in);
    for (const auto& [how, n_planes] : cases) {
        INFO("d_inner " << d_inner << ", chunks of " << how.chunks[0]);
        Planes planes(rig, 2, n_planes, d_inner * 16);
        feed(1, n, how, [&](const Step& s, int64_t first, int rows) { c.run(rig, s, first, rows, planes.state); });
        CHECK(nmse(rig.get(c.y).values, expected.y) < tolerance_of(rig.act()));
        for (int64_t position = n - n_planes; position < n; ++position) {
            const auto& state = expected.states[static_cast<size_t>(position)];
            CHECK(nmse(planes.after(rig, 1, position).values, state) < 1e-11);
        }
    }
}

TEST_CASE("scan and convolution of several sequences in one step are those of each alone", "[op]") {
    Rig rig;
    // Of 2120 channels the blocks of one sequence are others than those of three.
    const int64_t n = 160, d_inner = GENERATE(96, 2120);
    ScanCase c(rig, n, d_inner, 16);
    Conv conv;
    Matrix taps = random_matrix(d_inner, 4, 58);
    conv.taps = rig.weight(taps, DType::kF32);
    for (const StepKind kind : {kPrefill, kDecode}) {
        const std::vector<int> rows = kind == kPrefill ? std::vector<int>{3, 140, 17} : std::vector<int>{1, 8, 3, 1};
        Planes scan_alone(rig, 4, 8, d_inner * 16), scan_together(rig, 4, 8, d_inner * 16);
        Planes conv_alone(rig, 4, 8, d_inner * 3), conv_together(rig, 4, 8, d_inner * 3);
        const Matrix u = rig.get(c.uz);
        View alone = rig.put(u, DType::kBF16).columns(0, d_inner),
             together = rig.put(u, DType::kBF16).columns(0, d_inner);
        std::vector<Run> runs;
        int64_t first = 0;
        for (size_t i = 0; i < rows.size(); ++i) {
            const int slot = 3 - static_cast<int>(i);
            const int64_t position = static_cast<int64_t>(i) * 1000;
            c.run(rig, step_of(kind, slot, position, rows[i]), first, rows[i], scan_alone.state);
            rig->conv_silu(step_of(kind, slot, position, rows[i]), alone.slice(first, rows[i]), conv, conv_alone.state);
            runs.push_back({slot, position, 0, rows[i], false});
            first += rows[i];
        }
        const Matrix y = rig.get(c.y.slice(0, first));
        c.run(rig, step_of(kind, runs), 0, first, scan_together.state);
        rig->conv_silu(step_of(kind, runs), together.slice(0, first), conv, conv_together.state);
        CHECK(rig.get(c.y.slice(0, first)) == y);
        CHECK(rig.get(alone) == rig.get(together));
        for (const Run& r : runs) {
            for (int64_t p = std::max<int64_t>(r.position, r.position + r.n_rows - 8); p < r.position + r.n_rows; ++p) {
                CHECK(scan_alone.after(rig, r.slot, p) == scan_together.after(rig, r.slot, p));
                CHECK(conv_alone.after(rig, r.slot, p) == conv_together.after(rig, r.slot, p));
            }
        }
    }
}

TEST_CASE("one plane is enough for who never goes back; eight let seven tokens be fed again", "[op]") {
    Rig rig;
    const int64_t n = 64, d_inner = 64;
    ScanCase c(rig, n, d_inner, 16);
    Planes one(rig, 1, 1, d_inner * 16), eight(rig, 1, 8, d_inner * 16);
    c.run(rig, step_of(kPrefill, 0, 0, 40), 0, 40, one.state);
    for (int64_t t = 40; t < n; ++t) c.run(rig, step_of(kDecode, 0, t, 1), t, 1, one.state);
    const Matrix y = rig.get(c.y);
    c.run(rig, step_of(kPrefill, 0, 0, 40), 0, 40, eight.state);
    for (int64_t t = 40; t < n; ++t) c.run(rig, step_of(kDecode, 0, t, 1), t, 1, eight.state);
    CHECK(rig.get(c.y) == y);
    CHECK(one.after(rig, 0, n - 1) == eight.after(rig, 0, n - 1));
    for (int64_t t = n - 7; t < n; ++t) c.run(rig, step_of(kDecode, 0, t, 1), t, 1, eight.state);
    CHECK(rig.get(c.y) == y);
    CHECK(one.after(rig, 0, n - 1) == eight.after(rig, 0, n - 1));
}
