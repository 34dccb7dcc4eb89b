// Each fused stage of the CPU backend against its default body, composed of primitives (kernels/backend.cpp).
// A row's bits depend on the row, its state and the kind of step alone, so the two agree bit for bit.
#include <catch2/catch.hpp>

#include "kernels/cpu/backend.h"
#include "tests/kernels/harness.h"

using namespace samba;
using namespace samba::test;

namespace {

constexpr int64_t kModel = 256, kInner = 512, kFf = 768;

// Tensors in memory of their own, as a file would hold them.
struct Tensors {
    std::vector<std::vector<char>> memory;
    std::vector<Tensor> tensors;

    void add(DType type, int64_t rows, int64_t cols, uint32_t seed, float deviation = 0.05f) {
        Matrix m = random_matrix(rows, cols, seed, deviation);
        auto& bytes = memory.emplace_back(static_cast<size_t>(rows) * row_bytes(type, cols));
        for (int64_t i = 0; i < rows; ++i) {
            quantize_row(type, m.row(i), bytes.data() + static_cast<size_t>(i) * row_bytes(type, cols), cols);
        }
        tensors.push_back({type, rows, cols, bytes.data()});
    }
};

struct Stage {
    std::unique_ptr<Backend> backend;
    std::vector<std::unique_ptr<Tensors>> files;
    Step step;

    Stage(Isa isa, int threads, StepKind kind) {
        CpuOptions options;
        options.threads = threads;
        options.isa = isa;
        backend = make_cpu_backend(options);
        Limits limits;
        limits.max_rows = 64;
        limits.n_slots = 2;
        limits.d_model = kModel;
        limits.vocab_size = 300;
        limits.max_cols = 2 * kFf;
        limits.max_ring_rows = 164;
        limits.max_kv_cols = 128;
        backend->prepare(limits);
        step.kind = kind;
        step.runs = kind == StepKind::kDecode ? std::vector<Run>{{1, 9, 0, 1, false}, {0, 4, 1, 3, false}}
                                              : std::vector<Run>{{1, 9, 0, 13, false}, {0, 4, 13, 7, false}};
        step.tokens.resize(static_cast<size_t>(kind == StepKind::kDecode ? 4 : 20));
    }
    int64_t rows() const { return step.n_rows(); }
    Weight load(std::vector<std::pair<DType, int64_t>> parts, int64_t cols, bool bias = false,
                float deviation = 0.05f) {
        auto& file = *files.emplace_back(std::make_unique<Tensors>());
        int64_t rows = 0;
        uint32_t seed = 70 + static_cast<uint32_t>(files.size()) * 10;
        for (auto [type, n] : parts) {
            file.add(type, n, cols, seed++, deviation);
            rows += n;
        }
        std::vector<Tensor> tensors = file.tensors;
        if (bias) file.add(DType::kF32, 1, rows, seed, 0.3f);
        return backend->load(tensors, bias ? &file.tensors.back() : nullptr);
    }
    Norm norm(int64_t cols) { return {load({{DType::kF32, 1}}, cols, false, 1.0f), 1e-5f}; }
};

// Calls f for every instruction set, some thread counts, both kinds of step and several weight types.
template <class F>
void for_each_stage(F&& f) {
    for (Isa isa : isas()) {
        for (StepKind kind : {StepKind::kDecode, StepKind::kPrefill}) {
            for (DType type : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
                for (int threads : {1, 3}) {
                    INFO(isa_name(isa) << ", " << (kind == StepKind::kDecode ? "decode" : "prefill") << ", "
                                       << info(type).name << ", " << threads << " threads");
                    Stage stage(isa, threads, kind);
                    f(stage, type);
                }
            }
        }
    }
}

struct State {
    std::vector<float> values;
    PlaneState planes;
    explicit State(int64_t size) : values(random_matrix(1, 2 * 8 * size, 64, 0.5f).values) {
        planes = {values.data(), 8 * size, size, 8};
    }
};

}  // namespace

TEST_CASE("norm_matmul is rmsnorm, then the product") {
    for_each_stage([](Stage& t, DType type) {
        Norm norm = t.norm(kModel);
        Matrix x = random_matrix(t.rows(), kModel, 1);
        for (const Weight& w : {t.load({{type, 80}}, kModel, true), t.load({{type, 33}, {DType::kQ6_K, 31}}, kModel)}) {
            Matrix y(t.rows(), w.rows), expected = y;
            t.backend->norm_matmul(t.step, x.view(), norm, w, y.view());
            t.backend->Backend::norm_matmul(t.step, x.view(), norm, w, expected.view());
            CHECK(y == expected);
            CHECK(y.values[0] != 0);
        }
    });
}

