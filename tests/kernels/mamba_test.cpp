// The convolution and the selective scan with their carried states: against the formulas of the whole sequence, in any
// chunking, with 1 and 8 planes, and after going back.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

// State planes of a few slots with memory of their own.
struct Planes {
    std::vector<float> values;
    PlaneState state;

    Planes(int n_slots, int n_planes, int64_t size) : values(static_cast<size_t>(n_slots * n_planes * size)) {
        state = {values.data(), n_planes * size, size, n_planes};
    }
};

Step step_of(int slot, int64_t position, int n_rows) {
    Step s;
    s.runs = {{slot, position, 0, n_rows, false}};
    s.tokens.resize(static_cast<size_t>(n_rows));
    return s;
}

// Feeds the rows in chunks of those sizes, repeated; `op(step, first_row, n_rows)`.
template <class Op>
void feed(int64_t position, int64_t n, const std::vector<int>& chunks, Op&& op) {
    for (size_t i = 0; position < n; ++i) {
        int rows = static_cast<int>(std::min<int64_t>(chunks[i % chunks.size()], n - position));
        op(step_of(0, position, rows), position, rows);
        position += rows;
    }
}

struct ScanCase {
    spec::ScanInput in;
    Matrix uz, dbc;  // as the model lays them out: [u z], [dt_raw B C]
    int dt_rank = 3;
    ScanWeights w;
    std::unique_ptr<Matrix> D = std::make_unique<Matrix>();

    ScanCase(int64_t n, int64_t d_inner, int d_state) {
        in.u = random_matrix(n, d_inner, 21);
        in.z = random_matrix(n, d_inner, 22, 2.0f);
        in.dt = random_matrix(n, d_inner, 23, 2.0f, -2.0f);
        in.B = random_matrix(n, d_state, 24);
        in.C = random_matrix(n, d_state, 25);
        in.A = random_matrix(d_inner, d_state, 26);
        for (float& a : in.A.values) a = -std::exp(1.5f * a);
        in.D = random_matrix(1, d_inner, 27, 0.5f, 1.0f);
        w.A = f32_weight(in.A);
        w.D = f32_weight(in.D);
        uz = Matrix(n, 2 * d_inner);
        dbc = Matrix(n, dt_rank + 2 * d_state);
        for (int64_t t = 0; t < n; ++t) {
            std::copy_n(in.u.row(t), d_inner, uz.row(t));
            std::copy_n(in.z.row(t), d_inner, uz.row(t) + d_inner);
            std::copy_n(in.B.row(t), d_state, dbc.row(t) + dt_rank);
            std::copy_n(in.C.row(t), d_state, dbc.row(t) + dt_rank + d_state);
        }
    }
    int64_t d_inner() const { return in.u.cols; }
    int d_state() const { return static_cast<int>(in.B.cols); }

    // Rows first … of the sequence into y; `work` is a copy of uz, whose u half becomes y.
    void run(ThreadPool& pool, const Step& s, Matrix& work, int64_t first, int64_t n, PlaneState state) {
        View rows = work.view(first, n);
        Scan scan{rows.columns(0, d_inner()), rows.columns(d_inner(), d_inner()), dbc.view(first, n), dt_rank,
                  d_state()};
        selective_scan(pool, s, scan, in.dt.view(first, n), w, state, scan.u);
    }
    Matrix output(const Matrix& work) const {
        Matrix y(work.rows, d_inner());
        for (int64_t t = 0; t < work.rows; ++t) std::copy_n(work.row(t), d_inner(), y.row(t));
        return y;
    }
};

std::span<const float> plane_of(const Planes& p, int slot, int64_t position) {
    return {p.state.after(slot, position), static_cast<size_t>(p.state.plane_stride)};
}

}  // namespace

