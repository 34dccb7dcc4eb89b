#include "app/chat_shell.h"

#include <spdlog/spdlog.h>

#include "app/logging.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/text_changes.h"
#include "engine/text_stream.h"
#include "kernels/error.h"

namespace samba {
namespace {

constexpr int64_t kDefaultMaxTokens = -1;

bool blank(const std::string& text) { return text.find_first_not_of(" \t\n") == std::string::npos; }

}  // namespace

ChatShell::ChatShell(Engine& engine, Conversation& chat, StateFileLock* session, const Options& options)
    : engine_(engine),
      chat_(chat),
      session_(session),
      options_(options),
      editor_(options.plain, LineHistory(options.history_path)) {}

GenerateOptions ChatShell::generation() const {
    return generate_options(options_.sampling, engine_, chat_.seed(), kDefaultMaxTokens);
}

// ---- turns -----------------------------------------------------------------------------------------------------

void ChatShell::turn(Turn kind, const ChatMessage& message) {
    Progress progress("reading", "tokens");
    bool ends_line = true;
    auto reading = [&](int64_t fed) {
        progress.update(static_cast<uint64_t>(fed));
        return !interrupted();
    };
    auto show = [&](const TokenEvent& event) {
        hide_progress();
        print_text(event.text);
        if (!event.text.empty()) ends_line = event.text.back() == '\n';
        return !interrupted();
    };
    std::optional<Reply> reply;
    switch (kind) {
        case Turn::kSay:
            reply = chat_.say(message, generation(), show, reading);
            break;
        case Turn::kEdit:
            reply = chat_.edit(message, generation(), show, reading);
            break;
        case Turn::kRegenerate:
            reply = chat_.regenerate(generation(), show, reading);
            break;
    }
    hide_progress();
    editing_ = !reply && kind == Turn::kEdit;
    if (!reply) {
        begin_ = message.content;
        return;
    }
    if (kind == Turn::kSay) files_.clear();
    last_ = std::move(reply);
    show_end(*last_, ends_line);
    save_session();
}

void ChatShell::show_end(const Reply& reply, bool ends_line) const {
    if (!ends_line || reply.ids.empty()) print("\n");
    flush_output();
    for (const StateSource& file : chat_.last_message()->files) tell_changes(chat_.changes(), file.path);
    if (reply.finish == FinishReason::kLength && chat_.session().room() <= 0) {
        spdlog::warn("the context is full: full attention takes {} tokens (--max-context); /clear begins anew",
                     engine_.model().max_positions());
    } else if (reply.finish == FinishReason::kLength) {
        spdlog::info("the reply ended at {} tokens (-n)", reply.ids.size());
    }
    spdlog::debug("prompt: {} tokens; reply: {} tokens, {:.1f} tokens/s, finish_reason {}", reply.prompt_tokens,
                  reply.ids.size(), static_cast<double>(reply.ids.size()) / std::max(reply.generate_seconds, 1e-9),
                  finish_name(reply.finish));
}

void ChatShell::save_session() {
    if (session_) session_->save(chat_.saved(), engine_);
}

int ChatShell::answer(const std::string& message) {
    turn(Turn::kSay, {"user", message, {}});
    return interrupt_status();
}

// ---- lines -----------------------------------------------------------------------------------------------------

// `text` goes on with more lines: it opened """, or the line ends with a backslash.
bool ChatShell::read_more(std::string& text, const std::string& line) {
    constexpr std::string_view kBlock = "\"\"\"";
    bool block = text.starts_with(kBlock);
    if (!block) {
        if (!line.ends_with('\\')) return false;
        text.back() = '\n';
        return true;
    }
    if (text.size() < 2 * kBlock.size() || !text.ends_with(kBlock)) {
        text += '\n';
        return true;
    }
    text = text.substr(kBlock.size(), text.size() - 2 * kBlock.size());
    if (text.starts_with('\n')) text.erase(0, 1);
    if (text.ends_with('\n')) text.pop_back();
    return false;
}

LineEditor::Result ChatShell::read_entry(std::string& text) {
    text.clear();
    std::string line, begin = std::exchange(begin_, {});
    do {
        LineEditor::Result result = editor_.read(text.empty() ? "> " : ". ", begin, line);
        begin.clear();
        if (result == LineEditor::Result::kInterrupted) return result;
        if (result == LineEditor::Result::kEnd) return text.empty() ? result : LineEditor::Result::kInterrupted;
        text += line;
    } while (read_more(text, line));
    return LineEditor::Result::kLine;
}

void ChatShell::take(const std::string& text) {
    bool one_line = text.find('\n') == std::string::npos;
    if (one_line && text.starts_with('/') && !text.starts_with("//")) {
        if (!command(text)) {
            spdlog::error("{}: no such command; /help lists them, //{} sends it to the model", visible_line(text),
                          visible_line(text.substr(1)));
        }
        return;
    }
    std::string message = one_line && text.starts_with("//") ? text.substr(1) : text;
    if (editing_) {
        turn(Turn::kEdit, {"user", message, chat_.last_message()->files});
    } else {
        turn(Turn::kSay, {"user", message, files_});
    }
}

int ChatShell::run() {
    std::string text;
    while (!leave_) {
        LineEditor::Result result = read_entry(text);
        if (result == LineEditor::Result::kEnd) break;
        if (result == LineEditor::Result::kInterrupted) {
            if (interrupted() && !take_interrupt()) break;
            if (std::exchange(editing_, false)) spdlog::info("not edited");
            for (const StateSource& file : std::exchange(files_, {})) {
                spdlog::info("{} is not read", visible_line(file.path));
            }
            continue;
        }
        if (blank(text)) continue;
        editor_.remember(text);
        try {
            take(clean_text(text));
        } catch (const BrokenPipe&) {
            throw;
        } catch (const Error& e) {
            hide_progress();
            spdlog::error("{}", e.what());
            editing_ = false;
            files_.clear();
        }
        if (interrupted() && !take_interrupt()) break;
    }
    save_session();
    return interrupt_status();
}

}  // namespace samba
