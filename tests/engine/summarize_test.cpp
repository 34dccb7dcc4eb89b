// Reading text of any length into a state, and asking about it from forks.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "engine/section_writer.h"
#include "engine/state_reader.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;
namespace fs = std::filesystem;

namespace {

std::string words(int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += i % 11 == 10 ? "end.\n" : "word" + std::to_string(i % 97) + " ";
    return text;
}

GenerateOptions greedy(int64_t n = 12) {
    GenerateOptions o;
    o.sampling.temp = 0;
    o.max_tokens = n;
    return o;
}

constexpr char kRequest[] = "\n\nSummarize the text above.";

// What complete --chat would reply to the whole message.
std::vector<int32_t> reply_to_whole(Engine& engine, const std::string& message) {
    const Tokenizer& t = engine.tokenizer();
    const ChatTemplate& chat = engine.require_template();
    std::vector<int32_t> ids = chat.begin(t);
    for (const auto& more : {chat.encode(t, {"user", message}), chat.reply_opening(t)}) {
        ids.insert(ids.end(), more.begin(), more.end());
    }
    Session session(engine);
    GenerateOptions o = greedy();
    o.end_ids = chat.end_ids(t);
    return generate(session, ids, o).ids;
}

}  // namespace

TEST_CASE("an answer is the reply to text and request as one message", "[state_reader]") {
    Engine engine(tiny_options(2));
    std::string text = words(2000) + "caf\xC3\xA9 \xE2\x82\xAC";
    StateReader reader(engine, "", {});
    reader.begin_file("");
    for (size_t at = 0; at < text.size(); at += 777) reader.push(text.substr(at, 777));
    Reply first = reader.answer(kRequest, greedy(), {});
    CHECK(first.ids == reply_to_whole(engine, text + kRequest));
    // Every question is asked of the same state.
    CHECK(reader.answer("\n\nWho?", greedy(), {}).ids == reply_to_whole(engine, text + "\n\nWho?"));
    CHECK(reader.answer(kRequest, greedy(), {}).ids == first.ids);
    // And reading goes on undisturbed.
    reader.push(" And more.");
    CHECK(reader.answer(kRequest, greedy(), {}).ids == reply_to_whole(engine, text + " And more." + kRequest));
}

TEST_CASE("input text is cleaned as everywhere, files have their names before them", "[state_reader]") {
    Engine engine(tiny_options(2));
    StateReader reader(engine, "Read: ", {});
    reader.begin_file("a.txt");
    reader.push("\xEF\xBB\xBFOne\r\ntwo \xff");
    reader.begin_file("b.txt");
    reader.push("Three\xE2\x96\x81.");
    std::string message = "Read: a.txt\n\nOne\ntwo \xEF\xBF\xBD\n\nb.txt\n\nThree ." + std::string(kRequest);
    CHECK(reader.answer(kRequest, greedy(), {}).ids == reply_to_whole(engine, message));
    CHECK(reader.changes().invalid_bytes == 1);
    CHECK(reader.changes().replaced_spaces == 1);
}

