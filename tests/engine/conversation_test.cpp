// A chat's turns: what is read, what is taken back, and that the state is always that of what is shown.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "engine/conversation.h"
#include "kernels/error.h"
#include "tests/engine/tiny.h"

using namespace samba;
namespace fs = std::filesystem;

namespace {

GenerateOptions short_replies(int64_t n = 8) {
    GenerateOptions o;
    o.max_tokens = n;
    return o;
}

Conversation::Options chat_options(size_t snapshot_bytes = size_t{1} << 30) { return {"Be brief.", 5, snapshot_bytes}; }

ChatMessage user(const std::string& text) { return {"user", text, {}}; }

// The next reply to a message, greedy and long enough to show the whole state; then taken back.
std::vector<int32_t> future(Conversation& chat) {
    GenerateOptions o = short_replies(24);
    o.sampling.temp = 0;
    std::optional<Reply> reply = chat.say(user("And then?"), o, {});
    REQUIRE(reply);
    REQUIRE(chat.undo().what == Conversation::Undo::kDone);
    return reply->ids;
}

// All tokens that the state holds.
std::vector<int32_t> read(const Conversation& chat) {
    auto recent = chat.session().recent();
    return {recent.begin(), recent.end()};
}

struct TextFile {
    fs::path path = fs::temp_directory_path() / ("samba-chat-" + std::to_string(::getpid()));
    explicit TextFile(const std::string& text) { write(text); }
    ~TextFile() { fs::remove(path); }
    void write(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
};

}  // namespace

TEST_CASE("the tokens read are those of the template, with replies closed", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    std::string first = chat.say(user("Hello there."), short_replies(), {})->text;
    Reply second = *chat.say(user("Go on."), short_replies(), {});

    const Tokenizer& t = engine.tokenizer();
    const ChatTemplate& chat_template = engine.require_template();
    std::vector<int32_t> expected = chat_template.begin(t);
    auto append = [&](const std::vector<int32_t>& ids) { expected.insert(expected.end(), ids.begin(), ids.end()); };
    append(chat_template.encode(t, {"system", "Be brief."}));
    append(chat_template.encode(t, {"user", "Hello there."}));
    append(chat_template.reply_opening(t));
    size_t begin_of_reply = expected.size();
    std::vector<int32_t> all = read(chat);
    REQUIRE(all.size() > begin_of_reply + 8);
    CHECK(std::vector<int32_t>(all.begin(), all.begin() + static_cast<int64_t>(begin_of_reply)) == expected);
    expected.assign(all.begin() + static_cast<int64_t>(begin_of_reply) + 8, all.end());
    std::vector<int32_t> after = {*t.id_of("<|end|>")};
    for (auto& ids : {chat_template.encode(t, {"user", "Go on."}), chat_template.reply_opening(t)}) {
        after.insert(after.end(), ids.begin(), ids.end());
    }
    after.insert(after.end(), second.ids.begin(), second.ids.end() - 1);  // the last one is pending
    CHECK(expected == after);
    REQUIRE(chat.messages().size() == 5);
    CHECK(chat.messages()[2].content == first);
    CHECK(chat.messages()[4].content == second.text);
}

TEST_CASE("undo brings back the very state before the turn", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    chat.say(user("One."), short_replies(), {});
    std::vector<int32_t> after_one = future(chat);
    chat.say(user("Two, which is longer than the window of sixty-four tokens, so that the ring turns over: " +
                  std::string(400, 'x')),
             short_replies(), {});
    CHECK(future(chat) != after_one);
    Conversation::Undone undone = chat.undo();
    CHECK(undone.what == Conversation::Undo::kDone);
    CHECK(undone.read_again == 0);
    CHECK(future(chat) == after_one);
    CHECK(chat.messages().size() == 3);
    CHECK(chat.undo().what == Conversation::Undo::kDone);
    CHECK(chat.messages().size() == 1);
    CHECK(chat.undo().what == Conversation::Undo::kNothing);
    chat.say(user("One."), short_replies(), {});
    CHECK(future(chat) == after_one);
}

TEST_CASE("an undo past thinned snapshots reads again and says so", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options(0));  // only the last turn's borders stay
    std::vector<std::vector<int32_t>> states;
    for (const char* text : {"One.", "Two.", "Three."}) {
        chat.say(user(text), short_replies(), {});
        states.push_back(read(chat));
    }
    CHECK(chat.undo().read_again == 0);
    Conversation::Undone undone = chat.undo();
    CHECK(undone.what == Conversation::Undo::kDone);
    CHECK(undone.read_again > 0);
    CHECK(chat.messages().size() == 3);
    // The same tokens; the reply's last one may be pending here and there.
    std::vector<int32_t> now = read(chat);
    CHECK(now == states[0]);
}

