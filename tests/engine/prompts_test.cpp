// Prompts: what braces mean, and where a prompt comes from.
#include "engine/prompts.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "kernels/error.h"

using namespace samba;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

// A directory of its own, and environment variables that are as before afterwards.
class Place {
  public:
    Place() : root_(fs::temp_directory_path() / ("samba_prompts_" + std::to_string(getpid()))) {
        fs::remove_all(root_);
        fs::create_directories(root_);
        for (const char* name : {"SAMBA_LM_PROMPTS", "XDG_CONFIG_HOME", "HOME"}) {
            if (const char* value = std::getenv(name)) before_[name] = value;
            unsetenv(name);
        }
    }
    ~Place() {
        for (const char* name : {"SAMBA_LM_PROMPTS", "XDG_CONFIG_HOME", "HOME"}) {
            if (before_.contains(name))
                setenv(name, before_[name].c_str(), 1);
            else
                unsetenv(name);
        }
        fs::remove_all(root_);
    }
    std::string file(const std::string& path, std::string_view text) {
        fs::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
        return (root_ / path).string();
    }
    void set(const char* name, const std::string& path) { setenv(name, (root_ / path).c_str(), 1); }

  private:
    fs::path root_;
    std::map<std::string, std::string> before_;
};

}  // namespace

TEST_CASE("a prompt is filled with the text and the question") {
    PromptText p = PromptText::parse("Read:\n{text}\n\nQ: {question} ({question})\n", "x");
    CHECK(p.fill("A {text}.", "Who?") == "Read:\nA {text}.\n\nQ: Who? (Who?)");
    CHECK(p.before_text("Who?") == "Read:\n");
    CHECK(p.after_text("Who?") == "\n\nQ: Who? (Who?)");
    CHECK(p.has_text());
    CHECK(p.has_question());
    CHECK(PromptText::parse("{text}", "x").fill("A") == "A");
    PromptText plain = PromptText::parse("Be brief.\n\n", "x");
    CHECK(plain.fill("A") == "Be brief.\n");  // one newline goes
    CHECK(plain.before_text() == "Be brief.\n");
    CHECK(plain.after_text() == "");
    CHECK_FALSE(plain.has_text());
}

TEST_CASE("a doubled brace is a brace") {
    CHECK(PromptText::parse("{{text} }} {{{text}", "x").fill("A") == "{text} }} {A");
    CHECK(PromptText::parse("a } b", "x").fill("") == "a } b");
}

TEST_CASE("an unknown name in braces is an error") {
    for (const char* bad : {"{txt}", "{", "{}", "{text", "{ text }", "a {Text} b", "{question"}) {
        CAPTURE(bad);
        CHECK_THROWS_AS(PromptText::parse(bad, "my.txt"), FileError);
        CHECK_THROWS_WITH(PromptText::parse(bad, "my.txt"),
                          Contains("\"my.txt\"") && Contains("expected {text} or {question}, found \"{"));
    }
    CHECK_THROWS_WITH(PromptText::parse("{text} {text}", "my.txt"), Contains("{text} stands in it twice"));
    CHECK_THROWS_WITH(PromptText::parse("\xff", "my.txt"), Contains("not UTF-8"));
    CHECK_THROWS_WITH(PromptText::parse("\xff\xfe", "my.txt"), Contains("\"my.txt\"") && Contains("iconv"));
}

TEST_CASE("the built-in prompts read") {
    Place place;
    CHECK(PromptText::named("summarize").fill("DOCUMENT") == "DOCUMENT\n\nSummarize the text above.");
    CHECK(PromptText::named("ask").fill("DOCUMENT", "Who?") == "DOCUMENT\n\nWho?");
    CHECK(builtin_prompt("summarize") == "{text}\n\nSummarize the text above.\n");
    CHECK_FALSE(builtin_prompt("nothing"));
    CHECK_THROWS_WITH(PromptText::named("nothing"), Contains("no prompt is called \"nothing\""));
}

TEST_CASE("a user's own prompt wins: SAMBA_LM_PROMPTS, XDG_CONFIG_HOME, HOME, built-in") {
    Place place;
    place.file("home/.config/samba-lm/prompts/ask.txt", "home {text} {question}\n");
    place.set("HOME", "home");
    CHECK(PromptText::named("ask").fill("T", "Q") == "home T Q");
    place.file("xdg/samba-lm/prompts/ask.txt", "xdg {text}");
    place.set("XDG_CONFIG_HOME", "xdg");
    CHECK(PromptText::named("ask").fill("T") == "xdg T");
    place.file("own/summarize.txt", "own {text}");
    place.set("SAMBA_LM_PROMPTS", "own");
    CHECK(PromptText::named("summarize").fill("T") == "own T");
    CHECK(PromptText::named("ask").fill("T") == "xdg T");  // not in "own"
    place.file("own/ask.txt", "own {text}");
    CHECK(PromptText::named("ask").fill("T") == "own T");
    std::string broken = place.file("own/ask.txt", "own {txt}");
    CHECK_THROWS_WITH(PromptText::named("ask"), Contains(broken));
    place.set("SAMBA_LM_PROMPTS", "nowhere");
    CHECK_THROWS_WITH(PromptText::named("ask"), Contains("SAMBA_LM_PROMPTS: expected a directory"));
    setenv("SAMBA_LM_PROMPTS", "", 1);
    setenv("XDG_CONFIG_HOME", "relative/path", 1);  // such a path is to be ignored
    CHECK(PromptText::named("ask").fill("T", "Q") == "home T Q");
}
