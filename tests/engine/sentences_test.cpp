// Sentences of a stream: where they end, that they are the text's own bytes, and that no split changes them.
#include <catch2/catch.hpp>
#include <random>

#include "engine/sentences.h"
#include "tests/engine/shipped_tokenizer.h"

using namespace samba;

namespace {

std::vector<Sentence> sentences_of(std::string_view text, size_t piece = std::string::npos) {
    std::vector<Sentence> all;
    SentenceSplitter splitter;
    auto take = [&](Sentence&& s) { all.push_back(std::move(s)); };
    for (size_t at = 0; at < text.size(); at += std::min(piece, text.size()))
        splitter.push(text.substr(at, piece), take);
    splitter.finish(take);
    return all;
}

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> texts;
    for (Sentence& s : sentences_of(text)) texts.push_back(std::move(s.text));
    return texts;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("sentences end behind their marks", "[sentences]") {
    CHECK(split("One is here. Two is there! Is three? Yes… Four") ==
          Texts{"One is here.", "Two is there!", "Is three?", "Yes…", "Four"});
    CHECK(split("It was 3.14 of 100.000. See example.com or a.b.c now.") ==
          Texts{"It was 3.14 of 100.000.", "See example.com or a.b.c now."});
    CHECK(split("Well... I see. What?! No!!") == Texts{"Well...", "I see.", "What?!", "No!!"});
    CHECK(split("He stopped . . . then went on. End.") == Texts{"He stopped . . . then went on.", "End."});
    CHECK(split("") == Texts{});
    CHECK(split(" \n\t\n ") == Texts{});
}

TEST_CASE("abbreviations, initials and numbers do not end a sentence", "[sentences]") {
    CHECK(split("Mr. Harker met Dr. Seward. Mrs. Westenra slept.") ==
          Texts{"Mr. Harker met Dr. Seward.", "Mrs. Westenra slept."});
    CHECK(split("Use a tool, e.g. This one, i.e. Ours. Done.") ==
          Texts{"Use a tool, e.g. This one, i.e. Ours.", "Done."});
    CHECK(split("J. R. R. Tolkien and J. A. Smith wrote it. He read it.") ==
          Texts{"J. R. R. Tolkien and J. A. Smith wrote it.", "He read it."});
    CHECK(split("It left the U.S. Army at 5 p.m. The rest stayed.") ==
          Texts{"It left the U.S. Army at 5 p.m.", "The rest stayed."});
    CHECK(split("See Fig. 3 and No. 7 on p. 12. No. That is all.") ==
          Texts{"See Fig. 3 and No. 7 on p. 12.", "No.", "That is all."});
    CHECK(split("Apples, pears, etc. were sold. Apples, etc. The end.") ==
          Texts{"Apples, pears, etc. were sold.", "Apples, etc.", "The end."});
    CHECK(split("1. First we go. 2. Then we stop.") == Texts{"1. First we go.", "2. Then we stop."});
    CHECK(split("It was I. She knew.") == Texts{"It was I.", "She knew."});
}

TEST_CASE("quotation marks and brackets belong to their sentence", "[sentences]") {
    CHECK(split("\"What do you mean?\" he asked. \"Nothing.\" She left.") ==
          Texts{"\"What do you mean?\" he asked.", "\"Nothing.\"", "She left."});
    CHECK(split("“Stop!” cried the man. ‘Why?’ (He knew.) Then he ran.") ==
          Texts{"“Stop!” cried the man.", "‘Why?’", "(He knew.)", "Then he ran."});
    CHECK(split("He said \"Go.\", and went. So did I.") == Texts{"He said \"Go.\", and went.", "So did I."});
}

TEST_CASE("paragraphs, headings and list items end where they end", "[sentences]") {
    std::string text = "CHAPTER I\n\nIt was late\nand dark. I slept\n\nNext day";
    CHECK(split(text) == Texts{"CHAPTER I", "It was late\nand dark.", "I slept", "Next day"});
    auto all = sentences_of(text);
    CHECK_FALSE(all[0].ended);
    CHECK(all[1].ended);
    CHECK(all[1].new_paragraph);
    CHECK_FALSE(all[2].new_paragraph);
    CHECK_FALSE(all[2].ended);
    CHECK(split("Introduction\nThe cell is the unit of life. It divides.\nSummary\nCells live.") ==
          Texts{"Introduction", "The cell is the unit of life.", "It divides.", "Summary", "Cells live."});
    CHECK(split("## how it is done\nkernels do it. They are quick.") ==
          Texts{"## how it is done", "kernels do it.", "They are quick."});
    CHECK(split("Needed:\n- two eggs\n- some flour\nMix them.") ==
          Texts{"Needed:", "- two eggs", "- some flour", "Mix them."});
    // A hard-wrapped line is no heading.
    CHECK(split("The quick brown fox jumps over the lazy dog near Old\nLondon Bridge and sleeps.") ==
          Texts{"The quick brown fox jumps over the lazy dog near Old\nLondon Bridge and sleeps."});
    CHECK(split("One\r\n\r\nTwo is\r\nhere.\r\n") == Texts{"One", "Two is\r\nhere."});
}

TEST_CASE("other scripts have their own marks", "[sentences]") {
    CHECK(split("我来了。你走吗？好！再见") == Texts{"我来了。", "你走吗？", "好！", "再见"});
    CHECK(split("“走吧！”他说。然后走了。") == Texts{"“走吧！”他说。", "然后走了。"});
    CHECK(split("「行こう。」と彼は言った。雨だ。") == Texts{"「行こう。」と彼は言った。", "雨だ。"});
    CHECK(split("यह एक है। यह दो है।") == Texts{"यह एक है।", "यह दो है।"});
    CHECK(split("هل هذا صحيح؟ نعم.") == Texts{"هل هذا صحيح؟", "نعم."});
    CHECK(split("Größe zählt. Ähnlich ist es. öfter auch.") == Texts{"Größe zählt.", "Ähnlich ist es. öfter auch."});
}

TEST_CASE("every sentence is the text's own bytes, and every other byte is white space", "[sentences]") {
    std::mt19937 random(3);
    for (int round = 0; round < 300; ++round) {
        std::string text = random_text(random, 60);
        for (const char* more : {". The ", "! ", "。", "? \"", "\n\n", " Mr. X "}) {
            text.insert(random() % (text.size() + 1), more);
        }
        if (round % 3 == 0) text.insert(random() % (text.size() + 1), "\xff\xe2\x82");
        size_t at = 0;
        for (const Sentence& s : sentences_of(text)) {
            REQUIRE(s.offset >= at);
            REQUIRE(text.substr(s.offset, s.text.size()) == s.text);
            for (; at < s.offset; ++at) REQUIRE((static_cast<unsigned char>(text[at]) <= ' ' || (text[at] & 0x80)));
            at = s.offset + s.text.size();
        }
    }
}

TEST_CASE("no split of the stream changes the sentences", "[sentences]") {
    std::mt19937 random(4);
    for (int round = 0; round < 200; ++round) {
        std::string text = random_text(random, 80);
        for (const char* more : {". The ", "! ", "。", "?\" ", "\n\n", " Mr. X ", ".\r\n", "…”\xe2\x80"}) {
            text.insert(random() % (text.size() + 1), more);
        }
        auto whole = sentences_of(text);
        for (size_t piece : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, 1 + random() % 100}) {
            REQUIRE(sentences_of(text, piece) == whole);
        }
    }
}

