// Summaries by quotation: ranking, picking, levels, and that nothing printed is invented.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "engine/quote.h"
#include "engine/textrank.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;

namespace {

// Sentences of nine to fourteen words over a small vocabulary, in paragraphs.
std::string made_up_text(int n_sentences, uint32_t seed = 1) {
    const char* words[] = {"river",  "stone",   "garden",  "captain", "letter", "winter", "music",
                           "window", "soldier", "harbour", "walks",   "finds",  "brings", "forgets",
                           "paints", "quiet",   "broken",  "golden",  "near",   "under"};
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < n_sentences; ++i) {
        text += "The";
        for (uint32_t n = 8 + random() % 6; n > 0; --n) text += std::string(" ") + words[random() % std::size(words)];
        text += i % 7 == 6 ? ".\n\n" : ". ";
    }
    return text;
}

Summarizer::Options sections(int64_t tokens) {
    Summarizer::Options o;
    o.section_tokens = tokens;
    return o;
}

// A summary by the model of `engine`, or by none.
std::unique_ptr<Quote> quote(Engine& engine, bool with_model, int64_t section = 1200, int64_t words = 100) {
    std::unique_ptr<ReplyScorer> scorer;
    if (with_model) {
        scorer = std::make_unique<ReplyScorer>(engine, Quote::request_ids(engine, "Summarize the text above."), 4);
    }
    auto q =
        std::make_unique<Quote>(engine.tokenizer(), sections(section), Quote::Recipe{words, "en"}, std::move(scorer));
    q->begin_file("");
    return q;
}

size_t words_in(const std::vector<SummaryPart>& parts) {
    size_t n = 0;
    for (const SummaryPart& part : parts) n += count_words(part.text);
    return n;
}

bool same(const std::vector<SummaryPart>& a, const std::vector<SummaryPart>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const SummaryPart& x, const SummaryPart& y) {
        return x.text == y.text && x.offset == y.offset && x.file == y.file;
    });
}

}  // namespace

TEST_CASE("words are counted in any script", "[words]") {
    CHECK(count_words("") == 0);
    CHECK(count_words("One, two -- three-four 5!") == 4);
    CHECK(count_words("  don't  \n\t stop ") == 2);
    CHECK(count_words("我来了你好") == 3);
    CHECK(count_words("Größe größer") == 2);
}

TEST_CASE("stems are lower case, without stop words and single letters", "[words]") {
    WordStems english("en"), none("none"), german("german");
    CHECK(english.of("The Cats were RUNNING to a cat's house in 1999") == Stems{"cat", "run", "cat", "hous", "1999"});
    CHECK(none.of("The Cats a") == Stems{"the", "cats"});
    CHECK(german.of("Häuser ÄPFEL") == Stems{"haus", "apfel"});
    CHECK(none.of("我来了 ok 好") == Stems{"我来", "来了", "ok"});
    CHECK_THROWS_AS(WordStems("klingon"), UsageError);
}

TEST_CASE("PageRank is a distribution that favours what is linked to", "[textrank]") {
    // 0 - 1 - 2 in a row: the middle one is worth most, the ends the same.
    std::vector<double> r = page_rank({0, 1, 0, 1, 0, 1, 0, 1, 0}, 3);
    CHECK(r[1] == Approx(0.4865).margin(1e-3));  // (0.05 + 0.85 (r0 + r2)), r0 = 0.05 + 0.85 r1 / 2
    CHECK(r[0] == Approx(r[2]));
    CHECK(r[0] + r[1] + r[2] == Approx(1).margin(1e-3));
    std::vector<double> alone = page_rank({5, 0, 0, 5}, 2);  // self-links do not count
    CHECK(alone[0] == Approx(0.075));
    CHECK(page_rank({}, 0).empty());
}

