// A state file brings a sequence back bit by bit, belongs to one model, and is never trusted.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "engine/session_file.h"
#include "engine/session_format.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;
namespace fs = std::filesystem;

namespace {

// A folder of its own that goes away.
struct Folder {
    fs::path path = fs::temp_directory_path() / ("samba-state-" + std::to_string(::getpid()));
    Folder() { fs::create_directory(path); }
    ~Folder() { fs::remove_all(path); }
    std::string file(const std::string& name) const { return (path / name).string(); }
};

std::vector<float> probe(Session& session, int32_t id = 1234) {
    std::vector<float> row;
    session.feed_with_logits(std::span(&id, 1),
                             [&](int64_t, std::span<const float> l) { row.assign(l.begin(), l.end()); });
    return row;
}

std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::span<const unsigned char> bytes_of(const std::string& s) {
    return {reinterpret_cast<const unsigned char*>(s.data()), s.size()};
}

std::string message_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const FileError& e) {
        return e.what();
    }
    return "";
}

SavedState chat_state(Session& session) {
    SavedState s;
    s.kind = StateKind::kChat;
    s.seed = 77;
    s.attempt = 2;
    s.messages = {{"system", "Be brief.", {}},
                  {"user", "Hi \xff there", {{"notes.txt", 12, 0x1234}}},
                  {"assistant", "Hello.", {}}};
    s.text = "not fed";
    s.raw = "\xe2\x82";
    s.text_begun = true;
    s.sources = {{"-", 5, 6}, {"a/b", 7, 8}};
    s.summary = std::string("x\0y", 3);
    s.before_turn = session.snapshot();
    return s;
}

}  // namespace

TEST_CASE("a state that comes back from a file goes on with the same bits", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options(2));
    int n_tokens = GENERATE(0, 3, 63, 64, 65, 200);  // the window has 64 rows
    Session session(engine), other(engine);
    std::vector<int32_t> ids = some_ids(n_tokens);
    session.feed(ids);
    session.set_pending(Pending{55, true});
    SavedState state;
    state.now = session.snapshot();
    save_state(folder.file("s"), state, engine);

    other.feed(some_ids(100, 9));
    SavedState loaded = load_state(folder.file("s"), engine, StateKind::kRaw);
    other.restore(loaded.now);
    CHECK(other.position() == n_tokens);
    CHECK(std::vector<int32_t>(other.recent().begin(), other.recent().end()) == ids);
    REQUIRE(other.pending());
    CHECK(other.pending()->id == 55);
    CHECK(other.pending()->sampled);
    CHECK(probe(other) == probe(session));
}

TEST_CASE("a state of several planes and one of a single plane are the same file", "[session_file]") {
    Folder folder;
    EngineOptions options = tiny_options();
    Engine eight(options);
    options.n_planes = 1;
    Engine one(options);
    Session a(eight), b(one);
    a.feed(some_ids(150));
    b.feed(some_ids(150));
    SavedState state;
    state.now = a.snapshot();
    save_state(folder.file("a"), state, eight);
    state.now = b.snapshot();
    save_state(folder.file("b"), state, one);
    CHECK(contents(folder.file("a")) == contents(folder.file("b")));
}

TEST_CASE("everything beside the state comes back as it was", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(10));
    SavedState state = chat_state(session);
    session.feed(some_ids(20, 3));
    state.now = session.snapshot();
    save_state(folder.file("s"), state, engine);
    SavedState back = load_state(folder.file("s"), engine, StateKind::kChat);
    CHECK(back.seed == 77);
    CHECK(back.attempt == 2);
    REQUIRE(back.messages.size() == 3);
    CHECK(back.messages[1].role == "user");
    CHECK(back.messages[1].content == "Hi \xff there");
    REQUIRE(back.messages[1].files.size() == 1);
    CHECK(back.messages[1].files[0].path == "notes.txt");
    CHECK(back.messages[1].files[0].hash == 0x1234);
    CHECK(back.text == state.text);
    CHECK(back.raw == state.raw);
    CHECK(back.text_begun);
    REQUIRE(back.sources.size() == 2);
    CHECK(back.sources[1].path == "a/b");
    CHECK(back.sources[1].bytes == 7);
    CHECK(back.summary == state.summary);
    CHECK(back.now.position == 30);
    REQUIRE(back.before_turn);
    CHECK(back.before_turn->position == 10);

    StateHeader header = read_state_header(folder.file("s"));
    CHECK(header.kind == StateKind::kChat);
    CHECK(header.ring_type == engine.ring_type());
    CHECK(header.position == 30);
    CHECK(header.messages[0].content == "Be brief.");
}

TEST_CASE("the file is private, and replaced as a whole", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(10));
    SavedState state;
    state.now = session.snapshot();
    ::umask(0);
    save_state(folder.file("s"), state, engine);
    struct stat status;
    REQUIRE(::stat(folder.file("s").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    save_state(folder.file("s"), state, engine);
    CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 1);
    CHECK_THROWS_AS(save_state(folder.file("none/s"), state, engine), FileError);
    CHECK_THROWS_AS(save_state("/dev/null", state, engine), FileError);
}

