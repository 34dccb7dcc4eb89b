// What the slash commands of chat do.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <functional>

#include "app/chat_shell.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "kernels/error.h"

namespace samba {
namespace {

constexpr char kHelp[] =
    "/help               this list\n"
    "/exit, /bye         leave (so does Ctrl-D)\n"
    "/clear              forget the turns, keep the system prompt\n"
    "/system TEXT        forget the turns, with a new system prompt\n"
    "/read FILE          put a file before the next message\n"
    "/regen              another reply\n"
    "/undo               take back the last turn, /clear or /system\n"
    "/edit               change the last message\n"
    "/save FILE          save the chat with its state\n"
    "/load FILE          go on with a saved chat\n"
    "/set OPTION VALUE   change a sampling option: /set temp 0.5\n"
    "/show               model, settings and where the chat stands\n"
    "/stats              speed of the last reply, size of the state\n"
    "//TEXT              send a message that begins with a slash\n"
    "\"\"\" on a line of its own, or \\ at a line's end: the message goes on\n"
    "Ctrl-C              stop the reply; while it reads, take the message back\n";

std::string first_words(const std::string& text) {
    constexpr size_t kMost = 50;
    std::string line = visible_line(text.substr(0, text.find('\n')));
    if (line.size() <= kMost && line.size() == text.size()) return line;
    size_t cut = std::min(line.size(), kMost);
    while (cut > 0 && (static_cast<unsigned char>(line[cut]) & 0xc0) == 0x80) --cut;
    return line.substr(0, cut) + "…";
}

}  // namespace

// False: there is no such command.
bool ChatShell::command(const std::string& text) {
    size_t name_end = std::min(text.find(' '), text.size());
    std::string name = text.substr(1, name_end - 1), rest = text.substr(name_end);
    rest.erase(0, rest.find_first_not_of(' '));
    while (rest.ends_with(' ')) rest.pop_back();

    struct Entry {
        std::string_view name;
        bool takes_rest;
        std::function<void()> run;
    };
    const Entry entries[] = {
        {"help", false, [&] { print(kHelp); }},
        {"exit", false, [&] { leave_ = true; }},
        {"bye", false, [&] { leave_ = true; }},
        {"clear", false,
         [&] {
             chat_.clear();
             files_.clear();
             save_session();
         }},
        {"system", true,
         [&] {
             chat_.set_system(text_or_file(rest));
             save_session();
         }},
        {"read", true, [&] { read_file(rest); }},
        {"regen", false, [&] { regenerate(); }},
        {"undo", false, [&] { undo(); }},
        {"edit", false, [&] { edit(); }},
        {"save", true, [&] { save(rest); }},
        {"load", true, [&] { load(rest); }},
        {"set", true, [&] { set(rest); }},
        {"show", false, [&] { show(); }},
        {"stats", false, [&] { stats(); }},
    };
    for (const Entry& entry : entries) {
        if (name != entry.name) continue;
        if (!entry.takes_rest && !rest.empty()) throw UsageError("/" + name + " takes nothing after it");
        if (entry.takes_rest && rest.empty()) throw UsageError("/" + name + ": what? /help shows how it is used");
        entry.run();
        flush_output();
        return true;
    }
    return false;
}

void ChatShell::read_file(const std::string& path) {
    if (path == "-") throw UsageError("/read: standard input is where you type; name a file");
    InputFile file(path);
    files_.push_back({path, 0, 0});
    spdlog::info("{} ({}) goes before your next message", visible_line(path),
                 human_bytes(static_cast<double>(file.size())));
}

void ChatShell::regenerate() {
    if (chat_.last_message() && generation().sampling.temp == 0) {
        spdlog::info("at temperature 0 the reply is the same; /set temp 0.8 gives others");
        return;
    }
    turn(Turn::kRegenerate, {});
}

void ChatShell::undo() {
    const ChatMessage* last = chat_.last_message();
    std::string what = last ? "\"" + first_words(last->content) + "\"" : "the last /clear or /system";
    Progress progress("reading again", "tokens");
    Conversation::Undone undone = chat_.undo([&](int64_t fed) {
        progress.update(static_cast<uint64_t>(fed));
        return !interrupted();
    });
    hide_progress();
    switch (undone.what) {
        case Conversation::Undo::kNothing:
            spdlog::info("there is nothing to take back");
            return;
        case Conversation::Undo::kStopped:
            spdlog::info("not taken back");
            return;
        case Conversation::Undo::kDone:
            spdlog::info("took back {}", what);
            break;
    }
    if (undone.read_again > 0) {
        spdlog::info("{} tokens were read again: no snapshot of that turn was kept", with_commas(undone.read_again));
    }
    save_session();
}

void ChatShell::edit() {
    if (!chat_.last_message()) throw UsageError("there is no message to edit");
    begin_ = chat_.last_message()->content;
    editing_ = true;
}

void ChatShell::save(const std::string& path) {
    struct stat status;
    if (path != own_file_ && ::stat(path.c_str(), &status) == 0) {
        throw UsageError(visible_line(path) + " exists already; save under another name");
    }
    save_state(path, chat_.saved(), engine_);
    own_file_ = path;
    spdlog::info("saved as {}", visible_line(path));
}

void ChatShell::load(const std::string& path) {
    chat_.resume(load_state(path, engine_, StateKind::kChat));
    own_file_ = path;
    files_.clear();
    spdlog::info("{}: {} messages, {} tokens", visible_line(path), chat_.messages().size(),
                 with_commas(chat_.session().position()));
    save_session();
}

void ChatShell::set(const std::string& words) {
    size_t space = std::min(words.find(' '), words.size());
    std::string name = words.substr(0, space), value = words.substr(space);
    value.erase(0, value.find_first_not_of(' '));
    while (name.starts_with('-')) name.erase(0, 1);
    if (value.empty()) throw UsageError("/set OPTION VALUE: " + visible_line(name) + " needs a value");
    SamplingOptions changed = options_.sampling;
    set_sampling_option(changed, name, value);
    generate_options(changed, engine_, 0, -1);  // does the model have what it names?
    options_.sampling = changed;
}

void ChatShell::show() const {
    GenerateOptions g = generation();
    const SamplingParams& p = g.sampling;
    auto line = [](const std::string& name, const std::string& value) {
        print(name + std::string(10 - name.size(), ' ') + value + "\n");
    };
    line("model", visible_line(engine_.config().name) + " (" + engine_.file().file_type + ") on " +
                      engine_.backend().name() + ", template " + visible_line(engine_.require_template().name()));
    line("system", chat_.system().empty() ? "none" : first_words(chat_.system()));
    line("chat", std::to_string(chat_.messages().size()) + " messages, " + with_commas(chat_.session().position()) +
                     " tokens read");
    for (const StateSource& file : files_) line("to read", visible_line(file.path));
    line("sampling", "temp " + fixed(p.temp, 2) + ", top-k " + std::to_string(p.top_k) + ", top-p " +
                         fixed(p.top_p, 2) + ", min-p " + fixed(p.min_p, 2) + ", repeat-penalty " +
                         fixed(p.repeat_penalty, 2) + ", max-tokens " + std::to_string(g.max_tokens));
    line("seed", std::to_string(chat_.seed()));
}

void ChatShell::stats() const {
    auto rate = [](int64_t n, double seconds) { return fixed(static_cast<double>(n) / std::max(seconds, 1e-9), 0); };
    if (last_) {
        auto n = static_cast<int64_t>(last_->ids.size());
        if (last_->prompt_tokens > 0) print("message   " + with_commas(last_->prompt_tokens) + " tokens\n");
        print("reply     " + with_commas(n) + " tokens, " + rate(n, last_->generate_seconds) + " tokens/s\n");
    }
    print("state     " + human_bytes(static_cast<double>(engine_.state_bytes())) + ", " +
          with_commas(chat_.session().position()) + " tokens read\n");
    print("snapshots " + std::to_string(chat_.snapshots().count()) + ", " +
          human_bytes(static_cast<double>(chat_.snapshots().bytes())) + "\n");
}

}  // namespace samba
