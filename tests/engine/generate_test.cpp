// The laws of the generation loop: what splits, resumes, runs ahead or goes along in a batch changes no text.
#include <catch2/catch.hpp>

#include "engine/generate.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;

namespace {

GenerateOptions sampled(int64_t max_tokens) {
    GenerateOptions options;
    options.max_tokens = max_tokens;
    options.sampling.seed = 42;
    options.sampling.repeat_penalty = 1.1f;
    return options;
}

std::vector<float> next_logits(Session& session) {
    std::vector<float> row;
    int32_t id = 777;
    session.feed_with_logits(std::span(&id, 1),
                             [&](int64_t, std::span<const float> l) { row.assign(l.begin(), l.end()); });
    return row;
}

}  // namespace

TEST_CASE("the same seed gives the same tokens, another seed others") {
    Engine engine(tiny_options(3));
    Session a(engine), b(engine), c(engine);
    std::vector<int32_t> prompt = some_ids(40);
    GenerateOptions other = sampled(30);
    other.sampling.seed = 43;
    std::vector<int32_t> first = generate(a, prompt, sampled(30)).ids;
    CHECK(first.size() == 30);
    CHECK(generate(b, prompt, sampled(30)).ids == first);
    CHECK(generate(c, prompt, other).ids != first);
}

TEST_CASE("a generation in two parts is the generation in one") {
    Engine engine(tiny_options(2));
    Session one(engine), two(engine);
    std::vector<int32_t> prompt = some_ids(40);
    std::vector<int32_t> whole = generate(one, prompt, sampled(30)).ids;
    std::vector<int32_t> parts = generate(two, prompt, sampled(13)).ids;
    CHECK(two.pending()->id == parts.back());
    Snapshot snapshot = two.snapshot();
    two.feed(some_ids(100));
    two.restore(snapshot);
    std::vector<int32_t> rest = generate(two, {}, sampled(17)).ids;
    parts.insert(parts.end(), rest.begin(), rest.end());
    CHECK(parts == whole);
}

TEST_CASE("a prompt read before, its last token held, goes on like the prompt itself") {
    Engine engine(tiny_options(3));
    std::vector<int32_t> prompt = some_ids(700);
    Session whole(engine), held(engine), zero(engine);
    std::vector<int32_t> expected = generate(whole, prompt, sampled(20)).ids;
    held.feed_holding_last(std::span(prompt).first(300));
    held.feed_holding_last(std::span(prompt).subspan(300));
    CHECK(generate(held, {}, sampled(20)).ids == expected);
    CHECK(generate(zero, prompt, sampled(0)).ids.empty());
    CHECK(zero.pending()->id == prompt.back());
    CHECK(generate(zero, {}, sampled(20)).ids == expected);
}

TEST_CASE("running ahead changes neither the text nor the state it leaves") {
    Engine ahead_engine(tiny_options(1, 3)), engine(tiny_options(1));
    Session ahead(ahead_engine), plain(engine);
    std::vector<int32_t> prompt = some_ids(600);
    std::vector<int32_t> expected = generate(plain, prompt, sampled(25)).ids;
    CHECK(generate(ahead, prompt, sampled(25)).ids == expected);
    CHECK(ahead.position() == plain.position());

    GenerateOptions until = sampled(-1);  // ended by a token in the middle of what runs ahead
    until.sampling.seed = 5;
    std::vector<int32_t> trial = generate(plain, some_ids(5, 3), until.sampling.seed ? sampled(12) : until).ids;
    until.sampling.seed = 42;
    until.end_ids = {trial[9]};
    plain.reset();
    generate(plain, prompt, sampled(25));
    Reply a = generate(ahead, some_ids(5, 3), until), b = generate(plain, some_ids(5, 3), until);
    CHECK(a.ids == b.ids);
    CHECK(a.finish == FinishReason::kStop);
    CHECK(ahead.pending()->id == trial[9]);
    CHECK(next_logits(ahead) == next_logits(plain));
}

