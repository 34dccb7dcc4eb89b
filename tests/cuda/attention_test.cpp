// Attention over the ring, both kinds of step: against the formula over the whole sequence, windows of all sizes, the
// ring's wrap, any chunks, several sequences, all types of ring and sizes of head.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/cuda/rig.h"
#include "tests/kernels/spec.h"

using namespace samba;
using namespace samba::test;

namespace {

struct Shape {
    int n_heads, n_kv_heads, head_dim;
    int64_t window;
    DType ring;
    bool f32 = false;  // activations
};

struct Sequence {
    Shape shape;
    Matrix qkv;
    DType type;  // of q, k, v
    Ring ring;
    View rows, y;

    Sequence(Rig& rig, Shape sh, int64_t n, int n_slots) : shape(sh) {
        const DType values = sh.ring == DType::kQ8_0 ? DType::kF16 : sh.ring;
        type = sh.f32 ? DType::kF32 : values;
        qkv = rounded(random_matrix(n, (sh.n_heads + 2 * sh.n_kv_heads) * sh.head_dim, 61, 1.5f), values);
        ring.n_rows = sh.window == 0 ? n : sh.window + kRingSlack;
        ring.window = sh.window;
        ring.n_kv_heads = sh.n_kv_heads;
        ring.head_dim = sh.head_dim;
        ring.type = sh.ring;
        const size_t half = (static_cast<size_t>(sh.n_kv_heads) * ring.head_bytes() + 255) / 256 * 256;
        ring.slot_stride = static_cast<int64_t>(2 * half);
        ring.k = rig.bytes(static_cast<size_t>(n_slots) * 2 * half);
        ring.v = ring.k + half;
        rows = rig.put(qkv, type);
        y = rig.matrix(n, sh.n_heads * sh.head_dim, rig.act());
    }
    Qkv part(int64_t first, int64_t n) const {
        const View v = rows.slice(first, n);
        const int64_t q = shape.n_heads * shape.head_dim, kv = shape.n_kv_heads * shape.head_dim;
        return {v.columns(0, q), v.columns(q, kv), v.columns(q + kv, kv)};
    }
    void feed(Rig& rig, int slot, StepKind kind, int64_t first, int64_t last, const std::vector<int>& chunks) {
        for (size_t i = 0; first < last; ++i) {
            const int n = static_cast<int>(std::min<int64_t>(chunks[i % chunks.size()], last - first));
            rig->attention(step_of(kind, slot, first, n), part(first, n), ring, y.slice(first, n));
            first += n;
        }
    }
    // nmse of y at those positions; k and v as the ring holds them.
    double error(Rig& rig, const std::vector<int64_t>& positions) const {
        const int64_t nq = shape.n_heads * shape.head_dim, nkv = shape.n_kv_heads * shape.head_dim;
        Matrix q(qkv.rows, nq), k(qkv.rows, nkv), v(qkv.rows, nkv);
        std::vector<char> block(4 * static_cast<size_t>(nkv));
        for (int64_t i = 0; i < qkv.rows; ++i) {
            std::copy_n(qkv.row(i), nq, q.row(i));
            for (auto [m, at] : {std::pair{&k, nq}, std::pair{&v, nq + nkv}}) {
                quantize_row(shape.ring, qkv.row(i) + at, block.data(), nkv);
                dequantize_row(shape.ring, block.data(), m->row(i), nkv);
            }
        }
        const Matrix got = rig.get(y);
        std::vector<float> some;
        spec::Doubles expected;
        for (const int64_t p : positions) {
            const spec::Doubles e = spec::attention(q, k, v, shape.head_dim, shape.window, p);
            expected.insert(expected.end(), e.begin(), e.end());
            some.insert(some.end(), got.row(p), got.row(p) + nq);
        }
        return nmse(some, expected);
    }
};

// y is rounded to the activations' type (and in f32 to the ring's); on tensor cores so are the weights of the values.
double tolerance(const Shape& s) {
    const bool bf16 = !s.f32 || s.ring == DType::kBF16;
    const double result = s.f32 ? (s.ring == DType::kF32 ? kF32 : s.ring == DType::kBF16 ? kBf16 : 2 * kF16) : kBf16;
    return result + (bf16 && s.ring == DType::kBF16 ? kBf16 : 0);
}

std::vector<int64_t> some_positions(int64_t n) {
    std::vector<int64_t> all;
    for (int64_t p = 0; p < n; p += 7) all.push_back(p);
    for (int64_t p = n - 12; p < n; ++p) all.push_back(p);
    return all;
}

const Shape kShapes[] = {
    {4, 4, 64, 100, DType::kF16},       {6, 2, 128, 70, DType::kF16},        {11, 1, 256, 65, DType::kF16},
    {8, 2, 64, 64, DType::kBF16},       {2, 1, 128, 129, DType::kBF16},      {3, 1, 40, 63, DType::kF16},
    {2, 2, 8, 1, DType::kF16},          {4, 2, 96, 100, DType::kQ8_0},       {4, 1, 64, 0, DType::kF16},
    {2, 2, 64, 100, DType::kF32, true}, {5, 1, 256, 90, DType::kF32, true},  {2, 1, 72, 0, DType::kF32, true},
    {4, 2, 64, 80, DType::kF16, true},  {3, 3, 128, 33, DType::kBF16, true},
};

std::string name_of(const Shape& s) {
    return std::to_string(s.n_heads) + "/" + std::to_string(s.n_kv_heads) + " heads of " + std::to_string(s.head_dim) +
           ", window " + std::to_string(s.window) + ", " + info(s.ring).name + (s.f32 ? ", f32" : "");
}

}  // namespace