TEST_CASE("conv_silu: the formula over the sequence, and the last raw rows in the state, in any chunking") {
    int width = GENERATE(1, 2, 3, 4, 5, 9, 13, 1040);
    int64_t channels = GENERATE(1, 16, 50, 100);
    const int64_t n = 150;
    Matrix u = random_matrix(n, channels, 31), taps = random_matrix(channels, width, 32, 0.5f);
    Matrix bias = random_matrix(1, channels, 33);
    bool with_bias = channels != 50;
    Conv conv{f32_weight(taps, with_bias ? bias.row(0) : nullptr)};
    auto expected =
        spec::conv_silu(u, taps, with_bias ? std::span<const float>(bias.values) : std::span<const float>());
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        Matrix once;
        for (int n_planes : {1, 8}) {
            for (const auto& chunks : std::vector<std::vector<int>>{{150}, {1}, {7, 64, 1, 2, 65}}) {
                if (width > 1000 && chunks[0] == 1) continue;  // slow, and nothing new
                INFO(isa_name(isa) << ", width " << width << ", " << channels << " channels, " << n_planes
                                   << " planes, chunks of " << chunks[0]);
                Planes planes(1, n_planes, channels * (width - 1));
                Matrix y = u;
                feed(0, n, chunks, [&](const Step& s, int64_t first, int rows) {
                    conv_silu(pool, s, y.view(first, rows), conv, planes.state);
                });
                if (once.rows == 0) {
                    once = y;
                    CHECK(nmse(y.values, expected) < kF32Nmse);
                }
                CHECK(y == once);
                bool kept = true;  // every plane: the raw rows before and at its token
                for (int64_t t = n - n_planes; t < n; ++t) {
                    for (int64_t c = 0; c < channels; ++c) {
                        for (int j = 0; j < width - 1; ++j) {
                            float x = plane_of(planes, 0, t)[static_cast<size_t>(c * (width - 1) + j)];
                            int64_t row = t - (width - 2) + j;
                            kept = kept && x == (row < 0 ? 0.0f : u.row(row)[c]);
                        }
                    }
                }
                CHECK(kept);
            }
        }
    }
}

TEST_CASE("selective_scan: the recurrence over the sequence, and its state, in any chunking") {
    auto [d_inner, d_state] = GENERATE(std::pair{1, 1}, std::pair{32, 16}, std::pair{50, 16}, std::pair{24, 7},
                                       std::pair{19, 17}, std::pair{16, 64}, std::pair{100, 8});
    const int64_t n = 140;
    ScanCase c(n, d_inner, d_state);
    spec::ScanOutput expected = spec::scan(c.in);
    for (Isa isa : isas()) {
        Matrix once;
        for (int n_planes : {1, 3, 8}) {
            for (const auto& chunks : std::vector<std::vector<int>>{{140}, {1}, {3, 64, 1, 8, 70}}) {
                INFO(isa_name(isa) << ", " << d_inner << " channels, d_state " << d_state << ", " << n_planes
                                   << " planes, chunks of " << chunks[0]);
                ThreadPool pool(chunks[0] == 1 ? 1 : 3, isa);
                Planes planes(1, n_planes, int64_t{d_inner} * d_state);
                Matrix work = c.uz;
                feed(0, n, chunks,
                     [&](const Step& s, int64_t first, int rows) { c.run(pool, s, work, first, rows, planes.state); });
                Matrix y = c.output(work);
                if (once.rows == 0) {
                    once = y;
                    CHECK(nmse(y.values, expected.y) < kF32Nmse);
                }
                CHECK(y == once);  // n decode steps are a scan of n, bit for bit
                for (int64_t t = n - n_planes; t < n; ++t) {
                    CHECK(nmse(plane_of(planes, 0, t), expected.states[static_cast<size_t>(t)]) < kF32Nmse);
                }
            }
        }
    }
}

TEST_CASE("going back up to 7 tokens is a smaller position") {
    ScanCase c(40, 32, 16);
    Matrix u = random_matrix(40, 32, 41), taps = random_matrix(32, 4, 42);
    Conv conv{f32_weight(taps)};
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        for (int back = 1; back <= 7; ++back) {
            INFO(isa_name(isa) << ", back by " << back);
            Planes ssm(1, 8, 32 * 16), raw(1, 8, 32 * 3);
            Matrix y = c.uz, v = u;
            auto both = [&](const Step& s, int64_t first, int rows) {
                c.run(pool, s, y, first, rows, ssm.state);
                conv_silu(pool, s, v.view(first, rows), conv, raw.state);
            };
            feed(0, 30, {11}, both);
            Matrix y_first = y, v_first = v;
            for (int64_t t = 30 - back; t < 30; ++t) {
                std::copy_n(c.uz.row(t), 64, y.row(t));
                std::copy_n(u.row(t), 32, v.row(t));
            }
            feed(30 - back, 30, {2, 1}, both);
            CHECK(y == y_first);
            CHECK(v == v_first);
        }
    }
}