TEST_CASE("TextRank weighs likeness as the recipe says", "[textrank]") {
    std::vector<Stems> s = {{"a", "b", "b"}, {"b", "c"}, {"d"}};
    // Overlap: sentences 0 and 1 share b; 2 shares nothing.
    double w = 1 / (std::log(4) + std::log(3));
    std::vector<double> weights = {0, w, 0, w, 0, 0, 0, 0, 0};
    std::vector<double> expected = page_rank(weights, 3), found = textrank_overlap(s);
    for (size_t i = 0; i < 3; ++i) CHECK(found[i] == Approx(expected[i]));
    // With one link in all, its weight does not matter once the rows are normalised.
    std::vector<double> cosine = textrank_cosine(s);
    for (size_t i = 0; i < 3; ++i) CHECK(cosine[i] == Approx(expected[i]));
    // With two, it does: idf(b) = ln(5 / 3), idf(c) = ln(5 / 1); 1 is nearer to 3 than to 0.
    s = {{"a", "b"}, {"b", "c"}, {"b", "b"}, {"c", "c"}};
    double b = std::log(5.0 / 3), c = std::log(5.0 / 2), a = std::log(5.0);
    double n0 = std::hypot(a, b), n1 = std::hypot(b, c);
    double w01 = b * b / (n0 * n1), w02 = b / n0, w12 = b / n1, w13 = c / n1;
    weights = {0, w01, w02, 0, w01, 0, w12, w13, w02, w12, 0, 0, 0, w13, 0, 0};
    expected = page_rank(weights, 4);
    cosine = textrank_cosine(s);
    for (size_t i = 0; i < 4; ++i) CHECK(cosine[i] == Approx(expected[i]));
}

TEST_CASE("scores are standardised, equal ones to nothing", "[quote]") {
    std::vector<double> z = standardised({1, 2, 3});
    CHECK(z[0] == Approx(-std::sqrt(1.5)));
    CHECK(z[1] == Approx(0).margin(1e-12));
    CHECK(standardised({4, 4}) == std::vector<double>{0, 0});
    CHECK(standardised({}).empty());
}

TEST_CASE("picking goes by score, skips what does not fit, and keeps the order", "[quote]") {
    std::vector<double> scores = {1, 5, 3, 4, 2};
    std::vector<Costs> costs = {{10, 1}, {40, 1}, {30, 1}, {70, 1}, {20, 1}};
    CHECK(pick(scores, costs, {100, 100}, 15) == std::vector<size_t>{0, 1, 2, 4});  // 40 + 30 + 20 + 10
    CHECK(pick(scores, costs, {110, 100}, 15) == std::vector<size_t>{1, 3});
    CHECK(pick(scores, costs, {100, 100}, 2) == std::vector<size_t>{1});
    CHECK(pick(scores, costs, {100, 2}, 15) == std::vector<size_t>{1, 2});
    CHECK(pick({}, {}, {100, 100}, 15).empty());
}

TEST_CASE("a text's likelihood as a reply does not depend on its company", "[quote]") {
    Engine engine(tiny_options(4));
    std::vector<int32_t> prompt = Quote::request_ids(engine, "Summarize the text above.");
    std::vector<std::vector<int32_t>> texts;
    for (int n : {1, 30, 2, 100, 17, 0, 200, 45}) texts.push_back(some_ids(n, static_cast<uint32_t>(n + 1)));
    std::vector<double> together = ReplyScorer(engine, prompt, 3).score(texts);
    ReplyScorer scorer(engine, prompt, 1);
    for (size_t i = 0; i < texts.size(); ++i) {
        CHECK(scorer.score(std::span(&texts[i], 1))[0] == together[i]);
        // By the sessions' own logits.
        Session session(engine);
        session.feed(prompt);
        double sum = 0;
        std::vector<float> row;
        std::vector<int32_t> ids = texts[i];
        session.reset();
        session.feed(std::span(prompt).first(prompt.size() - 1));
        ids.insert(ids.begin(), prompt.back());
        session.feed_with_logits(ids, [&](int64_t position, std::span<const float> logits) {
            size_t next = static_cast<size_t>(position) - prompt.size() + 2;
            if (next >= ids.size()) return;
            double total = 0;
            for (float x : logits) total += std::exp(static_cast<double>(x));
            sum += static_cast<double>(logits[static_cast<size_t>(ids[next])]) - std::log(total);
        });
        double mean = texts[i].empty() ? 0 : sum / static_cast<double>(texts[i].size());
        CHECK(together[i] == Approx(mean).margin(1e-4));
    }
}

