// Attention over the ring, both kinds of step: against the formula over the whole sequence, windows of all sizes, the
// ring's wrap, any chunking, any threads, several slots, all types of ring.
#include <catch2/catch.hpp>

#include "kernels/cpu/ops.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

struct Shape {
    int n_heads, n_kv_heads, head_dim;
    int64_t window;
    DType type = DType::kF16;
};

// q, k, v of a sequence, as norm_qkv_rope hands them over, and rings for some slots.
struct Sequence {
    Shape shape;
    Matrix qkv;
    std::vector<char> memory;
    Ring ring;

    Sequence(Shape sh, int64_t n, int n_slots = 1) : shape(sh) {
        qkv = random_matrix(n, (sh.n_heads + 2 * sh.n_kv_heads) * sh.head_dim, 61);
        for (float& x : qkv.values) x = rounded(x * 1.5f, sh.type == DType::kQ8_0 ? DType::kF16 : sh.type);
        ring.n_rows = sh.window == 0 ? n : sh.window + kRingSlack;
        ring.window = sh.window;
        ring.n_kv_heads = sh.n_kv_heads;
        ring.head_dim = sh.head_dim;
        ring.type = sh.type;
        size_t half = static_cast<size_t>(sh.n_kv_heads) * ring.head_bytes();
        ring.slot_stride = static_cast<int64_t>(2 * half);
        memory.resize(static_cast<size_t>(n_slots) * 2 * half);
        ring.k = memory.data();
        ring.v = ring.k + half;
    }
    Qkv rows(Matrix& m) const {
        int64_t q = shape.n_heads * shape.head_dim, kv = shape.n_kv_heads * shape.head_dim;
        return {m.view().columns(0, q), m.view().columns(q, kv), m.view().columns(q + kv, kv)};
    }
    Matrix part(int64_t first, int64_t n) const {
        Matrix m(n, qkv.cols);
        std::copy_n(qkv.row(first), n * qkv.cols, m.row(0));
        return m;
    }
    // Rows first … first + n - 1 of the sequence as one run of a step.
    Matrix run(ThreadPool& pool, StepKind kind, int64_t first, int n) {
        Step s;
        s.kind = kind;
        s.runs = {{0, first, 0, n, false}};
        s.tokens.resize(static_cast<size_t>(n));
        Matrix m = part(first, n), y(n, shape.n_heads * shape.head_dim);
        AttentionScratch scratch;
        attention(pool, scratch, s, rows(m), ring, y.view());
        return y;
    }
    Matrix feed(ThreadPool& pool, StepKind kind, int64_t first, int64_t last, const std::vector<int>& chunks) {
        Matrix y(0, shape.n_heads * shape.head_dim);
        for (size_t i = 0; first < last; ++i) {
            int n = static_cast<int>(std::min<int64_t>(chunks[i % chunks.size()], last - first));
            Matrix part = run(pool, kind, first, n);
            y.values.insert(y.values.end(), part.values.begin(), part.values.end());
            y.rows += n;
            first += n;
        }
        return y;
    }
    // What attention must see: k and v as the ring's type holds them.
    double error(const Matrix& y, const std::vector<int64_t>& positions) const {
        int64_t nq = shape.n_heads * shape.head_dim, nkv = shape.n_kv_heads * shape.head_dim;
        Matrix q(qkv.rows, nq), k(qkv.rows, nkv), v(qkv.rows, nkv);
        std::vector<char> block(4 * static_cast<size_t>(nkv));
        for (int64_t i = 0; i < qkv.rows; ++i) {
            std::copy_n(qkv.row(i), nq, q.row(i));
            for (auto [m, at] : {std::pair{&k, nq}, std::pair{&v, nq + nkv}}) {
                quantize_row(shape.type, qkv.row(i) + at, block.data(), nkv);
                dequantize_row(shape.type, block.data(), m->row(i), nkv);
            }
        }
        std::vector<float> got;
        spec::Doubles expected;
        for (int64_t p : positions) {
            spec::Doubles e = spec::attention(q, k, v, shape.head_dim, shape.window, p);
            expected.insert(expected.end(), e.begin(), e.end());
            got.insert(got.end(), y.row(p), y.row(p) + nq);
        }
        return nmse(got, expected);
    }
};

// Only the last rounding of y to the ring's type separates it from the formula.
double tolerance(DType type) { return type == DType::kF32 ? kF32Nmse : type == DType::kBF16 ? 1e-5 : 1e-7; }

std::vector<int64_t> last_positions(int64_t n, int64_t count) {
    std::vector<int64_t> all;
    for (int64_t p = std::max<int64_t>(0, n - count); p < n; ++p) all.push_back(p);
    return all;
}

}  // namespace

