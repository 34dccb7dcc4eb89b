// Messages become the tokens that a model was trained on.
#include "engine/chat_template.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "kernels/error.h"
#include "models/json_text.h"
#include "models/tokenizer_json.h"
#include "tests/engine/shipped_tokenizer.h"

using namespace samba;
using Catch::Matchers::Contains;
using Ids = std::vector<int32_t>;

namespace {

Ids joined(std::initializer_list<Ids> lists) {
    Ids all;
    for (const Ids& ids : lists) all.insert(all.end(), ids.begin(), ids.end());
    return all;
}

Ids conversation(const ChatTemplate& c, const Tokenizer& t, const std::vector<Message>& messages) {
    Ids ids = c.begin(t);
    for (const Message& m : messages) ids = joined({ids, c.encode(t, m)});
    return joined({ids, c.reply_opening(t)});
}

// The fixture's byte-level BPE with the tokens of a template.
Tokenizer bpe_with(const std::vector<std::string>& pieces, bool add_bos = false) {
    TokenizerData data = read_tokenizer_json(
        read_text_file(std::string(SAMBA_SOURCE_DIR) + "/tests/engine/fixtures/bpe_gpt2.json"), "bpe_gpt2.json");
    for (const std::string& piece : pieces) {
        data.added_ids.push_back(static_cast<uint32_t>(data.tokens.size()));
        data.tokens.push_back(piece);
        data.types.push_back(3);
    }
    data.bos = 0;
    data.add_bos = add_bos;
    return {data, 2000, pieces};
}

const char* kSmall = R"({"name":"small","begin":[],"user":[{"token":"<|user|>"},{"content":true}],
    "assistant":[{"token":"<|assistant|>"},{"content":true},{"token":"<|end|>"}],"end":["<|end|>"]})";

}  // namespace

TEST_CASE("samba: every text stands by itself between control tokens") {
    const Tokenizer& t = shipped_tokenizer();
    ChatTemplate c = ChatTemplate::named("samba");
    CHECK(
        conversation(
            c, t, {{"system", "Be brief."}, {"user", "Hi <|end|> there"}, {"assistant", "Hello!"}, {"user", "Bye"}}) ==
        joined({{1, 3},
                t.encode("Be brief."),
                {6, 4},
                t.encode("Hi <|end|> there"),
                {6, 5},
                t.encode("Hello!"),
                {6, 4},
                t.encode("Bye"),
                {6, 5}}));
    CHECK(c.end_ids(t) == Ids{6, 2});
    CHECK(c.encode(t, {"user", ""}) == Ids{4, 6});
}

TEST_CASE("a message in steps is the whole message") {
    const Tokenizer& t = shipped_tokenizer();
    for (const char* name : {"samba", "llama-2", "zephyr"}) {
        ChatTemplate c = ChatTemplate::named(name);
        for (const char* role : {"system", "user", "assistant"}) {
            auto open = c.opening(t, role), close = c.closing(t, role);
            StreamEncoder text(t);
            Ids ids = open.ids;
            for (const std::string& part : {open.text, std::string("a long te"), std::string("xt\n"), close.text})
                text.push(part, ids);
            text.finish(ids);
            CHECK(joined({ids, close.ids}) == c.encode(t, {role, "a long text\n"}));
        }
    }
}

TEST_CASE("llama-2: the prompt stands between [INST] and [/INST], the system prompt inside the first") {
    const Tokenizer& t = shipped_tokenizer();
    ChatTemplate c = ChatTemplate::named("llama-2");
    CHECK(conversation(c, t, {{"user", "Hi"}, {"assistant", "Hello!"}, {"user", "Bye"}}) ==
          joined({{1}, t.encode("[INST] Hi [/INST] Hello! "), {2, 1}, t.encode("[INST] Bye [/INST]")}));
    std::string with_system = t.decode(conversation(c, t, {{"system", "Be brief."}, {"user", "Hi"}}));
    CHECK(c.closing(t, "assistant").text == " ");
    CHECK(c.closing(t, "assistant").ids == joined({{2, 1}, t.encode("[INST]")}));
    CHECK(with_system == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST]");
}