TEST_CASE("many at once give the texts of each alone") {
    Engine engine(tiny_options(5));
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Request> requests;
    for (int i = 0; i < 5; ++i) {
        sessions.push_back(std::make_unique<Session>(engine));
        GenerateOptions options = sampled(8 + 5 * i);
        options.sampling.seed = static_cast<uint64_t>(i);
        requests.push_back({sessions.back().get(), some_ids(3 + 50 * i, static_cast<uint32_t>(i)), options, {}});
    }
    std::vector<Reply> replies = generate_many(requests);
    for (int i = 0; i < 5; ++i) {
        sessions[static_cast<size_t>(i)]->reset();
        Reply alone = generate(*sessions[static_cast<size_t>(i)], requests[static_cast<size_t>(i)].prompt,
                               requests[static_cast<size_t>(i)].options);
        CHECK(replies[static_cast<size_t>(i)].ids == alone.ids);
    }
}

TEST_CASE("a stop text is not shown, and the state is that of the text shown") {
    for (int run_ahead : {0, 3}) {
        Engine engine(tiny_options(2, run_ahead));
        const Tokenizer& tokenizer = engine.tokenizer();
        Session session(engine), other(engine);
        std::vector<int32_t> prompt = some_ids(30);
        Reply free = generate(session, prompt, sampled(40));
        REQUIRE(free.text.size() > 80);
        for (size_t length : {2, 5, 30}) {  // within a token, across two, farther than the planes reach
            size_t at = 40;
            GenerateOptions options = sampled(40);
            options.stop = {"never there", free.text.substr(at, length)};
            size_t expected = free.text.find(options.stop[1]);
            session.reset();
            Reply cut = generate(session, prompt, options);
            CHECK(cut.text == free.text.substr(0, expected));
            CHECK(cut.finish == FinishReason::kStop);
            CHECK(cut.stop == options.stop[1]);
            CHECK_FALSE(session.pending());

            other.reset();  // the state: the prompt, the whole tokens, the rest of the text
            std::string whole = tokenizer.decode(cut.ids, false);
            other.feed(prompt);
            for (int32_t id : cut.ids)
                other.feed_with_logits(
                    std::span(&id, 1), [](int64_t, std::span<const float>) {}, StepKind::kDecode);
            other.feed(tokenizer.encode_continuation(cut.text.substr(whole.size())));
            CHECK(session.position() == other.position());
            CHECK(next_logits(session) == next_logits(other));
        }
    }
}

TEST_CASE("the callback's false ends the reply after the token shown") {
    Engine engine(tiny_options());
    Session session(engine);
    int shown = 0;
    Reply reply =
        generate(session, some_ids(10), sampled(50), [&](const TokenEvent& e) { return e.id < 0 || ++shown < 5; });
    CHECK(reply.finish == FinishReason::kInterrupted);
    CHECK(reply.ids.size() == 5);
    CHECK(session.position() == 10 + 4);
    CHECK(session.pending()->id == reply.ids.back());
}

TEST_CASE("an interrupt while reading the prompt keeps what was read") {
    Engine engine(tiny_options());
    Session session(engine);
    Reply reply = generate(session, some_ids(3000), sampled(5), {}, [](int64_t n) { return n < 1024; });
    CHECK(reply.finish == FinishReason::kInterrupted);
    CHECK(reply.ids.empty());
    CHECK(session.position() == 1024);
}

TEST_CASE("end tokens are never drawn with ignore_eos, and nothing to go on from is said") {
    Engine engine(tiny_options());
    Session session(engine);
    CHECK_THROWS_AS(generate(session, {}, sampled(5)), UsageError);
    std::vector<int32_t> prompt = some_ids(10);
    std::vector<int32_t> ids = generate(session, prompt, sampled(6)).ids;
    GenerateOptions options = sampled(6);
    options.end_ids = {ids[2]};
    session.reset();
    CHECK(generate(session, prompt, options).ids == std::vector<int32_t>(ids.begin(), ids.begin() + 2));
    options.ignore_eos = true;
    session.reset();
    std::vector<int32_t> ignoring = generate(session, prompt, options).ids;
    CHECK(ignoring.size() == 6);
    CHECK(std::find(ignoring.begin(), ignoring.end(), ids[2]) == ignoring.end());
}