TEST_CASE("decode and prefill are softmax(q k / sqrt(head_dim)) v over the window") {
    Shape shape = GENERATE(Shape{1, 1, 8, 1}, Shape{2, 2, 16, 63}, Shape{2, 1, 24, 64}, Shape{3, 3, 40, 65},
                           Shape{6, 2, 64, 100}, Shape{5, 1, 128, 17}, Shape{2, 1, 256, 70}, Shape{4, 2, 32, 0},
                           Shape{2, 2, 64, 100, DType::kF32}, Shape{2, 1, 72, 64, DType::kF32},
                           Shape{4, 2, 64, 100, DType::kBF16}, Shape{9, 1, 24, 40, DType::kBF16},
                           Shape{4, 2, 64, 100, DType::kQ8_0}, Shape{1, 1, 32, 65, DType::kQ8_0});
    const int64_t n = 300;
    for (Isa isa : isas()) {
        INFO(isa_name(isa) << ": " << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim
                           << ", window " << shape.window << ", " << info(shape.type).name);
        ThreadPool one(1, isa), two(2, isa), five(5, isa);
        {
            Sequence a(shape, n), b(shape, n), c(shape, n);
            Matrix y = a.feed(one, StepKind::kDecode, 0, n, {1});
            CHECK(a.error(y, last_positions(n, n)) < tolerance(shape.type));
            CHECK(b.feed(two, StepKind::kDecode, 0, n, {8, 3}) == y);
            CHECK(c.feed(five, StepKind::kDecode, 0, n, {7, 1, 2}) == y);
            CHECK(a.memory == b.memory);
        }
        {
            Sequence a(shape, n), b(shape, n), c(shape, n);
            Matrix y = a.feed(one, StepKind::kPrefill, 0, n, {static_cast<int>(n)});
            CHECK(a.error(y, last_positions(n, n)) < tolerance(shape.type));
            CHECK(b.feed(two, StepKind::kPrefill, 0, n, {1, 64, 5, 130}) == y);
            CHECK(c.feed(five, StepKind::kPrefill, 0, n, {63, 2}) == y);
        }
    }
}

TEST_CASE("the ring after a step holds the newest rows at position mod n_rows") {
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        Sequence a({2, 1, 16, 50}, 400), b = a, c = a;
        b.ring.k = b.memory.data();
        b.ring.v = b.ring.k + (a.ring.v - a.ring.k);
        c.ring.k = c.memory.data();
        c.ring.v = c.ring.k + (a.ring.v - a.ring.k);
        a.feed(pool, StepKind::kPrefill, 0, 400, {400});
        b.feed(pool, StepKind::kPrefill, 0, 400, {100});
        c.feed(pool, StepKind::kDecode, 0, 400, {1});
        CHECK(a.memory == b.memory);
        CHECK(a.memory == c.memory);
        const auto* row = reinterpret_cast<const uint16_t*>(a.ring.v) + 399 % 114 * 16;
        for (int d = 0; d < 16; ++d) CHECK(f16_to_f32(row[d]) == a.qkv.row(399)[48 + d]);
    }
}

TEST_CASE("a window of 2048 across the ring's wrap, after a prefill and at each kind of step") {
    Shape shape{2, 1, 16, 2048, DType::kF32};
    const int64_t n = 2048 + 64 + 500;
    for (Isa isa : isas()) {
        INFO(isa_name(isa));
        ThreadPool pool(2, isa);
        Sequence a(shape, n), b(shape, n);
        Matrix y = a.feed(pool, StepKind::kPrefill, 0, n, {512});
        std::vector<int64_t> some = {0, 511, 2046, 2047, 2048, 2111, 2112, 2113, 2500, n - 1};
        CHECK(a.error(y, some) < kF32Nmse);
        Matrix head = b.feed(pool, StepKind::kPrefill, 0, 2100, {512});
        Matrix tail = b.feed(pool, StepKind::kDecode, 2100, 2300, {1, 5});
        head.values.insert(head.values.end(), tail.values.begin(), tail.values.end());
        head.rows += tail.rows;
        std::vector<int64_t> decoded = {2100, 2111, 2112, 2113, 2299};
        CHECK(b.error(head, decoded) < kF32Nmse);
    }
}

TEST_CASE("a window off by one is caught") {  // the tolerance of these tests is worth something
    Sequence a({1, 1, 16, 64, DType::kF32}, 200);
    ThreadPool pool(1, Isa::kPortable);
    Matrix y = a.feed(pool, StepKind::kDecode, 0, 200, {1});
    a.shape.window = 65;
    CHECK(a.error(y, last_positions(200, 100)) > 1e-5);
}

