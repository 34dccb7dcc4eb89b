// samba-lm complete: goes on with a text, or answers one message.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/output.h"
#include "app/prompt_feeder.h"
#include "app/prompt_input.h"
#include "app/reply_printer.h"
#include "app/signals.h"
#include "app/text_changes.h"
#include "engine/session_file.h"
#include "engine/text_stream.h"
#include "kernels/error.h"
#include "models/progress.h"

namespace samba {
namespace {

constexpr int64_t kDefaultMaxTokens = 512;

struct Options {
    PromptOptions prompt;
    bool chat = false, echo = false, json = false, jsonl = false, force = false;
    std::optional<std::string> system;
    std::string chat_template, save_state, load_state;
    std::optional<int64_t> logprobs;
    SamplingOptions sampling;

    bool is_chat() const { return chat || system || !chat_template.empty(); }
};

constexpr char kExamples[] =
    "The prompt is standard input, then each -f FILE, then PROMPT, joined by a blank line.\n\n"
    "Examples:\n"
    "  samba-lm complete \"Once upon a time\"\n"
    "  samba-lm complete --chat \"What is the moon?\"\n"
    "  samba-lm complete -f chapter.txt --temp 0 -n 100\n"
    "  git log -3 | samba-lm complete --chat \"What changed?\" --json\n"
    "  samba-lm complete -f manual.txt -n 0 --save-state manual.state\n"
    "  samba-lm complete --load-state manual.state \"To begin,\"";

void check(const Options& o) {
    if (o.json && o.jsonl) throw UsageError("--json and --jsonl-stream contradict each other");
    if (o.logprobs && !o.json && !o.jsonl) throw UsageError("--logprobs needs --json or --jsonl-stream");
    if (o.echo && o.jsonl) throw UsageError("--echo and --jsonl-stream contradict each other");
    struct stat status {};
    if (!o.save_state.empty() && !o.force && ::stat(o.save_state.c_str(), &status) == 0) {
        throw UsageError("--save-state " + visible_line(o.save_state) + ": exists already (--force replaces it)");
    }
}

std::unique_ptr<Engine> open(const Options& o, const CommonOptions& common) {
    EngineOptions options = engine_options(common);
    if (!o.chat_template.empty()) options.chat_template = name_or_path(o.chat_template);
    if (!o.load_state.empty()) {
        DType ring_type = read_state_header(o.load_state).ring_type;
        if (options.ring_type && *options.ring_type != ring_type) {
            throw UsageError("--ring-type " + common.ring_type + ": " + visible_line(o.load_state) + " has " +
                             info(ring_type).name);
        }
        options.ring_type = ring_type;
    }
    return open_engine(options);
}

// One prompt through tokenizer and template into the session.
class Prompt {
  public:
    Prompt(const Options& o, Engine& engine, Session& session)
        : options_(o), tokenizer_(engine.tokenizer()), feeder_(session), loaded_(!o.load_state.empty()) {
        if (o.is_chat()) template_ = &engine.require_template();
    }

    // Text that was echoed comes back through `echo`.
    void read(PromptInput& input, const std::function<void(std::string_view)>& echo) {
        StreamEncoder encoder(tokenizer_, loaded_ && !template_);
        std::vector<int32_t> ids = template_ ? chat_begin() : raw_begin();
        auto feed = [&] {
            feeder_.push(ids);
            ids.clear();
        };
        ChatTemplate::Edge before, after;
        if (template_) {
            before = template_->opening(tokenizer_, "user");
            after = template_->closing(tokenizer_, "user");
        }
        ids.insert(ids.end(), before.ids.begin(), before.ids.end());
        encoder.push(before.text, ids);
        input.read([&](std::string_view text) {
            if (feeder_.stopped()) throw Cancelled("interrupted");
            encoder.push(text, ids);
            echo(text);
            feed();
        });
        encoder.push(after.text, ids);
        encoder.finish(ids);
        ids.insert(ids.end(), after.ids.begin(), after.ids.end());
        if (template_) {
            std::vector<int32_t> opening = template_->reply_opening(tokenizer_);
            ids.insert(ids.end(), opening.begin(), opening.end());
        } else if (!input.any_text() && !loaded_ && ids.empty()) {
            ids.push_back(begin_token());
        }
        feed();
        tell_changes({.forced_cuts = encoder.forced_cuts()}, "the prompt");
    }

    PromptFeeder& feeder() { return feeder_; }
    const ChatTemplate* chat_template() const { return template_; }

  private:
    const Options& options_;
    const Tokenizer& tokenizer_;
    const ChatTemplate* template_ = nullptr;
    PromptFeeder feeder_;
    bool loaded_;

    std::vector<int32_t> chat_begin() const {
        std::vector<int32_t> ids = loaded_ ? std::vector<int32_t>{} : template_->begin(tokenizer_);
        if (options_.system) {
            std::vector<int32_t> system = template_->encode(tokenizer_, {"system", text_or_file(*options_.system)});
            ids.insert(ids.end(), system.begin(), system.end());
        }
        return ids;
    }

    std::vector<int32_t> raw_begin() const {
        return tokenizer_.add_bos() && !loaded_ ? std::vector<int32_t>{tokenizer_.bos()} : std::vector<int32_t>{};
    }