TEST_CASE("conv_matmul is conv_silu, then the product") {
    for_each_stage([](Stage& t, DType type) {
        Conv conv{t.load({{DType::kF32, kInner}}, 4, true, 0.5f)};
        Weight x_proj = t.load({{type, 48}}, kInner);
        State a(kInner * 3), b = a;
        b.planes.base = b.values.data();
        Matrix uz = random_matrix(t.rows(), 2 * kInner, 2), uz2 = uz, dbc(t.rows(), 48), expected = dbc;
        t.backend->conv_matmul(t.step, uz.view().columns(0, kInner), conv, x_proj, a.planes, dbc.view());
        t.backend->Backend::conv_matmul(t.step, uz2.view().columns(0, kInner), conv, x_proj, b.planes, expected.view());
        CHECK(dbc == expected);
        CHECK(uz == uz2);
        CHECK(a.values == b.values);
    });
}

TEST_CASE("dt_scan is the product with dt_proj, then the selective scan") {
    for_each_stage([](Stage& t, DType type) {
        for (int dt_rank : {32, 40}) {
            if (row_bytes(type, dt_rank) * static_cast<size_t>(info(type).block_values) !=
                static_cast<size_t>(dt_rank) * static_cast<size_t>(info(type).block_bytes)) {
                type = DType::kF16;  // what a file holds where the rank is no multiple of the block
            }
            ScanWeights w{t.load({{type, kInner}}, dt_rank, true), t.load({{DType::kF32, kInner}}, 16),
                          t.load({{DType::kF32, 1}}, kInner)};
            State a(kInner * 16), b = a;
            b.planes.base = b.values.data();
            Matrix uz = random_matrix(t.rows(), 2 * kInner, 3), dbc = random_matrix(t.rows(), dt_rank + 32, 4);
            Matrix y(t.rows(), kInner), expected = y;
            Scan in{uz.view().columns(0, kInner), uz.view().columns(kInner, kInner), dbc.view(), dt_rank, 16};
            t.backend->dt_scan(t.step, in, w, a.planes, y.view());
            t.backend->Backend::dt_scan(t.step, in, w, b.planes, expected.view());
            CHECK(y == expected);
            CHECK(a.values == b.values);
        }
    });
}

TEST_CASE("norm_qkv_rope is the normed product, then norms and rotation of the heads") {
    for_each_stage([](Stage& t, DType type) {
        Norm norm = t.norm(kModel);
        Matrix x = random_matrix(t.rows(), kModel, 5);
        Matrix cos = random_matrix(t.rows(), 32, 6), sin = random_matrix(t.rows(), 32, 7);
        RopeTable rope{64, 10000, cos.view(), sin.view()};
        for (bool mixed : {false, true}) {
            QkvWeights w;
            w.n_heads = 4;
            w.n_kv_heads = 1;
            w.head_dim = 64;
            w.qkv = mixed ? t.load({{type, 256}, {type, 64}, {DType::kQ6_K, 64}}, kModel)
                          : t.load({{type, 256}, {type, 64}, {type, 64}}, kModel, true);
            if (mixed) w.q_norm = w.k_norm = t.norm(64);
            for (DType ring : {DType::kF16, DType::kQ8_0}) {
                Matrix y(t.rows(), 384), expected = y;
                auto split = [](Matrix& m) {
                    return Qkv{m.view().columns(0, 256), m.view().columns(256, 64), m.view().columns(320, 64)};
                };
                const RopeTable* table = mixed ? nullptr : &rope;
                t.backend->norm_qkv_rope(t.step, x.view(), norm, w, table, ring, split(y));
                t.backend->Backend::norm_qkv_rope(t.step, x.view(), norm, w, table, ring, split(expected));
                CHECK(y == expected);
            }
        }
    });
}

TEST_CASE("norm_gate_up is the normed product, then silu(gate) * up") {
    for_each_stage([](Stage& t, DType type) {
        Norm norm = t.norm(kModel);
        Matrix x = random_matrix(t.rows(), kModel, 8);
        for (DType up : {type, DType::kQ6_K}) {
            Weight w = t.load({{type, kFf}, {up, kFf}}, kModel);
            Matrix h(t.rows(), kFf), expected = h;
            t.backend->norm_gate_up(t.step, x.view(), norm, w, h.view());
            t.backend->Backend::norm_gate_up(t.step, x.view(), norm, w, expected.view());
            CHECK(h == expected);
        }
    });
}

