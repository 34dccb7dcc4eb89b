// samba-lm summarize: text of any length, read as a stream in constant memory.
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>

#include "app/commands.h"
#include "app/output.h"
#include "app/summarize_run.h"
#include "kernels/error.h"

namespace samba {
namespace {

constexpr char kExamples[] =
    "Methods: quote prints the text's own key sentences, nothing is invented; write lets the\n"
    "model summarise section by section, then the summaries; state is one reading and one\n"
    "answer from the recurrent state.\n\n"
    "Examples:\n"
    "  samba-lm summarize book.txt\n"
    "  curl -s https://example.org/long.txt | samba-lm summarize --words 200 --offsets\n"
    "  tail -f log.txt | samba-lm summarize --every 5000\n"
    "  samba-lm summarize letter.txt --ask \"Who wrote this?\" --ask \"When?\"\n"
    "  samba-lm summarize book.txt --save-state book.state\n"
    "  samba-lm summarize --from-state book.state --ask \"Who is it about?\"";

void check(const SummarizeOptions& o) {
    if (!o.questions.empty() && (o.method == "quote" || o.method == "write")) {
        throw UsageError("--ask answers from the state: leave out --method " + o.method);
    }
    if (o.restart && o.save_state.empty()) throw UsageError("--restart goes with --save-state");
    if (o.restart && !o.from_state.empty()) throw UsageError("--restart and --from-state contradict each other");
    struct stat status {};
    bool other = !o.from_state.empty() && !o.save_state.empty() && o.from_state != o.save_state;
    if (other && ::stat(o.save_state.c_str(), &status) == 0) {
        throw UsageError("--save-state " + visible_line(o.save_state) +
                         ": exists already, and is not the --from-state; name another file");
    }
    for (const std::string& question : o.questions) {
        if (question.empty()) throw UsageError("--ask: an empty question");
    }
}

// The files named; none: standard input, where it can be meant.
std::vector<std::string> inputs(const SummarizeOptions& o) {
    if (!o.files.empty()) return o.files;
    bool only_asks = !o.from_state.empty() && !o.questions.empty();
    struct stat status {};
    bool more = ::fstat(STDIN_FILENO, &status) == 0 && (S_ISFIFO(status.st_mode) || status.st_size > 0);
    if (only_asks && more && !::isatty(STDIN_FILENO)) {
        spdlog::debug("standard input is not read: name - to read it before the questions");
    }
    if (only_asks || (!o.from_state.empty() && ::isatty(STDIN_FILENO))) return {};
    if (::isatty(STDIN_FILENO)) throw UsageError("no text: name files or give a pipe; see samba-lm summarize --help");
    return {"-"};
}

int run(const SummarizeOptions& given, CommonOptions& common) {
    SummarizeOptions o = given;
    for (std::string& question : o.questions) question = text_or_file(question);
    check(o);
    std::vector<std::string> files = inputs(o);
    EngineOptions engine_opts = engine_options(common);
    if (!o.chat_template.empty()) engine_opts.chat_template = name_or_path(o.chat_template);
    engine_opts.n_slots = SummarizeRun::slots(o);
    engine_opts.n_planes = 1;  // nothing here goes back
    std::string state = o.from_state;
    if (state.empty() && !o.restart && ::access(o.save_state.c_str(), F_OK) == 0) state = o.save_state;
    if (!state.empty()) {
        DType ring_type = read_state_header(state).ring_type;
        if (engine_opts.ring_type && *engine_opts.ring_type != ring_type) {
            throw UsageError("--ring-type " + common.ring_type + ": " + visible_line(state) + " has " +
                             info(ring_type).name);
        }
        engine_opts.ring_type = ring_type;
    }
    std::unique_ptr<Engine> engine = open_engine(engine_opts);
    return SummarizeRun(o, *engine, files, common.run_seed()).run();
}

}  // namespace

RunCommand add_summarize(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<SummarizeOptions>();
    add_texts(app, "FILE", o->files, "FILE", "the text, in order; - is standard input [standard input]");
    add_choice(app, "--method", o->method, {"quote", "write", "state"}, "how to sum up [the model file's, else write]");
    add_integer(app, "--section", o->section, "N", "tokens of a section [1200]", {200, 16384});
    add_integer(app, "--words", o->words, "N", "quote: words of the summary [100]", {1, 10000});
    add_text(app, "--lang", o->language, "NAME", "quote: language of the text, for its word forms, or none [en]");
    add_flag(app, "--offsets", o->offsets, "quote: print where in the text each sentence stands, in bytes");
    add_integer(app, "--every", o->every, "N", "print the summary so far at each N tokens", {1, INT64_MAX});
    one_shot(
        add_texts(app, "--ask", o->questions, "TEXT|@FILE", "answer a question instead of a summary (repeatable)"));
    one_shot(add_text(app, "--save-state", o->save_state, "FILE",
                      "save where the reading stands, every minute and at the end; one that exists is gone on from"));
    one_shot(
        add_text(app, "--from-state", o->from_state, "FILE", "go on from a saved state with the text that follows"));
    one_shot(add_flag(app, "--restart", o->restart, "begin anew although the file of --save-state exists"));
    add_text(app, "--template", o->chat_template, "NAME|FILE", "chat template [the file's]");
    add_flag(app, "--json", o->json, "one report as JSON instead of the text");
    add_sampling_options(app, o->sampling, 512);
    app.get_option("--temp")->description("temperature; 0: always the likeliest token [0]");
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
