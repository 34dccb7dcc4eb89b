// A session's state depends on the tokens fed alone: not on how they were split, saved, forked or gone back over.
#include <catch2/catch.hpp>

#include "engine/session.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;

namespace {

// The logits after one more token: they show every bit of the state that matters.
std::vector<float> probe(Session& session, int32_t id = 1234) {
    std::vector<float> row;
    session.feed_with_logits(std::span(&id, 1),
                             [&](int64_t, std::span<const float> l) { row.assign(l.begin(), l.end()); });
    return row;
}

}  // namespace

TEST_CASE("any split of a prompt gives the same bits, across chunk and window borders") {
    Engine engine(tiny_options(2));
    std::vector<int32_t> ids = some_ids(3000);
    Session whole(engine), split(engine);
    whole.feed(ids);
    size_t at = 0;
    for (size_t n : {1, 7, 511, 513, 64, 900}) {
        split.feed(std::span(ids).subspan(at, n));
        at += n;
    }
    split.feed(std::span(ids).subspan(at));
    REQUIRE(split.position() == 3000);
    CHECK(probe(whole) == probe(split));
}

TEST_CASE("a fork of a snapshot goes on with the same bits, and the original is undisturbed") {
    Engine engine(tiny_options(2));
    Session session(engine), fork(engine);
    session.feed(some_ids(2500));
    Snapshot snapshot = session.snapshot();
    fork.feed(some_ids(100, 9));  // leftovers in the slot must not matter
    fork.restore(snapshot);
    session.feed(some_ids(600, 2));
    fork.feed(some_ids(600, 2));
    std::vector<float> expected = probe(session);
    CHECK(probe(fork) == expected);
    fork.restore(snapshot);
    fork.feed(some_ids(600, 3));
    CHECK(probe(fork) != expected);
}

TEST_CASE("a reset session is a fresh one") {
    Engine engine(tiny_options(2));
    Session used(engine), fresh(engine);
    used.feed(some_ids(700));
    used.reset();
    CHECK(used.position() == 0);
    used.feed(some_ids(20, 5));
    fresh.feed(some_ids(20, 5));
    CHECK(probe(used) == probe(fresh));
}

TEST_CASE("going back up to seven tokens is exact; farther is refused") {
    Engine engine(tiny_options(2));
    std::vector<int32_t> ids = some_ids(530);
    for (int n = 1; n <= 7; ++n) {
        Session there_and_back(engine), straight(engine);
        there_and_back.feed(ids);
        REQUIRE(there_and_back.can_go_back(n));
        there_and_back.go_back(n);
        straight.feed(std::span(ids).first(ids.size() - static_cast<size_t>(n)));
        CHECK(there_and_back.position() == straight.position());
        CHECK(probe(there_and_back) == probe(straight));
    }
    Session session(engine);
    session.feed(ids);
    CHECK_FALSE(session.can_go_back(8));
    CHECK_THROWS_AS(session.go_back(8), Error);
    session.restore(session.snapshot());  // a snapshot has one plane
    CHECK_FALSE(session.can_go_back(1));
    session.feed(std::span(ids).first(3));
    CHECK(session.can_go_back(3));
    CHECK_FALSE(session.can_go_back(4));
}

TEST_CASE("a state's size does not depend on the position") {
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(2048));
    size_t at_window = session.snapshot().state->bytes();
    session.feed(some_ids(5000));
    CHECK(session.snapshot().state->bytes() == at_window);
}

TEST_CASE("a feed that is told to stop keeps what was fed") {
    Engine engine(tiny_options());
    Session session(engine);
    std::vector<int32_t> ids = some_ids(2000);
    int64_t fed = session.feed(ids, [](int64_t n) { return n < 1000; });
    CHECK(fed == session.position());
    CHECK(fed >= 1000);
    CHECK(fed < 2000);
}

TEST_CASE("there are as many sessions as slots") {
    Engine engine(tiny_options(1));
    auto session = std::make_unique<Session>(engine);
    CHECK_THROWS_AS(Session(engine), Error);
    session.reset();
    CHECK_NOTHROW(Session(engine));
}