TEST_CASE("matmul_add adds the product to x") {
    for_each_stage([](Stage& t, DType type) {
        Weight w = t.load({{type, kModel}}, kInner, true);
        Matrix y = random_matrix(t.rows(), kInner, 9), x = random_matrix(t.rows(), kModel, 10), before = x;
        Matrix product(t.rows(), kModel);
        t.backend->matmul_add(t.step, y.view(), w, x.view(), {});
        t.backend->matmul(t.step, y.view(), w, product.view());
        std::vector<double> expected;
        for (size_t i = 0; i < x.values.size(); ++i) expected.push_back(double{before.values[i]} + product.values[i]);
        CHECK(nmse(x.values, expected) < kF32Nmse);
    });
}

TEST_CASE("logits are those of the wanted rows") {
    for_each_stage([](Stage& t, DType type) {
        Norm norm = t.norm(kModel);
        Weight head = t.load({{type, 300}}, kModel);
        Matrix x = random_matrix(t.rows(), kModel, 11), all(t.rows(), 300);
        t.backend->norm_matmul(t.step, x.view(), norm, head, all.view());
        t.step.wanted = {0, 2, 3};
        Matrix three(3, 300), two(2, 300), one(1, 300), expected(2, 300);
        t.backend->logits(t.step, x.view(), norm, head, 0, three.view());
        t.backend->logits(t.step, x.view(), norm, head, 1, two.view());
        t.backend->logits(t.step, x.view(), norm, head, 2, one.view());
        t.backend->Backend::logits(t.step, x.view(), norm, head, 1, expected.view());
        CHECK(two == expected);
        auto same = [&](const float* row, int64_t i) { return std::memcmp(row, all.row(i), 300 * sizeof(float)) == 0; };
        CHECK((same(three.row(0), 0) && same(three.row(1), 2) && same(three.row(2), 3)));
        CHECK((same(two.row(0), 2) && same(two.row(1), 3) && same(one.row(0), 3)));
    });
}

TEST_CASE("embed looks tokens up, fills the rope tables and remembers the tokens; sample draws and feeds on") {
    for (Isa isa : isas()) {
        Stage t(isa, 2, StepKind::kDecode);
        Weight table = t.load({{DType::kQ8_0, 300}}, kModel);
        Matrix cos(4, 16), sin(4, 16), x(4, kModel), logits(2, 300);
        RopeTable rope{32, 10000, cos.view(), sin.view()};
        RopeTable* ropes[] = {&rope};
        SamplingParams params;
        params.temp = 0;
        params.presence_penalty = 5;
        t.backend->set_sampling(0, params);
        t.backend->set_sampling(1, params);
        t.step.tokens = {7, 8, 9, 8};
        t.step.wanted = {0, 3};
        t.step.sample = true;
        int seen = 0;
        t.step.on_logits = [&](int first, View v) {
            CHECK(first == 0);
            seen += static_cast<int>(v.rows);
        };
        logits.row(0)[7] = 10;  // seen by slot 1: 10 - 5
        logits.row(0)[9] = 6;   // not seen by slot 1
        logits.row(1)[9] = 10;  // seen by slot 0
        logits.row(1)[7] = 6;
        t.backend->submit(t.step, [&](const Step& s) {
            t.backend->embed(s, table, ropes, x.view());
            t.backend->sample(s, 0, logits.view());
        });
        std::vector<Sampled> drawn = t.backend->receive();
        REQUIRE(drawn.size() == 2);
        CHECK((drawn[0].slot == 1 && drawn[0].position == 10 && drawn[0].token.id == 9));
        CHECK((drawn[1].slot == 0 && drawn[1].position == 7 && drawn[1].token.id == 7));
        CHECK(seen == 2);
        std::vector<float> row(kModel);
        dequantize_row(DType::kQ8_0,
                       static_cast<const char*>(table.parts[0].data) + 9 * row_bytes(DType::kQ8_0, kModel), row.data(),
                       kModel);
        CHECK(std::memcmp(row.data(), x.row(2), kModel * sizeof(float)) == 0);
        int64_t positions[] = {9, 4, 5, 6};
        for (int i = 0; i < 4; ++i) {
            CHECK(cos.row(i)[0] == Approx(std::cos(positions[i])));
            CHECK(sin.row(i)[3] == Approx(std::sin(positions[i] * std::pow(10000.0, -6.0 / 32))));
        }

        Step next;
        next.kind = StepKind::kDecode;
        next.runs = {{1, 10, 0, 1, true}};
        next.tokens = {0};  // not looked at
        t.backend->submit(next, [&](const Step& s) { t.backend->embed(s, table, ropes, x.view(0, 1)); });
        CHECK(t.backend->receive().empty());
        CHECK(std::memcmp(row.data(), x.row(0), kModel * sizeof(float)) == 0);
    }
}
