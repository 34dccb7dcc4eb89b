// The layout of a sequence's state: parts do not overlap, and a snapshot takes what the next token can read, in order.
#include <catch2/catch.hpp>

#include "kernels/state.h"
#include "models/state.h"

using namespace samba;

namespace {

Config two_blocks(int64_t window) {
    Config c;
    c.d_model = 64, c.d_inner = 128, c.d_state = 16, c.d_conv = 4, c.dt_rank = 4;
    c.blocks.resize(2);
    c.blocks[0].mixer = Mixer::kMamba;
    c.blocks[1] = {
        .mixer = Mixer::kAttention, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .window = window, .rope_dim = 16};
    return c;
}

std::vector<std::pair<size_t, size_t>> parts(const StateLayout& layout, int64_t position) {
    std::vector<std::pair<size_t, size_t>> all;
    layout.for_each_part(position, [&](size_t offset, size_t bytes) { all.emplace_back(offset, bytes); });
    return all;
}

}  // namespace

TEST_CASE("a slot holds eight planes of conv and SSM state and a ring of window + 64 rows") {
    StateLayout layout = state_layout(two_blocks(100), DType::kF16, 8, 0);
    REQUIRE(layout.planes.size() == 2);
    CHECK(layout.planes[0].plane_bytes == 128 * 3 * 4);
    CHECK(layout.planes[1].plane_bytes == 128 * 16 * 4);
    CHECK(layout.planes[1].offset >= 8 * layout.planes[0].plane_bytes);
    REQUIRE(layout.rings.size() == 1);
    CHECK(layout.rings[0].n_rows == 164);
    CHECK(layout.rings[0].values_offset() - layout.rings[0].offset == 2 * 164 * 16 * 2);
    CHECK(layout.slot_bytes >= layout.rings[0].values_offset() + 2 * 164 * 16 * 2);
}

TEST_CASE("a snapshot holds the plane of the last token and the visible rows, oldest first") {
    StateLayout layout = state_layout(two_blocks(100), DType::kF16, 8, 0);
    size_t row = 16 * 2;
    auto at_zero = parts(layout, 0);
    REQUIRE(at_zero.size() == 2);  // no rows yet
    CHECK(at_zero[1].first == layout.planes[1].offset + 7 * layout.planes[1].plane_bytes);

    auto at_13 = parts(layout, 13);
    REQUIRE(at_13.size() == 2 + 4);  // K and V of two heads
    CHECK(at_13[0].first == layout.planes[0].offset + 4 * layout.planes[0].plane_bytes);
    CHECK(at_13[2] == std::pair(layout.rings[0].offset, 13 * row));
    CHECK(at_13[3] == std::pair(layout.rings[0].offset + 164 * row, 13 * row));

    auto wrapped = parts(layout, 164 + 30);  // rows 94 … 163, then 0 … 29
    REQUIRE(wrapped.size() == 2 + 8);
    CHECK(wrapped[2] == std::pair(layout.rings[0].offset + 94 * row, 70 * row));
    CHECK(wrapped[3] == std::pair(layout.rings[0].offset, 30 * row));
    CHECK(layout.snapshot_bytes(164 + 30) == layout.snapshot_bytes(1'000'000'007));
}

TEST_CASE("convolutions of q, k and v have planes, in block order") {
    Config c = two_blocks(100);
    c.blocks[1].conv_width = 4;
    c.blocks.push_back(c.blocks[0]);
    StateLayout layout = state_layout(c, DType::kF16, 8, 0);
    REQUIRE(layout.planes.size() == 5);
    CHECK(layout.planes[2].plane_bytes == (4 + 2 * 2) * 16 * 3 * 4);
    CHECK(layout.planes[2].offset >= layout.planes[1].offset + 8 * layout.planes[1].plane_bytes);
    CHECK(layout.planes[3].plane_bytes == 128 * 3 * 4);
    CHECK(layout.rings[0].offset >= layout.planes[4].offset + 8 * layout.planes[4].plane_bytes);
}

TEST_CASE("a mega has a ring of chunk + 64 rows, and a snapshot holds the rows of the current chunk") {
    Config c = two_blocks(100);
    c.d_inner = 64;
    c.blocks[0] = {.mixer = Mixer::kMega, .n_heads = 1, .head_dim = 8, .rope_dim = 8, .value_dim = 64, .chunk = 50};
    StateLayout layout = state_layout(c, DType::kQ8_0, 8, 0);  // its ring stays f16
    REQUIRE(layout.planes.size() == 2);
    REQUIRE(layout.rings.size() == 2);
    CHECK(layout.rings[0].n_rows == 114);
    CHECK(layout.rings[0].row_bytes == 16 * 2);
    CHECK(layout.rings[0].value_row_bytes == 64 * 2);
    CHECK(layout.rings[1].offset >= layout.rings[0].end());
    CHECK(parts(layout, 0).size() == 2);
    CHECK(parts(layout, 100).size() == 2 + 4);  // the chunk is full: the next token sees itself alone
    auto wrapped = parts(layout, 149);          // positions 100 … 148: rows 100 … 113, then 0 … 34
    REQUIRE(wrapped.size() == 2 + 4 + 4);
    CHECK(wrapped[2] == std::pair(layout.rings[0].offset + 100 * 32, size_t{14 * 32}));
    CHECK(wrapped[3] == std::pair(layout.rings[0].offset, size_t{35 * 32}));
    CHECK(wrapped[4] == std::pair(layout.rings[0].values_offset() + 100 * 128, size_t{14 * 128}));
}

TEST_CASE("full attention keeps every row up to the longest context") {
    StateLayout layout = state_layout(two_blocks(0), DType::kF32, 1, 4096);
    CHECK(layout.rings[0].n_rows >= 4096);
    CHECK(layout.snapshot_bytes(4000) - layout.snapshot_bytes(3000) == 1000u * 2 * 2 * 16 * 4);
    CHECK(static_cast<int64_t>(layout.slot_bytes) < 2 * layout.rings[0].n_rows * 2 * 16 * 4 + (1 << 16));
}
