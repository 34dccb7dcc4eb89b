#include <catch2/catch.hpp>

#include "engine/stop_filter.h"

using namespace samba;

TEST_CASE("text without a stop text passes through unchanged") {
    StopFilter filter({"END", "\n\n"});
    std::string shown;
    for (const char* piece : {"an E", "N", "d, E", "NE", "ND ", "\n", "x"}) shown += filter.push(piece);
    CHECK(shown == "an ENd, EN");
    CHECK(filter.found() == "END");
}

TEST_CASE("what may become a stop text is held back until it cannot") {
    StopFilter filter({"abc"});
    CHECK(filter.push("xab") == "x");
    CHECK(filter.push("ab") == "ab");
    CHECK(filter.push("d") == "abd");
    CHECK(filter.push("a") == "");
    CHECK(filter.finish() == "a");
    CHECK_FALSE(filter.found());
}

TEST_CASE("the earliest stop text wins") {
    StopFilter filter({"world", "lo"});
    CHECK(filter.push("hello world") == "hel");
    CHECK(filter.found() == "lo");
    CHECK(StopFilter({"", "xy"}).longest() == 2);
}