TEST_CASE("runs of a step are sequences of their own") {
    ScanCase c(30, 48, 16);
    Matrix u = random_matrix(30, 48, 51), taps = random_matrix(48, 4, 52);
    Conv conv{f32_weight(taps)};
    for (Isa isa : isas()) {
        INFO(isa_name(isa));
        ThreadPool pool(2, isa);
        Planes ssm(3, 8, 48 * 16), raw(3, 8, 48 * 3), ssm_one(1, 8, 48 * 16), raw_one(1, 8, 48 * 3);
        Matrix alone = c.uz, v_alone = u;
        c.run(pool, step_of(0, 0, 30), alone, 0, 30, ssm_one.state);
        conv_silu(pool, step_of(0, 0, 30), v_alone.view(), conv, raw_one.state);

        // Three slots take the same 30 tokens at different paces, together in each step.
        int64_t position[3] = {0, 0, 0};
        int pace[3] = {8, 1, 3};
        while (position[1] < 30) {
            Step s;
            std::vector<int64_t> source;
            for (int slot : {2, 0, 1}) {
                int rows = static_cast<int>(std::min<int64_t>(pace[slot], 30 - position[slot]));
                if (rows == 0) continue;
                s.runs.push_back({slot, position[slot], static_cast<int>(source.size()), rows, false});
                for (int i = 0; i < rows; ++i) source.push_back(position[slot]++);
            }
            s.tokens.resize(source.size());
            auto rows = static_cast<int64_t>(source.size());
            ScanCase part(rows, 48, 16);
            Matrix v(rows, 48);
            for (int64_t i = 0; i < rows; ++i) {
                int64_t t = source[static_cast<size_t>(i)];
                std::copy_n(c.uz.row(t), 96, part.uz.row(i));
                std::copy_n(c.dbc.row(t), c.dbc.cols, part.dbc.row(i));
                std::copy_n(c.in.dt.row(t), 48, part.in.dt.row(i));
                std::copy_n(u.row(t), 48, v.row(i));
            }
            part.in.A = c.in.A;
            part.run(pool, s, part.uz, 0, rows, ssm.state);
            conv_silu(pool, s, v.view(), conv, raw.state);
            for (int64_t i = 0; i < rows; ++i) {
                int64_t t = source[static_cast<size_t>(i)];
                CHECK(std::memcmp(part.uz.row(i), alone.row(t), 48 * sizeof(float)) == 0);
                CHECK(std::memcmp(v.row(i), v_alone.row(t), 48 * sizeof(float)) == 0);
            }
        }
    }
}

TEST_CASE("the softplus inside the scan keeps small steps: dt = log(1 + e^x) for very negative x") {
    // With A = 0, B = C = u = 1, one row, z large: y = silu(z) (dt + D), D = 0.
    for (Isa isa : isas()) {
        const int64_t n = 400;
        spec::ScanInput in;
        in.u = Matrix(1, n);
        in.u.values.assign(n, 1.0f);
        in.z = in.dt = in.u;
        in.z.values.assign(n, 50.0f);
        for (int64_t i = 0; i < n; ++i) in.dt.row(0)[i] = -40.0f + 0.2f * static_cast<float>(i);
        Matrix dbc(1, 2), A(n, 1), D(1, n), y(1, n);
        dbc.values.assign(2, 1.0f);
        ScanWeights w{{}, f32_weight(A), f32_weight(D)};
        Planes planes(1, 1, n);
        ThreadPool pool(1, isa);
        Scan scan{in.u.view(), in.z.view(), dbc.view(), 0, 1};
        selective_scan(pool, step_of(0, 0, 1), scan, in.dt.view(), w, planes.state, y.view());
        double worst = 0;
        for (int64_t i = 0; i < n; ++i) {
            double x = in.dt.row(0)[i], expected = 50 * (std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))));
            worst = std::max(worst, std::abs(y.row(0)[i] - expected) / expected);
        }
        INFO(isa_name(isa));
        CHECK(worst < 5e-7);
    }
}
