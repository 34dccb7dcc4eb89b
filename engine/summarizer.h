// Summaries of a text that arrives as a stream, section by section, in constant memory: what the methods share.
// Sentences are gathered into sections of about so many tokens; a full section becomes something shorter (how, is the
// method's), which is text of the next level. Every level holds one unfinished section.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/reader.h"
#include "engine/sentences.h"

namespace samba {

class ByteWriter;
class ByteReader;

// A sentence of the text, as it stands there; or text that the model wrote.
struct SummaryPart {
    std::string text;
    bool quoted = false;
    uint64_t file = 0, offset = 0;  // quoted: where its first byte is, files counted from 0
};

class Summarizer {
  public:
    struct Options {
        int64_t section_tokens = 1200;
        int64_t every = 0;  // > 0: `at_every` is called whenever that many more tokens were read
        std::function<void(int64_t tokens)> at_every;
        ShouldStop stop;  // asked while the model writes
    };
    Summarizer(const Tokenizer& tokenizer, Options options);
    virtual ~Summarizer() = default;

    // Files come one after another, each after a line with its name if `name` is not empty. `offset`: how many of its
    // bytes are not pushed.
    void begin_file(const std::string& name, uint64_t offset = 0);
    void push(std::string_view bytes);
    // The summary of what was read so far; with `all`, text included that may be the begin of a longer sentence.
    // Reading can go on afterwards. Text that the model writes for it is given out as it comes. None: stopped.
    std::optional<std::vector<SummaryPart>> summary(bool all, const OnToken& on_token);

    // Of the sentences read so far; after a summary of all, the last one included.
    int64_t tokens() const { return read_.tokens + rest_.tokens; }
    TextChanges changes() const;

    // All that is needed to go on in another process, which throws FileError for what no save() gave.
    std::string save() const;
    void resume(const std::string& saved, const std::string& where);

    struct Piece {
        SummaryPart part;
        bool ended = false;          // by an end mark
        bool new_paragraph = false;  // begins one
        bool name = false;           // of a file, no text of it
        int64_t tokens = 0;
        // The method's own, which do not depend on the section:
        double weight = 0;            // from where it stands in the text
        std::optional<double> score;  // from what it says, found when it is needed
    };
    using Section = std::vector<Piece>;

  protected:
    const Tokenizer& tokenizer_;
    Options options_;

    // What becomes of a section; `last`: it is the summary. None: stopped.
    virtual std::optional<Section> reduce(Section section, bool last, const OnToken& on_token) = 0;
    // Scores what a section has not scored yet, so that no copy of it has to.
    virtual void score(Section&) {}
    // Each sentence of the text in its order: weighs it, then goes past it.
    virtual double weigh(const Piece&) const { return 0; }
    virtual void pass(const Piece&) {}
    virtual void save_passed(ByteWriter&) const {}
    virtual void resume_passed(ByteReader&) {}

  private:
    struct Level {
        Section section;
        int64_t tokens = 0;
    };
    SentenceSplitter splitter_;
    std::vector<Level> levels_;
    uint64_t n_files_ = 0;
    bool mark_skipped_ = false;  // the file's byte order mark, if any, was looked for
    std::string begin_;          // its first bytes, until then
    struct Counts {
        int64_t tokens = 0, invalid_bytes = 0, replaced_spaces = 0;
    };
    Counts read_, rest_;  // rest_: of the sentence that was not finished when a summary of all was made

    void split(std::string_view bytes, bool last);
    Piece piece_of(Sentence&& sentence, Counts& counts) const;
    bool add(std::vector<Level>& levels, size_t level, Piece&& piece);
};

}  // namespace samba