TEST_CASE("prefill and decode are softmax(q k / sqrt(head_dim)) v over the window", "[op]") {
    const Shape shape = GENERATE(from_range(std::begin(kShapes), std::end(kShapes)));
    INFO(name_of(shape));
    const int64_t n = 420;
    Rig rig(shape.f32);
    for (const StepKind kind : {kPrefill, kDecode}) {
        const std::vector<int> chunks =
            kind == kPrefill ? std::vector<int>{200, 1, 130, 17} : std::vector<int>{1, 8, 3};
        Sequence s(rig, shape, n, 2);
        s.feed(rig, 1, kind, 0, n, chunks);
        CHECK(s.error(rig, some_positions(n)) < tolerance(shape));
        Sequence mixed(rig, shape, n, 2);  // the ring that one kind leaves serves the other
        mixed.feed(rig, 0, kind, 0, n - 20, chunks);
        mixed.feed(rig, 0, kind == kPrefill ? kDecode : kPrefill, n - 20, n, {4});
        CHECK(mixed.error(rig, some_positions(n)) < tolerance(shape));
    }
}

TEST_CASE("a decode row has the same bits alone and among others", "[op]") {
    const Shape shape = GENERATE(Shape{8, 2, 64, 100, DType::kF16}, Shape{11, 1, 256, 70, DType::kF16},
                                 Shape{4, 4, 128, 100, DType::kF16}, Shape{2, 1, 64, 0, DType::kF32, true});
    Rig rig(shape.f32);
    Sequence s(rig, shape, 300, 3);
    s.feed(rig, 0, kPrefill, 0, 200, {200});
    s.feed(rig, 1, kPrefill, 0, 200, {200});
    s.feed(rig, 2, kPrefill, 0, 200, {200});
    s.feed(rig, 0, kDecode, 200, 208, {1});
    const Matrix one = rig.get(s.y.slice(200, 8));
    s.feed(rig, 1, kDecode, 200, 208, {8});
    CHECK(rig.get(s.y.slice(200, 8)) == one);
    // Two sequences in one step: rows 208 … 209 of slot 0 (position 208) and row 210 as slot 1's position 208.
    s.feed(rig, 0, kDecode, 208, 209, {1});
    const Matrix next = rig.get(s.y.slice(208, 1));
    rig->attention(
        step_of(kDecode, {{2, 200, 0, 2, false}, {1, 208, 0, 1, false}}),
        [&] {
            Matrix rows(3, s.qkv.cols);
            std::copy_n(s.qkv.row(200), 2 * s.qkv.cols, rows.row(0));
            std::copy_n(s.qkv.row(208), s.qkv.cols, rows.row(2));
            rig.write(rows, s.rows.slice(0, 3));
            return s.part(0, 3);
        }(),
        s.ring, s.y.slice(0, 3));
    const Matrix got = rig.get(s.y.slice(0, 3));
    CHECK(std::equal(got.row(0), got.row(2), one.row(0)));
    CHECK(std::equal(got.row(2), got.row(2) + got.cols, next.row(0)));
}

TEST_CASE("after going back the same rows give the same again", "[op]") {
    const Shape shape{4, 2, 64, 100, DType::kF16};
    Rig rig;
    Sequence s(rig, shape, 400, 1);
    s.feed(rig, 0, kPrefill, 0, 300, {150});
    s.feed(rig, 0, kDecode, 300, 340, {1});
    const Matrix y = rig.get(s.y.slice(320, 20));
    for (int64_t back : {7, 20, 60}) {
        s.feed(rig, 0, kDecode, 340, 360, {8});  // other rows go on …
        s.feed(rig, 0, kDecode, std::max<int64_t>(300, 360 - back), 360, {1});
        s.feed(rig, 0, kDecode, 320, 340, {1});  // … and the first are fed again
        CHECK(rig.get(s.y.slice(320, 20)) == y);
    }
}

TEST_CASE("several prompts in one prefill are those of each alone", "[op]") {
    const Shape shape = GENERATE(Shape{4, 2, 64, 100, DType::kF16}, Shape{2, 1, 256, 70, DType::kF16},
                                 Shape{2, 1, 40, 70, DType::kF32, true});
    Rig rig(shape.f32);
    Sequence s(rig, shape, 400, 6);
    const int rows[] = {5, 260, 130};
    std::vector<Run> runs;
    int64_t first = 0;
    for (int i = 0; i < 3; ++i) {
        rig->attention(step_of(kPrefill, i, 0, rows[i]), s.part(first, rows[i]), s.ring, s.y.slice(first, rows[i]));
        runs.push_back({3 + i, 0, 0, rows[i], false});
        first += rows[i];
    }
    const Matrix y = rig.get(s.y.slice(0, first));
    rig->attention(step_of(kPrefill, runs), s.part(0, first), s.ring, s.y.slice(0, first));
    CHECK(rig.get(s.y.slice(0, first)) == y);
    std::vector<char> a(static_cast<size_t>(s.ring.slot_stride) * 3), b(a.size());
    rig->read(a.data(), s.ring.k, a.size());
    rig->read(b.data(), s.ring.k + 3 * s.ring.slot_stride, b.size());
    CHECK(a == b);
}