TEST_CASE("at every N tokens exactly N are in the state", "[state_reader]") {
    Engine engine(tiny_options(2));
    std::string text = words(3000);
    std::vector<int64_t> at;
    std::vector<std::vector<int32_t>> answers;
    StateReader* reader = nullptr;
    StateReader::Options o{700, [&](int64_t tokens) {
                               at.push_back(tokens);
                               answers.push_back(reader->answer(kRequest, greedy(), {}).ids);
                           }};
    StateReader with(engine, "", o), without(engine, "", {});
    reader = &with;
    for (StateReader* r : {&with, &without}) {
        r->begin_file("");
        for (size_t i = 0; i < text.size(); i += 1000) r->push(text.substr(i, 1000));
    }
    REQUIRE(at.size() == static_cast<size_t>(with.tokens() / 700));
    for (size_t i = 0; i < at.size(); ++i) CHECK(at[i] == 700 * (static_cast<int64_t>(i) + 1));
    CHECK(with.answer(kRequest, greedy(), {}).ids == without.answer(kRequest, greedy(), {}).ids);
    // By hand: opening, N tokens of the text, then the request as its continuation.
    const Tokenizer& t = engine.tokenizer();
    const ChatTemplate& chat = engine.require_template();
    std::vector<int32_t> ids = chat.begin(t), body = t.encode(text);
    auto append = [&](const std::vector<int32_t>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
    append(chat.opening(t, "user").ids);
    ids.insert(ids.end(), body.begin(), body.begin() + 1400);
    append(t.encode_continuation(kRequest));
    append(chat.closing(t, "user").ids);
    append(chat.reply_opening(t));
    Engine other(tiny_options());
    Session session(other);
    GenerateOptions options = greedy();
    options.end_ids = chat.end_ids(t);
    CHECK(generate(session, ids, options).ids == answers[1]);
}

TEST_CASE("a saved reading goes on as if it had never stopped, wherever it was cut", "[state_reader]") {
    Engine engine(tiny_options(3));
    std::string text = words(800) + "\xE2\x82\xAC caf\xC3\xA9\r\n\r\nEnd " + words(100);
    StateReader whole(engine, "", {});
    whole.begin_file("");
    whole.push(text);
    std::vector<int32_t> expected = whole.answer(kRequest, greedy(), {}).ids;
    size_t euro = text.find('\xE2'), crlf = text.find('\r');
    for (size_t cut : {size_t{0}, size_t{1}, size_t{5}, euro + 1, euro + 2, crlf + 1, text.size() - 1, text.size()}) {
        StateReader first(engine, "", {});
        first.begin_file("");
        first.push(text.substr(0, cut));
        SavedState saved = first.saved();
        saved.sources = {{"-", cut, 0}};
        StateReader second(engine, saved, {});
        second.push(text.substr(cut));
        CHECK(second.tokens() == whole.tokens());
        CHECK(second.answer(kRequest, greedy(), {}).ids == expected);
    }
}

TEST_CASE("where the last tokens begin is known in bytes", "[state_reader]") {
    Engine engine(tiny_options());
    StateReader reader(engine, "", {});
    reader.begin_file("");
    std::string text = words(3000);
    for (size_t i = 0; i < text.size(); i += 100) reader.push(text.substr(i, 100));
    std::optional<uint64_t> at = reader.bytes_before_last(1000);
    REQUIRE(at);
    std::vector<int32_t> tail = engine.tokenizer().encode_continuation(text.substr(*at));
    CHECK(tail.size() >= 1000);
    CHECK(tail.size() < 1000 + 1024);  // what the encoder may hold, and a mark's distance
}

TEST_CASE("without a template a state cannot be asked", "[state_reader]") {
    EngineOptions options = tiny_options();
    options.model_path.clear();
    Engine engine(options);
    CHECK_THROWS_AS(StateReader(engine, "", {}), Error);
}

TEST_CASE("a written summary goes through sections and levels, and streams its last text", "[section_writer]") {
    Engine engine(tiny_options());
    Summarizer::Options o;
    o.section_tokens = 200;
    SectionWriter writer(engine, o, PromptText::parse("{text}\n\nShorter:", "here"), greedy(20));
    writer.begin_file("");
    writer.push(words(1200));
    std::string streamed;
    auto parts = writer.summary(true, [&](const TokenEvent& e) {
        streamed += e.text;
        return true;
    });
    REQUIRE(parts);
    REQUIRE(parts->size() == 1);
    CHECK_FALSE((*parts)[0].quoted);
    CHECK((*parts)[0].text == streamed);
    CHECK(writer.save().size() < 20000);
    CHECK_FALSE(writer.summary(true, [](const TokenEvent&) { return false; }));
}

TEST_CASE("one short section is summarised as one message", "[section_writer]") {
    Engine engine(tiny_options(2));
    SectionWriter writer(engine, {}, PromptText::parse("{text}\n\nSummarize the text above.", "here"), greedy());
    writer.begin_file("");
    writer.push("One is here. Two is there.\n\nThree.");
    std::string expected = engine.tokenizer().decode(
        reply_to_whole(engine, "One is here. Two is there.\n\nThree." + std::string(kRequest)));
    CHECK((*writer.summary(true, {}))[0].text == expected);
}

TEST_CASE("files are read one after another, and gone on from where they were left", "[input_files]") {
    fs::path folder = fs::temp_directory_path() / ("samba-input-" + std::to_string(::getpid()));
    fs::create_directory(folder);
    auto file = [&](const std::string& name, const std::string& text) {
        std::ofstream(folder / name, std::ios::binary) << text;
        return (folder / name).string();
    };
    std::string big(200000, 'x');
    std::string a = file("a", big), b = file("b", "second"), empty = file("c", "");
    auto read = [](InputFiles& files) {
        std::string all;
        while (auto piece = files.next({})) {
            if (piece->begins) all += "<" + fs::path(*piece->path).filename().string() + ">";
            all += piece->bytes;
        }
        return all;
    };
    InputFiles files({a, b});
    CHECK(files.total_bytes() == 200006);
    CHECK(read(files) == "<a>" + big + "<b>second");
    CHECK(files.read_bytes() == 200006);
    std::vector<StateSource> sources = files.sources();
    REQUIRE(sources.size() == 2);
    CHECK(sources[1].bytes == 6);

    InputFiles again({a, b});
    again.skip(sources, {});
    CHECK(read(again) == "");
    file("b", "second and more");
    InputFiles grown({a, b});
    grown.skip(sources, {});
    CHECK(read(grown) == " and more");
    CHECK(grown.sources()[1].bytes == 15);
    file("b", "Second");
    InputFiles changed({a, b});
    CHECK_THROWS_AS(changed.skip(sources, {}), UsageError);
    InputFiles fewer({a});
    CHECK_THROWS_AS(fewer.skip(sources, {}), UsageError);
    file("a", big + "x");
    InputFiles longer({a, b});
    CHECK_THROWS_AS(longer.skip(sources, {}), UsageError);

    CHECK_THROWS_AS(InputFiles({b, (folder / "none").string()}), FileError);
    CHECK_THROWS_AS(InputFiles({folder.string()}), FileError);
    InputFiles nothing({empty});
    CHECK(read(nothing) == "<c>");
    InputFiles stopped({b});
    CHECK_FALSE(stopped.next([] { return true; }));
    fs::remove_all(folder);
}
