// samba-lm chat: a conversation on the terminal, or one answer to what a pipe brings.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <cstdlib>

#include "app/chat_shell.h"
#include "app/commands.h"
#include "app/output.h"
#include "app/text_changes.h"
#include "engine/text_stream.h"
#include "kernels/error.h"

namespace samba {
namespace {

struct Options {
    std::string chat_template, session, snapshots = "1G";
    std::optional<std::string> system;
    bool plain = false, no_history = false;
    SamplingOptions sampling;
};

constexpr char kExamples[] =
    "/help lists the commands of the chat. With standard input not a terminal it answers\n"
    "what it reads there, once, and leaves.\n\n"
    "Examples:\n"
    "  samba-lm chat\n"
    "  samba-lm chat --system \"You are a pirate.\" --temp 0.5\n"
    "  samba-lm chat --session notes.chat\n"
    "  echo \"What is the moon?\" | samba-lm chat";

bool is_dumb_terminal() {
    const char* term = std::getenv("TERM");
    return !term || !*term || std::string_view(term) == "dumb" || !stderr_is_terminal();
}

// What the session's file decides, before the model is loaded.
void follow_session(const Options& o, const CommonOptions& common, EngineOptions& engine) {
    StateHeader header = read_state_header(o.session);
    std::string name = visible_line(o.session);
    if (header.kind != StateKind::kChat) {
        throw FileError(name + ": a " + state_kind_name(header.kind) + " state, expected a chat");
    }
    if (engine.ring_type && *engine.ring_type != header.ring_type) {
        throw UsageError("--ring-type " + common.ring_type + ": the session " + name + " has " +
                         info(header.ring_type).name);
    }
    engine.ring_type = header.ring_type;
    bool has_system = !header.messages.empty() && header.messages[0].role == "system";
    if (o.system && text_or_file(*o.system) != (has_system ? header.messages[0].content : "")) {
        throw UsageError("--system is not the system prompt of " + name +
                         "; leave it out, or change it in the chat with /system");
    }
}

std::string read_message() {
    std::string bytes = read_file("-");
    TextChanges changes;
    std::string text = clean_text(bytes, &changes.invalid_bytes, &changes.replaced_spaces);
    tell_changes(changes, "standard input");
    if (text.ends_with('\n')) text.pop_back();
    if (text.find_first_not_of(" \t\n") == std::string::npos) {
        throw UsageError("no message: standard input is empty");
    }
    return text;
}

void greet(const Engine& engine, const Conversation& chat) {
    std::string turns;
    if (!chat.messages().empty() && chat.last_message()) {
        turns = ", " + std::to_string(chat.messages().size()) + " messages so far";
    }
    spdlog::info("{} ({}){}; /help lists the commands, Ctrl-D leaves", visible_line(engine.config().name),
                 engine.file().file_type, turns);
}

int run(const Options& o, CommonOptions& common) {
    uint64_t snapshot_bytes = parse_size("--snapshots", o.snapshots);
    EngineOptions engine_opts = engine_options(common);
    if (!o.chat_template.empty()) engine_opts.chat_template = name_or_path(o.chat_template);
    std::optional<StateFileLock> lock;
    if (!o.session.empty()) lock.emplace(o.session);
    bool resumes = lock && !lock->is_new();
    if (resumes) follow_session(o, common, engine_opts);
    bool interactive = ::isatty(STDIN_FILENO);
    std::string message = interactive ? "" : read_message();

    std::unique_ptr<Engine> engine = open_engine(engine_opts);
    Conversation::Options options;
    if (o.system) options.system = text_or_file(*o.system);
    options.snapshot_bytes = snapshot_bytes;
    Conversation chat(*engine, options);
    if (resumes) chat.resume(load_state(o.session, *engine, StateKind::kChat));
    if (!resumes || common.seed >= 0) chat.set_seed(common.run_seed());
    spdlog::debug("seed {}", chat.seed());

    ChatShell::Options shell_options;
    shell_options.plain = o.plain || is_dumb_terminal();
    if (!o.no_history && interactive) shell_options.history_path = LineHistory::default_path();
    shell_options.sampling = o.sampling;
    ChatShell shell(*engine, chat, lock ? &*lock : nullptr, shell_options);
    if (!interactive) return shell.answer(message);
    greet(*engine, chat);
    return shell.run();
}

}  // namespace

RunCommand add_chat(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "--system", o->system, "TEXT|@FILE", "system prompt");
    add_text(app, "--template", o->chat_template, "NAME|FILE", "chat template [the file's]");
    one_shot(add_text(app, "--session", o->session, "FILE",
                      "a chat that goes on: read at the start if it is there, "
                      "saved after every reply"));
    add_text(app, "--snapshots", o->snapshots, "SIZE", "memory for going back without reading again [1G]");
    add_flag(app, "--plain", o->plain, "no line editing, for dumb terminals");
    add_flag(app, "--no-history", o->no_history, "keep no history of what was typed");
    add_sampling_options(app, o->sampling, -1);
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
