#include <catch2/catch.hpp>

#include "engine/snapshots.h"

using namespace samba;

namespace {

constexpr size_t kTokens = 250;  // 1000 bytes each

Snapshot of_position(int64_t position) {
    Snapshot s;
    s.position = position;
    s.tokens.resize(kTokens);
    return s;
}

std::vector<int64_t> borders(const Snapshots& snapshots, int64_t last) {
    std::vector<int64_t> kept;
    for (int64_t b = 0; b <= last; ++b) {
        if (snapshots.at_or_before(b).snapshot && snapshots.at_or_before(b).border == b) kept.push_back(b);
    }
    return kept;
}

}  // namespace

TEST_CASE("within their bytes all snapshots stay", "[snapshots]") {
    Snapshots snapshots(5000);
    for (int64_t b = 0; b < 5; ++b) snapshots.add(b, of_position(10 * b));
    CHECK(snapshots.bytes() == 5000);
    CHECK(borders(snapshots, 4) == std::vector<int64_t>{0, 1, 2, 3, 4});
    CHECK(snapshots.at_or_before(3).snapshot->position == 30);
}

TEST_CASE("beyond their bytes every second old one goes", "[snapshots]") {
    Snapshots snapshots(6000);
    for (int64_t b = 0; b < 7; ++b) snapshots.add(b, of_position(b));
    CHECK(borders(snapshots, 6) == std::vector<int64_t>{0, 2, 4, 5, 6});
    CHECK(snapshots.at_or_before(3).border == 2);
    for (int64_t b = 7; b < 1000; ++b) {
        snapshots.add(b, of_position(b));
        REQUIRE(snapshots.bytes() <= 6000);
        REQUIRE(snapshots.at_or_before(b).border == b);
        REQUIRE(snapshots.at_or_before(b - 1).border == b - 1);
    }
    CHECK(borders(snapshots, 999).front() == 0);  // the begin stays longest
}

TEST_CASE("the last two stay however little room there is", "[snapshots]") {
    Snapshots snapshots(0);
    for (int64_t b = 0; b < 10; ++b) snapshots.add(b, of_position(b));
    CHECK(borders(snapshots, 9) == std::vector<int64_t>{8, 9});
    CHECK(snapshots.at_or_before(7).snapshot == nullptr);
}

TEST_CASE("going back drops what came after", "[snapshots]") {
    Snapshots snapshots(100000);
    for (int64_t b = 0; b < 10; ++b) snapshots.add(b, of_position(b));
    snapshots.drop_after(4);
    CHECK(borders(snapshots, 9) == std::vector<int64_t>{0, 1, 2, 3, 4});
    snapshots.add(5, of_position(50));
    CHECK(snapshots.at_or_before(99).snapshot->position == 50);
}