TEST_CASE("a reply is made anew from the same state and another stream", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    CHECK_THROWS_AS(chat.regenerate(short_replies(), {}), UsageError);
    Reply first = *chat.say(user("Hello."), short_replies(), {});
    Reply second = *chat.regenerate(short_replies(), {});
    Reply third = *chat.regenerate(short_replies(), {});
    CHECK(second.ids != first.ids);
    CHECK(third.ids != second.ids);
    CHECK(chat.messages().size() == 3);
    CHECK(chat.messages().back().content == third.text);
    GenerateOptions greedy = short_replies();
    greedy.sampling.temp = 0;
    std::vector<int32_t> a = chat.regenerate(greedy, {})->ids;
    CHECK(chat.regenerate(greedy, {})->ids == a);

    chat.undo();
    CHECK(chat.say(user("Hello."), short_replies(), {})->ids == first.ids);  // the chat's own seed
}

TEST_CASE("a message that was stopped while it was read leaves no trace", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    std::string longer(6000, 'y');
    CHECK_FALSE(chat.say(user(longer), short_replies(), {}, [](int64_t fed) { return fed < 512; }));
    CHECK(chat.messages().size() == 1);
    chat.say(user("One."), short_replies(), {});
    std::vector<int32_t> before = future(chat);
    CHECK_FALSE(chat.say(user(longer), short_replies(), {}, [](int64_t fed) { return fed < 512; }));
    CHECK(chat.messages().size() == 3);
    CHECK(future(chat) == before);
    CHECK_FALSE(chat.edit(user(longer), short_replies(), {}, [](int64_t fed) { return fed < 512; }));
    CHECK(chat.messages()[1].content == "One.");
    CHECK(future(chat) == before);
}

TEST_CASE("an edit replaces the last turn", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    chat.say(user("One."), short_replies(), {});
    chat.say(user("Two."), short_replies(), {});
    std::vector<int32_t> after_two = read(chat);
    chat.undo();
    chat.say(user("Twoo."), short_replies(), {});
    REQUIRE(chat.last_message());
    CHECK(chat.last_message()->content == "Twoo.");
    chat.edit(user("Two."), short_replies(), {});
    CHECK(chat.messages().size() == 5);
    CHECK(chat.messages()[3].content == "Two.");
    CHECK(read(chat) == after_two);
}

TEST_CASE("a reply that was stopped stays as it was shown, and is closed before the next turn", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    int shown = 0;
    Reply reply = *chat.say(user("Hello."), short_replies(100), [&](const TokenEvent& e) {
        if (e.id >= 0) ++shown;
        return shown < 5;
    });
    CHECK(reply.finish == FinishReason::kInterrupted);
    CHECK(reply.ids.size() == 5);
    CHECK(chat.messages().back().content == reply.text);
    size_t before = read(chat).size();
    chat.say(user("Go on."), short_replies(), {});
    std::vector<int32_t> all = read(chat);
    CHECK(all[before] == reply.ids.back());
    CHECK(all[before + 1] == *engine.tokenizer().id_of("<|end|>"));
    CHECK(all[before + 2] == *engine.tokenizer().id_of("<|user|>"));
}