TEST_CASE("what is printed stands in the text, byte for byte, where it says", "[quote]") {
    Engine engine(tiny_options(4));
    for (uint32_t seed = 1; seed <= 6; ++seed) {
        std::string text = made_up_text(40 + 60 * static_cast<int>(seed), seed);
        if (seed % 2 == 0) text = "\xEF\xBB\xBF" + text;
        text.insert(text.find("stone"), "\xff b\xC3\xA4r ");
        for (size_t at = text.find(". The"); seed % 3 == 0 && at != std::string::npos;
             at = text.find(". The", at + 1)) {
            text.replace(at, 2, ".\r\n");
        }
        auto q = quote(engine, seed % 2 == 1, 400);
        q->push(text);
        auto parts = q->summary(true, {});
        REQUIRE(parts);
        REQUIRE_FALSE(parts->empty());
        CHECK(words_in(*parts) <= 100);
        uint64_t before = 0;
        for (const SummaryPart& part : *parts) {
            CHECK(part.quoted);
            CHECK(text.substr(part.offset, part.text.size()) == part.text);
            CHECK(part.offset >= before);
            before = part.offset + part.text.size();
        }
    }
}

TEST_CASE("a stream in any pieces gives the same summary, and so does a resumed one", "[quote]") {
    Engine engine(tiny_options(4));
    std::string text = made_up_text(400);
    auto whole = quote(engine, false, 300);
    whole->push(text);
    auto expected = *whole->summary(true, {});
    std::mt19937 random(5);
    auto pieces = quote(engine, false, 300);
    for (size_t at = 0; at < text.size();) {
        size_t n = std::min<size_t>(1 + random() % 700, text.size() - at);
        pieces->push(text.substr(at, n));
        at += n;
    }
    CHECK(same(*pieces->summary(true, {}), expected));
    CHECK(pieces->tokens() == whole->tokens());
    for (size_t cut : {size_t{0}, size_t{2}, size_t{777}, text.size() / 2, text.size()}) {
        auto first = quote(engine, false, 300), second = quote(engine, false, 300);
        first->push(text.substr(0, cut));
        second->resume(first->save(), "state");
        second->push(text.substr(cut));
        CHECK(same(*second->summary(true, {}), expected));
    }
    std::string saved = whole->save();
    for (size_t n = 0; n < saved.size(); n += 1 + saved.size() / 100) {
        CHECK_THROWS_AS(quote(engine, false)->resume(saved.substr(0, n), "state"), FileError);
    }
}

TEST_CASE("a summary so far leaves the reading undisturbed", "[quote]") {
    Engine engine(tiny_options(4));
    std::string text = made_up_text(200);
    auto plain = quote(engine, true, 300);
    plain->push(text);
    std::vector<int64_t> told;
    Quote* q = nullptr;
    Summarizer::Options o = sections(300);
    o.every = 500;
    o.at_every = [&](int64_t tokens) {
        told.push_back(tokens);
        CHECK_FALSE(q->summary(false, {})->empty());
    };
    CHECK_THROWS_AS(ReplyScorer(engine, some_ids(3), 4), Error);  // more slots than are left
    q = new Quote(engine.tokenizer(), o, {}, nullptr);
    std::unique_ptr<Quote> owner(q);
    q->begin_file("");
    q->push(text);
    REQUIRE(told.size() == static_cast<size_t>(q->tokens() / 500));
    for (size_t i = 0; i < told.size(); ++i) CHECK(told[i] / 500 == static_cast<int64_t>(i) + 1);
    auto quiet = quote(engine, false, 300);
    quiet->push(text);
    CHECK(same(*q->summary(true, {}), *quiet->summary(true, {})));
}

TEST_CASE("memory stays constant: every level holds less than a section or two", "[quote]") {
    Engine engine(tiny_options());
    auto q = quote(engine, false, 300);
    size_t most = 0, early = 0;
    std::string text = made_up_text(300);
    for (int i = 0; i < 60; ++i) {
        q->push(text);
        most = std::max(most, q->save().size());
        if (i == 5) early = most;
    }
    CHECK(most < 2 * early + 4000);
    CHECK(most < 40000);
    CHECK(words_in(*q->summary(true, {})) <= 100);
}

