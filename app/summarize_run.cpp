#include "app/summarize_run.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "app/output.h"
#include "app/signals.h"
#include "app/text_changes.h"
#include "engine/prompts.h"
#include "engine/quote.h"
#include "engine/section_writer.h"
#include "kernels/error.h"

namespace samba {
namespace {

constexpr int64_t kDefaultMaxTokens = 512;
constexpr int kScorerSlots = 16;
constexpr size_t kSliceBytes = 4096;  // between two looks at the clock and at signals
constexpr double kSaveEvery = 60;     // seconds

std::string method_of(const SummarizeOptions& o, const Engine& engine) {
    if (!o.questions.empty()) return "state";
    if (!o.method.empty()) return o.method;
    const std::string& method = engine.file().summary_method;
    return method == "quote" || method == "state" ? method : "write";
}

int64_t peak_memory() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

ShouldStop on_signal() {
    return [] { return interrupted(); };
}

// What stands before the text must not depend on the question, which comes later.
PromptText prompt_named(const std::string& name) {
    PromptText prompt = PromptText::named(name);
    if (!prompt.has_text()) throw UsageError("the prompt \"" + name + "\" has no {text}");
    if (prompt.before_text("a") != prompt.before_text("b")) {
        throw UsageError("the prompt \"" + name + "\": {question} must stand behind {text}, which is read first");
    }
    return prompt;
}

}  // namespace

int SummarizeRun::slots(const SummarizeOptions& o) {
    if (!o.questions.empty() || o.method == "state") return 1;
    return o.method == "write" ? 2 : 1 + kScorerSlots;
}

SummarizeRun::SummarizeRun(const SummarizeOptions& options, Engine& engine, std::vector<std::string> files,
                           uint64_t seed)
    : options_(options),
      engine_(engine),
      seed_(seed),
      method_(method_of(options, engine)),
      input_(files),
      printer_(method_, {options.json, options.offsets, files}),
      progress_("reading", "B", input_.total_bytes()) {
    prepare();
}

GenerateOptions SummarizeRun::generation() const {
    SamplingOptions sampling = options_.sampling;
    if (!sampling.temp) sampling.temp = 0;  // a summary is no place for chance
    return generate_options(sampling, engine_, seed_, kDefaultMaxTokens);
}

int64_t SummarizeRun::tokens() const { return summarizer_ ? summarizer_->tokens() : reader_->tokens(); }

// ---- who reads -------------------------------------------------------------------------------------------------

std::unique_ptr<Summarizer> SummarizeRun::make_summarizer() {
    Summarizer::Options o{options_.section, options_.every, [this](int64_t n) { print_all(false, n); }, on_signal()};
    if (method_ == "write") {
        return std::make_unique<SectionWriter>(engine_, o, prompt_named("summarize"), generation());
    }
    std::string request = prompt_named("summarize").after_text();
    request.erase(0, std::min(request.find_first_not_of(" \n"), request.size()));
    auto scorer = std::make_unique<ReplyScorer>(engine_, Quote::request_ids(engine_, request), kScorerSlots);
    return std::make_unique<Quote>(engine_.tokenizer(), o, Quote::Recipe{options_.words, options_.language},
                                   std::move(scorer));
}

void SummarizeRun::prepare() {
    bool asks = !options_.questions.empty();
    if (!asks && method_ != "state") summarizer_ = make_summarizer();
    std::string saved = options_.from_state;
    bool skip = false;
    if (saved.empty() && !options_.save_state.empty() && !options_.restart &&
        ::access(options_.save_state.c_str(), F_OK) == 0) {
        saved = options_.save_state;
        skip = true;
    }
    bool need_state = !summarizer_ || !options_.save_state.empty() || !saved.empty();
    if (!saved.empty()) {
        resume(saved, skip);
    } else if (need_state) {
        StateReader::Options o{summarizer_ ? 0 : options_.every, [this](int64_t n) { print_all(false, n); }};
        std::string before = prompt_named(asks ? "ask" : "summarize").before_text();
        reader_ = std::make_unique<StateReader>(engine_, before, o);
    }
}

void SummarizeRun::resume(const std::string& path, bool skip) {
    SavedState state = load_state(path, engine_, StateKind::kSummarize);
    StateReader::Options o{summarizer_ ? 0 : options_.every, [this](int64_t n) { print_all(false, n); }};
    reader_ = std::make_unique<StateReader>(engine_, state, o);
    goes_on_ = !state.sources.empty();
    if (skip) {
        input_.skip(state.sources, on_signal());
    } else {
        earlier_ = state.sources;
    }
    if (!summarizer_) return;
    std::string mark = method_ + "\n";
    if (state.summary.starts_with(mark)) {
        summarizer_->resume(state.summary.substr(mark.size()), visible_line(path) + ": section SUMM");
    } else if (goes_on_) {
        spdlog::warn("{} was not saved by --method {}: the summary is of what is read from now on", visible_line(path),
                     method_);
        summarizer_->begin_file("", state.sources.back().bytes);
    }
}

// ---- reading ---------------------------------------------------------------------------------------------------

void SummarizeRun::take(const InputFiles::Piece& piece) {
    if (piece.begins && !std::exchange(goes_on_, false)) {
        std::string name = input_.count() > 1 ? *piece.path : "";
        if (reader_) reader_->begin_file(name);
        if (summarizer_) summarizer_->begin_file(name);
    }
    std::string_view rest = piece.bytes;
    while (!rest.empty()) {
        std::string_view slice = rest.substr(0, kSliceBytes);
        rest.remove_prefix(slice.size());
        if (reader_) reader_->push(slice);
        if (summarizer_) summarizer_->push(slice);
        progress_.update(input_.read_bytes() - rest.size(), with_commas(tokens()) + " tokens");
    }
}

void SummarizeRun::read() {
    begun_ = saved_at_ = now_seconds();
    if (goes_on_ && earlier_.empty()) goes_on_ = false;  // skipped: the file is open already
    while (std::optional<InputFiles::Piece> piece = input_.next(on_signal())) {
        take(*piece);
        save(false);
    }
}

void SummarizeRun::save(bool now) {
    if (options_.save_state.empty() || (!now && now_seconds() - saved_at_ < kSaveEvery)) return;
    SavedState state = reader_->saved();
    state.seed = seed_;
    state.sources = earlier_;
    for (const StateSource& source : input_.sources()) state.sources.push_back(source);
    if (summarizer_) state.summary = method_ + "\n" + summarizer_->save();
    save_state(options_.save_state, state, engine_);
    saved_at_ = now_seconds();
}

// ---- printing --------------------------------------------------------------------------------------------------

void SummarizeRun::print_answer(const std::string& prompt, const std::string& question) {
    Reply reply = reader_->answer(
        prompt_named(prompt).after_text(question), generation(),
        [&](const TokenEvent& event) {
            printer_.text(event.text);
            return !interrupted();
        },
        [](int64_t) { return !interrupted(); });
    printer_.end_text();
}

// The summary, or the answers, to what was read so far.
void SummarizeRun::print_all(bool at_end, int64_t tokens) {
    if (interrupted()) return;
    if (options_.every > 0) printer_.at(tokens);
    if (summarizer_) {
        auto show = [&](const TokenEvent& event) {
            printer_.text(event.text);
            return !interrupted();
        };
        auto parts = summarizer_->summary(at_end, show);
        if (method_ == "write") {
            printer_.end_text();
        } else if (parts) {
            printer_.sentences(*parts);
            if (parts->empty()) spdlog::info("no sentence to quote so far");
        }
    } else if (options_.questions.empty()) {
        print_answer("summarize", "");
    }
    for (const std::string& question : options_.questions) {
        if (interrupted()) break;
        printer_.question(question, options_.questions.size() > 1);
        print_answer("ask", question);
    }
    if (!at_end && !interrupted()) printer_.report({});
}

void SummarizeRun::tell_recall() const {
    int64_t recall = engine_.file().recall_length;
    if (summarizer_ || recall == 0 || reader_->tokens() <= recall) return;
    std::optional<uint64_t> from = reader_->bytes_before_last(recall);
    std::string where = from ? " (from byte " + with_commas(static_cast<int64_t>(*from)) + " on)" : "";
    spdlog::warn(
        "the model can recall the last {} tokens{} of the {} that it read; of what came before, it knows little",
        with_commas(recall), where, with_commas(reader_->tokens()));
}

void SummarizeRun::tell_end() const {
    double seconds = now_seconds() - begun_;
    std::string method = options_.questions.empty() ? "method " + method_ : "asked from the state";
    spdlog::info("{}: {} bytes, {} tokens, {} s, {} tokens/s, peak memory {}", method,
                 with_commas(static_cast<int64_t>(input_.read_bytes())), with_commas(tokens()), fixed(seconds, 1),
                 with_commas(static_cast<int64_t>(static_cast<double>(tokens()) / std::max(seconds, 1e-9))),
                 human_bytes(static_cast<double>(peak_memory())));
}

nlohmann::ordered_json SummarizeRun::numbers() const {
    double seconds = now_seconds() - begun_;
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const StateSource& s : input_.sources()) files.push_back({{"path", s.path}, {"bytes", s.bytes}});
    return {{"model", engine_.config().name},
            {"seed", seed_},
            {"files", files},
            {"bytes", input_.read_bytes()},
            {"tokens", tokens()},
            {"seconds", seconds},
            {"tokens_per_s", static_cast<double>(tokens()) / std::max(seconds, 1e-9)},
            {"peak_memory_bytes", peak_memory()}};
}

int SummarizeRun::run() {
    read();
    save(true);
    if (interrupted()) {
        hide_progress();
        if (!options_.save_state.empty()) spdlog::info("saved as {}", visible_line(options_.save_state));
        return interrupt_status();
    }
    if (input_.read_bytes() == 0 && !(reader_ && reader_->tokens() > 0)) {
        throw UsageError("there is nothing to read: the text is empty");
    }
    print_all(true, tokens());
    if (interrupted()) return interrupt_status();
    printer_.report(numbers());
    hide_progress();
    tell_changes(reader_ ? reader_->changes() : summarizer_->changes(), "the text");
    tell_recall();
    tell_end();
    return 0;
}

}  // namespace samba