TEST_CASE("a state is refused by another model, kind, template or ring", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(10));
    SavedState state = chat_state(session);
    state.now = session.snapshot();
    save_state(folder.file("s"), state, engine);
    auto refusal = [&](const EngineOptions& options, StateKind kind = StateKind::kChat) {
        Engine other(options);
        return message_of([&] { load_state(folder.file("s"), other, kind); });
    };
    CHECK(refusal(tiny_options()) == "");
    CHECK_THAT(refusal(tiny_options(), StateKind::kSummarize), Catch::Contains("a chat state, expected a summarize"));
    EngineOptions options = tiny_options();
    options.preset_seed = 8;
    CHECK_THAT(refusal(options), Catch::Contains("another model"));
    options = tiny_options();
    options.chat_template = "chatml";
    CHECK_THAT(refusal(options), Catch::Contains("\"samba\"") && Catch::Contains("--template"));
    options = tiny_options();
    options.ring_type = DType::kF16;
    CHECK_THAT(refusal(options), Catch::Contains("--ring-type"));
    CHECK_THAT(message_of([&] { load_state(folder.file("none"), engine, StateKind::kChat); }), Catch::Contains("none"));
}

TEST_CASE("a file cut short anywhere, or with any byte changed, is one clear error", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(70));
    SavedState state = chat_state(session);
    state.now = session.snapshot();
    save_state(folder.file("s"), state, engine);
    std::string whole = contents(folder.file("s"));
    REQUIRE_NOTHROW(decode_state(bytes_of(whole), "s"));
    std::vector<size_t> places;
    for (const char* section : {"FING", "CONF", "KIND", "MESG", "PEND", "SOUR", "SUMM", "STAT", "TURN", "END."}) {
        size_t at = whole.find(section);
        REQUIRE(at != std::string::npos);
        for (size_t d = 0; d < 24; ++d) places.push_back(at + d);
    }
    for (size_t i = 0; i < 24; ++i) places.push_back(i);
    for (size_t i = 0; i < whole.size(); i += 977) places.push_back(i);
    for (size_t at : places) {
        if (at >= whole.size()) continue;
        INFO("at byte " << at);
        std::string cut = whole.substr(0, at), changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 0x10);
        CHECK_THAT(message_of([&] { decode_state(bytes_of(cut), "state.s"); }), Catch::StartsWith("state.s: "));
        CHECK_THAT(message_of([&] { decode_state(bytes_of(changed), "state.s"); }), Catch::StartsWith("state.s: "));
    }
    CHECK_THAT(message_of([&] { decode_state(bytes_of(whole + "x"), "s"); }), Catch::Contains("follow the end"));
}

TEST_CASE("a newer version and another kind of file are named", "[session_file]") {
    std::string file = "SAMBAST1";
    file += std::string("\x02\0\0\0", 4);
    CHECK_THAT(message_of([&] { decode_state(bytes_of(file), "s"); }), Catch::Contains("version 2"));
    CHECK_THAT(message_of([&] { decode_state(bytes_of("GGUF...."), "s"); }), Catch::Contains("expected a state file"));
    CHECK_THAT(message_of([&] { decode_state({}, "s"); }), Catch::Contains("expected a state file"));
}

TEST_CASE("contents that fit their hash are still checked against the model", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(10));
    SavedState state;
    state.now = session.snapshot();
    save_state(folder.file("s"), state, engine);
    std::string file = contents(folder.file("s"));
    auto rewritten = [&](const std::function<void(StoredState&)>& change) {
        StoredState s = decode_state(bytes_of(file), "s");
        change(s);
        std::ofstream(folder.file("t"), std::ios::binary) << encode_state(s);
        return message_of([&] { load_state(folder.file("t"), engine, StateKind::kRaw); });
    };
    CHECK(rewritten([](StoredState&) {}) == "");
    CHECK_THAT(rewritten([](StoredState& s) { s.now.position = 11; }), Catch::Contains("expected a state of"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.position = 9; }), Catch::Contains("last tokens"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.position = int64_t{1} << 62; }),
               Catch::Contains("expected a state"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.tokens[3] = 8192; }), Catch::Contains("token 8192"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.tokens[3] = -1; }), Catch::Contains("token -1"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.pending = Pending{9000, true}; }), Catch::Contains("pending"));
    CHECK_THAT(rewritten([](StoredState& s) { s.shape[0] = 128; }), Catch::Contains("another model"));
    CHECK_THAT(rewritten([](StoredState& s) { s.now.state = s.now.state.first(100); }), Catch::Contains("100"));
}

TEST_CASE("one process at a time has a session's file", "[session_file]") {
    Folder folder;
    Engine engine(tiny_options());
    Session session(engine);
    session.feed(some_ids(10));
    SavedState state;
    state.now = session.snapshot();
    std::string path = folder.file("s");
    {
        StateFileLock lock(path);
        CHECK(lock.is_new());
        CHECK_THROWS_AS(StateFileLock(path), Error);
    }
    CHECK_FALSE(fs::exists(path));  // nothing was saved
    {
        StateFileLock lock(path);
        lock.save(state, engine);
        CHECK_FALSE(lock.is_new());
        CHECK_THROWS_AS(StateFileLock(path), Error);  // the new file is locked as well
        lock.save(state, engine);
        CHECK_THROWS_AS(StateFileLock(path), Error);
    }
    StateFileLock lock(path);
    CHECK_FALSE(lock.is_new());
    CHECK(load_state(path, engine, StateKind::kRaw).now.position == 10);
}