TEST_CASE("text whose sentences cannot be shortened does not pile up", "[quote]") {
    Engine engine(tiny_options());
    std::string hard = "one two three four five six seven " + std::string(900, '7') + ". ";
    std::string lines = "2024-01-01 ok\n", letters(5000, 'q');
    for (const std::string& unit : {hard, lines, letters}) {
        auto q = quote(engine, false, 200);
        for (int i = 0; i < 100; ++i) q->push(unit);
        CHECK(q->save().size() < 60000);
        CHECK(q->summary(true, {}));
    }
}

TEST_CASE("short texts and lists are quoted as far as they go", "[quote]") {
    Engine engine(tiny_options());
    auto of = [&](const std::string& text) {
        auto q = quote(engine, false);
        q->push(text);
        return *q->summary(true, {});
    };
    REQUIRE(of("The cat sat. It slept.").size() == 2);
    CHECK(of("Shopping list").at(0).text == "Shopping list");
    CHECK(of("").empty());
    // Headings drop out where there are sentences.
    auto parts = of("A Heading Without End\n\nThe old captain walks near the broken harbour every single day.");
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].text == "The old captain walks near the broken harbour every single day.");
}

TEST_CASE("what the last headings speak of is worth more", "[quote]") {
    Engine engine(tiny_options());
    // Four sentences that have nothing in common: without a heading the first one is taken, for its place.
    std::string text =
        "A quiet captain paints the golden window every evening. The cold river froze beneath an iron bridge tonight. "
        "Seven soldiers brought letters through deep winter snow. Music filled every garden until the morning came.";
    for (const char* heading : {"", "Bridges\n\n", "Letters and Snow\n\n"}) {
        auto q = quote(engine, false, 1200, 9);
        q->push(heading + text);
        auto parts = *q->summary(true, {});
        REQUIRE(parts.size() == 1);
        std::string first = parts[0].text.substr(0, 5);
        std::string expected = *heading == 0     ? "A qui"
                               : *heading == 'B' ? "The c"
                               : *heading == 'L' ? "Seven"
                                                 : "Music";
        CHECK(first == expected);
    }
}

TEST_CASE("questions and halves of quotations are quoted only where there is nothing else", "[quote]") {
    Engine engine(tiny_options());
    std::string question = "Do you know where all of us are going this evening?";
    std::string half = "\"I know that you are going to the harbour this evening.";
    std::string good = "The old captain walked slowly to the harbour that evening.";
    auto q = quote(engine, false);
    q->push(question + " " + good + " " + half);
    auto parts = *q->summary(true, {});
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].text == good);
    q = quote(engine, false);
    q->push(question);
    CHECK(q->summary(true, {})->at(0).text == question);
}

TEST_CASE("files have offsets of their own, and their names are not quoted", "[quote]") {
    Engine engine(tiny_options());
    std::string a = made_up_text(3, 1), b = made_up_text(3, 2);
    Quote q(engine.tokenizer(), sections(1200), {}, nullptr);
    q.begin_file("a.txt");
    q.push(a);
    q.begin_file("b.txt");
    q.push(b);
    std::string texts[] = {a, b};
    bool from[2] = {};
    auto parts = q.summary(true, {});
    REQUIRE(parts);
    for (const SummaryPart& part : *parts) {
        CHECK(texts[part.file].substr(part.offset, part.text.size()) == part.text);
        from[part.file] = true;
    }
    CHECK(from[0]);
    CHECK(from[1]);
}

TEST_CASE("UTF-16 is refused, and what is no UTF-8 is counted", "[quote]") {
    Engine engine(tiny_options());
    auto q = quote(engine, false);
    q->push("\xff");
    CHECK_THROWS_WITH(q->push("\xfe"
                              "a"),
                      Catch::Contains("iconv"));
    q = quote(engine, false);
    q->push("Bad \xff byte \xe2\x96\x81 here.");
    q->push(" More text follows.");
    CHECK(q->changes().invalid_bytes == 1);
    CHECK(q->changes().replaced_spaces == 1);
}