TEST_CASE("going back up to 7 tokens needs nothing that the ring has lost") {
    for (Isa isa : isas()) {
        ThreadPool pool(2, isa);
        for (int64_t window : {1, 50, 64}) {
            Sequence a({2, 2, 16, window}, 400);
            Matrix y = a.feed(pool, StepKind::kDecode, 0, 400, {8, 1});
            for (int back = 1; back <= 7; ++back) {
                INFO(isa_name(isa) << ", window " << window << ", back by " << back);
                Matrix again = a.feed(pool, StepKind::kDecode, 400 - back, 400, {1});
                CHECK(std::memcmp(again.row(0), y.row(400 - back), again.values.size() * sizeof(float)) == 0);
            }
        }
    }
}

TEST_CASE("runs of a step are sequences of their own, on any number of threads") {
    StepKind kind = GENERATE(StepKind::kDecode, StepKind::kPrefill);
    for (Isa isa : isas()) {
        Sequence alone({4, 2, 32, 90}, 260), together({4, 2, 32, 90}, 260, 3);
        ThreadPool one(1, isa), four(4, isa);
        Matrix y = alone.feed(one, kind, 0, 260, {kind == StepKind::kDecode ? 1 : 260});
        int64_t position[3] = {0, 0, 0};
        int pace[3] = {8, 3, 5};
        while (position[1] < 240) {
            Step s;
            s.kind = kind;
            std::vector<int64_t> source;
            for (int slot : {1, 2, 0}) {
                int rows = static_cast<int>(std::min<int64_t>(pace[slot], 260 - position[slot]));
                if (rows == 0) continue;
                s.runs.push_back({slot, position[slot], static_cast<int>(source.size()), rows, false});
                for (int i = 0; i < rows; ++i) source.push_back(position[slot]++);
            }
            s.tokens.resize(source.size());
            Matrix in(static_cast<int64_t>(source.size()), y.cols * 2), out(in.rows, y.cols);
            for (int64_t i = 0; i < in.rows; ++i) {
                std::copy_n(together.qkv.row(source[static_cast<size_t>(i)]), in.cols, in.row(i));
            }
            AttentionScratch scratch;
            attention(four, scratch, s, together.rows(in), together.ring, out.view());
            bool same = true;
            for (int64_t i = 0; i < in.rows; ++i) {
                const float* expected = y.row(source[static_cast<size_t>(i)]);
                same = same && std::memcmp(out.row(i), expected, static_cast<size_t>(y.cols) * sizeof(float)) == 0;
            }
            INFO(isa_name(isa) << ", position " << position[1]);
            REQUIRE(same);
        }
    }
}

TEST_CASE("full attention over many blocks: decode segments of every level") {
    // 64 single blocks, then pairs: rows beyond 4096 lie in segments of two blocks.
    Shape shape{1, 1, 8, 0, DType::kF32};
    const int64_t n = 4600;
    for (Isa isa : isas()) {
        INFO(isa_name(isa));
        ThreadPool one(1, isa), three(3, isa);
        Sequence a(shape, n), b(shape, n);
        a.feed(one, StepKind::kPrefill, 0, n - 6, {512});
        b.feed(three, StepKind::kPrefill, 0, n - 6, {500});
        Matrix tail = a.feed(one, StepKind::kDecode, n - 6, n, {1});
        CHECK(b.feed(three, StepKind::kDecode, n - 6, n, {6}) == tail);
        Matrix y(n, 8);
        std::copy(tail.values.begin(), tail.values.end(), y.row(n - 6));
        CHECK(a.error(y, last_positions(n, 6)) < kF32Nmse);
    }
}

TEST_CASE("a Q8_0 ring holds the blocks that quantize_row makes") {
    for (Isa isa : isas()) {
        ThreadPool pool(1, isa);
        Sequence a({1, 1, 64, 10, DType::kQ8_0}, 60);
        for (int i = 0; i < 64; ++i)
            a.qkv.row(7)[64 + i] = i == 40 ? 6e-8f : 0.0f;  // a scale that rounds to 0, and zeros
        for (int64_t t = 0; t < 60; ++t) a.run(pool, t < 30 ? StepKind::kPrefill : StepKind::kDecode, t, 1);
        std::vector<char> row(row_bytes(DType::kQ8_0, 64));
        bool same = true;
        for (int64_t t = 0; t < 60; ++t) {
            quantize_row(DType::kQ8_0, a.qkv.row(t) + 64, row.data(), 64);
            same = same && std::memcmp(row.data(), a.ring.k + t * static_cast<int64_t>(row.size()), row.size()) == 0;
            quantize_row(DType::kQ8_0, a.qkv.row(t) + 128, row.data(), 64);
            same = same && std::memcmp(row.data(), a.ring.v + t * static_cast<int64_t>(row.size()), row.size()) == 0;
        }
        INFO(isa_name(isa));
        CHECK(same);
    }
}