TEST_CASE("zephyr: roles are text, the end token closes each message") {
    const Tokenizer& t = shipped_tokenizer();
    ChatTemplate c = ChatTemplate::named("zephyr");
    CHECK(c.encode(t, {"user", "Hi"}) == joined({t.encode("<|user|>\nHi"), {2}, t.encode("\n")}));
    CHECK(c.reply_opening(t) == t.encode("<|assistant|>\n"));
    CHECK(c.closing(t, "assistant").ids == joined({{2}, t.encode("\n")}));
}

TEST_CASE("chatml, llama-3 and phi-3 have their tokens where their models know them") {
    ChatTemplate chatml = ChatTemplate::named("chatml");
    Tokenizer t = bpe_with(chatml.control_pieces());
    int32_t start = *t.id_of("<|im_start|>"), end = *t.id_of("<|im_end|>");
    CHECK(conversation(chatml, t, {{"user", "Hi"}}) ==
          joined({{start}, t.encode("user\nHi"), {end}, t.encode("\n"), {start}, t.encode("assistant\n")}));

    ChatTemplate llama3 = ChatTemplate::named("llama-3");
    Tokenizer u = bpe_with(llama3.control_pieces());
    int32_t head = *u.id_of("<|start_header_id|>"), tail = *u.id_of("<|end_header_id|>");
    CHECK(conversation(llama3, u, {{"user", "Hi"}}) == joined({{*u.id_of("<|begin_of_text|>"), head},
                                                               u.encode("user"),
                                                               {tail},
                                                               u.encode("\n\nHi"),
                                                               {*u.id_of("<|eot_id|>"), head},
                                                               u.encode("assistant"),
                                                               {tail},
                                                               u.encode("\n\n")}));
    CHECK(llama3.end_ids(u) == Ids{*u.id_of("<|eot_id|>"), *u.id_of("<|end_of_text|>")});

    ChatTemplate phi3 = ChatTemplate::named("phi-3");
    Tokenizer v = bpe_with(phi3.control_pieces());
    CHECK(conversation(phi3, v, {{"user", "Hi"}}) ==
          joined({{*v.id_of("<|user|>")}, v.encode("Hi"), {*v.id_of("<|end|>"), *v.id_of("<|assistant|>")}}));
}

TEST_CASE("a template without a begin leaves it to the tokenizer") {
    ChatTemplate c = ChatTemplate::named("chatml");
    CHECK(c.begin(bpe_with(c.control_pieces(), false)).empty());
    CHECK(c.begin(bpe_with(c.control_pieces(), true)) == Ids{0});
}

TEST_CASE("the tokens of a template are never the user's to write") {
    ChatTemplate c = ChatTemplate::parse(R"({"name":"x","user":[{"token":"▁house"},{"content":true}],
        "assistant":[{"content":true}],"end":["</s>"]})",
                                         "x");
    CHECK(c.control_pieces() == std::vector<std::string>{"</s>", "▁house"});
    Tokenizer t(shipped_tokenizer_data(), 8192, c.control_pieces());
    Ids ids = c.encode(t, {"user", "a house"});
    CHECK(ids[0] == *t.id_of("▁house"));
    CHECK(std::count(ids.begin(), ids.end(), ids[0]) == 1);
}

TEST_CASE("every built-in template reads, has its file's name, and survives being written") {
    CHECK(ChatTemplate::names() ==
          std::vector<std::string>{"chatml", "llama-2", "llama-3", "phi-3", "samba", "zephyr"});
    for (const std::string& name : ChatTemplate::names()) {
        ChatTemplate c = ChatTemplate::named(name);
        CHECK(c.name() == name);
        CHECK(ChatTemplate::parse(c.json(), "again").json() == c.json());
    }
    CHECK(ChatTemplate::parse(kSmall, "x").json() ==
          R"({"name":"small","begin":[],"user":[{"token":"<|user|>"},{"content":true}],)"
          R"("assistant":[{"token":"<|assistant|>"},{"content":true},{"token":"<|end|>"}],"end":["<|end|>"]})");
}

