// One run of summarize: reads its files once, feeds whoever needs the text, prints what was asked for.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "app/progress.h"
#include "app/summary_printer.h"
#include "engine/state_reader.h"
#include "engine/summarizer.h"

namespace samba {

struct SummarizeOptions {
    std::vector<std::string> files, questions;
    std::string method;  // empty: the model file's
    int64_t section = 1200, words = 100, every = 0;
    std::string language = "en";
    bool offsets = false, json = false, restart = false;
    std::string save_state, from_state, chat_template;
    SamplingOptions sampling;
};

class SummarizeRun {
  public:
    // How many slots of the engine a method needs; empty: whatever the model file will say.
    static int slots(const SummarizeOptions& options);

    // `files`: what there is to read, in order. `seed` is the run's.
    SummarizeRun(const SummarizeOptions& options, Engine& engine, std::vector<std::string> files, uint64_t seed);

    int run();  // the exit status

  private:
    const SummarizeOptions& options_;
    Engine& engine_;
    uint64_t seed_;
    std::string method_;
    InputFiles input_;
    std::vector<StateSource> earlier_;  // read before this run, by a pipe
    bool goes_on_ = false;              // the first bytes belong to a file that was begun earlier
    SummaryPrinter printer_;
    Progress progress_;
    std::unique_ptr<StateReader> reader_;     // null: nobody needs the state
    std::unique_ptr<Summarizer> summarizer_;  // null: the state answers
    double begun_ = 0, saved_at_ = 0;

    void prepare();
    void resume(const std::string& path, bool skip);
    std::unique_ptr<Summarizer> make_summarizer();
    void read();
    void take(const InputFiles::Piece& piece);
    void print_all(bool at_end, int64_t tokens);
    void print_answer(const std::string& prompt, const std::string& question);
    void save(bool now);
    void tell_end() const;
    void tell_recall() const;
    int64_t tokens() const;
    GenerateOptions generation() const;
    nlohmann::ordered_json numbers() const;
};

}  // namespace samba