TEST_CASE("text without an end is cut between words, and little is held", "[sentences]") {
    std::string words, letters(10000, 'x'), signs;
    while (words.size() < 10000) words += "word ";
    while (signs.size() < 10000) signs += "字";
    for (const std::string& text : {words, letters, signs}) {
        auto whole = sentences_of(text);
        REQUIRE(whole.size() >= 3);
        size_t bytes = 0;
        for (const Sentence& s : whole) {
            CHECK(s.text.size() <= SentenceSplitter::kLongest);
            CHECK_FALSE(s.ended);
            bytes += s.text.size();
        }
        CHECK(bytes + whole.size() >= text.size() - 1);
        CHECK(sentences_of(text, 1000) == whole);
    }
    SentenceSplitter splitter;
    size_t most = 0;
    for (int i = 0; i < 1000; ++i) {
        splitter.push(std::string(1000, i % 2 ? ' ' : 'y'), [](Sentence&&) {});
        most = std::max(most, splitter.state().held.size());
    }
    CHECK(most < 3 * SentenceSplitter::kLongest);
}

TEST_CASE("a splitter goes on from its state in another process", "[sentences]") {
    std::string text = "One is here. Mr. Harker\n\nwent on. \"Yes!\" he said. Title\nThe end.";
    auto whole = sentences_of(text);
    for (size_t cut = 0; cut <= text.size(); ++cut) {
        std::vector<Sentence> all;
        auto take = [&](Sentence&& s) { all.push_back(std::move(s)); };
        SentenceSplitter first, second;
        first.push(text.substr(0, cut), take);
        second.resume(first.state());
        second.push(text.substr(cut), take);
        second.finish(take);
        REQUIRE(all == whole);
    }
}