TEST_CASE("clear and a new system prompt drop the turns, and can be taken back", "[conversation]") {
    Engine engine(tiny_options());
    Conversation chat(engine, chat_options());
    chat.say(user("One."), short_replies(), {});
    std::vector<int32_t> after_one = future(chat);
    chat.clear();
    CHECK(chat.messages().size() == 1);
    CHECK(chat.last_message() == nullptr);
    chat.set_system("Be long.");
    CHECK(chat.system() == "Be long.");
    chat.say(user("Two."), short_replies(), {});
    CHECK(chat.messages().size() == 3);
    CHECK(chat.undo().what == Conversation::Undo::kDone);  // the turn
    CHECK(chat.undo().what == Conversation::Undo::kDone);  // the system prompt
    CHECK(chat.system() == "Be brief.");
    CHECK(chat.messages().size() == 1);
    CHECK(chat.undo().what == Conversation::Undo::kDone);  // the clear
    CHECK(chat.messages().size() == 3);
    CHECK(future(chat) == after_one);
    chat.clear();
    chat.say(user("One."), short_replies(), {});
    CHECK(future(chat) == after_one);  // a cleared chat is a fresh one with its system prompt
}

TEST_CASE("files come before the message, and are read again only unchanged", "[conversation]") {
    Engine engine(tiny_options());
    TextFile file("\xEF\xBB\xBFOne\r\ntwo \xff.\n");
    ChatMessage message{"user", "What is it?", {{file.path.string(), 0, 0}}};
    Conversation chat(engine, chat_options(0));
    chat.say(message, short_replies(), {});
    CHECK(chat.changes().invalid_bytes == 1);
    CHECK(chat.messages()[1].files[0].bytes == 15);
    std::vector<int32_t> with_file = read(chat);
    chat.undo();
    chat.say(user("One\ntwo \xEF\xBF\xBD.\n\nWhat is it?"), short_replies(), {});
    CHECK(read(chat) == with_file);
    chat.undo();
    chat.say(message, short_replies(), {});
    for (const char* text : {"Two.", "Three."}) chat.say(user(text), short_replies(), {});
    file.write("another");
    chat.undo();
    size_t before = chat.messages().size();
    std::vector<int32_t> now = future(chat);
    CHECK_THROWS_WITH(chat.undo(), Catch::Contains("has changed"));
    CHECK(chat.messages().size() == before);
    CHECK(future(chat) == now);
    CHECK_THROWS_AS(chat.say({"user", "x", {{"/nowhere/at/all", 0, 0}}}, short_replies(), {}), FileError);
    CHECK(future(chat) == now);
}

TEST_CASE("a saved chat goes on as if it had never stopped", "[conversation]") {
    Engine engine(tiny_options(2));
    Conversation chat(engine, chat_options());
    for (const char* text : {"One.", "Two."}) chat.say(user(text), short_replies(), {});
    SavedState saved = chat.saved();
    Conversation resumed(engine, {"Another.", 0, size_t{1} << 30});
    resumed.resume(saved);
    CHECK(resumed.system() == "Be brief.");
    CHECK(resumed.seed() == 5);
    CHECK(resumed.messages().size() == 5);
    CHECK(read(resumed) == read(chat));
    CHECK(future(resumed) == future(chat));
    // The last turn can be made anew and taken back, as before.
    CHECK(resumed.regenerate(short_replies(), {})->ids == chat.regenerate(short_replies(), {})->ids);
    CHECK(resumed.undo().read_again == 0);
    chat.undo();
    CHECK(future(resumed) == future(chat));
    // Farther back the text is read again.
    CHECK(resumed.undo().what == Conversation::Undo::kDone);
    CHECK(resumed.messages().size() == 1);
}

TEST_CASE("a saved chat with messages out of order is refused", "[conversation]") {
    Engine engine(tiny_options(2));
    Conversation chat(engine, chat_options());
    chat.say(user("One."), short_replies(), {});
    SavedState saved = chat.saved();
    saved.messages.pop_back();
    Conversation other(engine, chat_options());
    CHECK_THROWS_AS(other.resume(saved), FileError);
    CHECK(other.messages().size() == 1);
}