TEST_CASE("a template is a name, or a file if it looks like one") {
    CHECK_THROWS_WITH(
        ChatTemplate::named("sambo"),
        Contains("unknown chat template \"sambo\"; known: chatml, llama-2, llama-3, phi-3, samba, zephyr"));
    CHECK_THROWS_AS(ChatTemplate::named("./nowhere"), FileError);
    auto path = std::filesystem::temp_directory_path() / ("samba_template_" + std::to_string(getpid()) + ".json");
    std::ofstream(path) << kSmall;
    CHECK(ChatTemplate::named(path.string()).name() == "small");
    std::filesystem::remove(path);
}

TEST_CASE("a role or a token that is not there is named") {
    ChatTemplate c = ChatTemplate::parse(kSmall, "x");
    CHECK_THROWS_WITH(c.encode(shipped_tokenizer(), {"system", "x"}),
                      Contains("\"small\" has no role \"system\"; it knows assistant, user"));
    ChatTemplate chatml = ChatTemplate::named("chatml");
    CHECK_THROWS_WITH(chatml.end_ids(shipped_tokenizer()),
                      Contains("\"chatml\" needs the token \"<|im_end|>\"") && Contains("--template"));
    CHECK_THROWS_AS(chatml.encode(shipped_tokenizer(), {"user", "x"}), UsageError);
}

TEST_CASE("a broken template is refused in one line that says where") {
    struct Bad {
        const char* from;
        const char* to;
        const char* message;
    };
    const Bad all[] = {
        {"\"name\":\"small\"", "\"name\":7", "name: expected a text that is not empty, found \"7\""},
        {"\"name\":\"small\",", "", "name is missing"},
        {"\"begin\"", "\"start\"", "unknown key \"start\""},
        {"\"begin\":[]", "\"begin\":[{\"content\":true}]", "begin: expected 0 {\"content\":true}, found 1"},
        {"\"begin\":[]", "\"begin\":{}", "begin: expected a list of parts"},
        {"{\"token\":\"<|user|>\"}", "{\"content\":true}", "user: expected 1 {\"content\":true}, found 2"},
        {"{\"token\":\"<|user|>\"}", "{\"token\":\"\"}", "user: token: expected a text that is not empty"},
        {"{\"token\":\"<|user|>\"}", "{\"token\":\"a\",\"text\":\"b\"}", "user: expected {\"token\""},
        {"{\"token\":\"<|user|>\"}", "{\"content\":false}", "user: expected {\"token\""},
        {"{\"token\":\"<|user|>\"}", "\"<|user|>\"", "user: expected {\"token\""},
        {"\"end\":[\"<|end|>\"]", "\"end\":[]", "end: expected a list of tokens"},
        {"\"end\":[\"<|end|>\"]", "\"end\":[{\"token\":\"<|end|>\"}]", "end: expected a text"},
        {"\"end\":[\"<|end|>\"]", "\"end\":[\"<|end|>\"", "not valid JSON"},
    };
    for (const Bad& bad : all) {
        std::string text = kSmall;
        text.replace(text.find(bad.from), std::string_view(bad.from).size(), bad.to);
        CAPTURE(text);
        CHECK_THROWS_AS(ChatTemplate::parse(text, "here.json"), FileError);
        CHECK_THROWS_WITH(ChatTemplate::parse(text, "here.json"),
                          Contains("\"here.json\"") && Contains(bad.message) && !Contains("\n"));
    }
    CHECK_THROWS_WITH(ChatTemplate::parse(std::string(70'000, ' '), "here.json"), Contains("at most 65536 are read"));
    CHECK_THROWS_AS(ChatTemplate::parse("[]", "x"), FileError);
}