    int32_t begin_token() const {
        int32_t id = tokenizer_.bos() >= 0 ? tokenizer_.bos() : tokenizer_.eos();
        if (id < 0) throw UsageError("the prompt is empty, and the model has no begin token to start from");
        return id;
    }
};

GenerateOptions reply_options(const Options& o, const Prompt& prompt, const Engine& engine, uint64_t seed,
                              bool from_nothing) {
    GenerateOptions options = generate_options(o.sampling, engine, seed, kDefaultMaxTokens);
    const Tokenizer& tokenizer = engine.tokenizer();
    options.end_ids = tokenizer.end_ids();
    if (const ChatTemplate* t = prompt.chat_template()) {
        std::vector<int32_t> more = t->end_ids(tokenizer);
        options.end_ids.insert(options.end_ids.begin(), more.begin(), more.end());
    }
    options.strip_first_space = prompt.chat_template() || from_nothing;
    options.sampling.n_top = static_cast<int>(o.logprobs.value_or(0));
    return options;
}

// What generate() would give for a prompt that a signal cut short.
Reply nothing_said() {
    Reply reply;
    reply.finish = FinishReason::kInterrupted;
    return reply;
}

Reply answer(const Options& o, Engine& engine, Session& session, PromptInput& input, uint64_t seed,
             ReplyPrinter& printer) {
    Prompt prompt(o, engine, session);
    bool interrupted_early = false;
    try {
        prompt.read(input, [&](std::string_view text) {
            if (o.echo) printer.echo(text);
        });
    } catch (const Cancelled&) {
        interrupted_early = true;
    }
    PromptFeeder& feeder = prompt.feeder();
    bool from_nothing = !input.any_text() && o.load_state.empty();
    bool needs_text = o.load_state.empty() || o.is_chat();
    if (input.only_implicit_stdin() && !input.any_text() && needs_text && !interrupted_early) {
        throw UsageError("no prompt: standard input is empty; give a text, -f FILE or a pipe");
    }
    Reply reply;
    if (interrupted_early || feeder.stopped()) {
        reply = nothing_said();
    } else {
        GenerateOptions options = reply_options(o, prompt, engine, seed, from_nothing);
        int64_t fed = feeder.fed();
        reply = generate(
            session, feeder.rest(), options,
            [&](const TokenEvent& event) {
                hide_progress();
                return printer.token(event) && !interrupted();
            },
            [&](int64_t n) {
                feeder.progress().update(static_cast<uint64_t>(fed + n));
                return !interrupted();
            });
        if (reply.finish == FinishReason::kLength && session.room() <= 0) {
            spdlog::warn("the context is full: full attention takes {} tokens (--max-context)",
                         engine.model().max_positions());
        }
    }
    reply.prompt_tokens += feeder.fed();
    reply.prompt_seconds += feeder.seconds();
    return reply;
}

int run(const Options& o, CommonOptions& common) {
    check(o);
    PromptInput input(o.prompt);
    if (input.none() && o.load_state.empty()) {
        throw UsageError("no prompt: give a text, -f FILE or a pipe; see samba-lm complete --help");
    }
    if (input.none() && o.is_chat()) throw UsageError("no prompt: give a text, -f FILE or a pipe");
    std::unique_ptr<Engine> engine = open(o, common);
    Session session(*engine);
    if (!o.load_state.empty()) session.restore(load_state(o.load_state, *engine, StateKind::kRaw).now);
    uint64_t seed = common.run_seed();
    spdlog::debug("seed {}", seed);
    ReplyPrinter printer(*engine, seed, {o.json, o.jsonl, o.logprobs.has_value()});
    Reply reply = answer(o, *engine, session, input, seed, printer);
    if (!printer.closed()) printer.finish(reply);
    bool cut_short = reply.finish == FinishReason::kInterrupted && reply.ids.empty();
    if (!o.save_state.empty() && cut_short) {
        spdlog::warn("interrupted while reading the prompt: {} was not written", visible_line(o.save_state));
    } else if (!o.save_state.empty()) {
        SavedState state;
        state.kind = StateKind::kRaw;
        state.seed = seed;
        state.now = session.snapshot();
        save_state(o.save_state, state, *engine);
    }
    return reply.finish == FinishReason::kInterrupted ? interrupt_status() : 0;  // 0: nobody reads any more
}

}  // namespace

RunCommand add_complete(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "PROMPT", o->prompt.argument, "TEXT", "the text to go on with");
    one_shot(
        add_texts(app, "-f,--file", o->prompt.files, "FILE", "text from a file (repeatable); - is standard input"));
    one_shot(add_flag(app, "--no-stdin", o->prompt.no_stdin, "never read standard input"));
    add_flag(app, "--chat", o->chat, "the prompt is a message: apply the model's chat template");
    add_text(app, "--system", o->system, "TEXT|@FILE", "system prompt; means --chat");
    add_text(app, "--template", o->chat_template, "NAME|FILE", "chat template [the file's]; means --chat");
    add_flag(app, "--echo", o->echo, "print the prompt as well");
    add_flag(app, "--json", o->json, "one report as JSON instead of the text");
    add_flag(app, "--jsonl-stream", o->jsonl, "a line of JSON for each token, as it comes");
    add_integer(app, "--logprobs", o->logprobs, "N", "in JSON: logprobs of the tokens, and of the N best of each",
                {0, 1000});
    one_shot(add_text(app, "--save-state", o->save_state, "FILE", "write the state after the reply"));
    one_shot(add_text(app, "--load-state", o->load_state, "FILE", "go on from a saved state"));
    one_shot(add_flag(app, "--force", o->force, "replace an existing state file"));
    add_sampling_options(app, o->sampling, kDefaultMaxTokens);
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
