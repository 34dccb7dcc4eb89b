// chat on a terminal: lines in, replies out, and the commands that begin with a slash.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/line_editor.h"
#include "app/options.h"
#include "engine/conversation.h"

namespace samba {

class ChatShell {
  public:
    struct Options {
        bool plain = false;
        std::string history_path;  // empty: kept for this run alone
        SamplingOptions sampling;
    };
    // `session`: the file that is saved after every reply; null: none.
    ChatShell(Engine& engine, Conversation& chat, StateFileLock* session, const Options& options);

    // Until Ctrl-D, /exit or a signal that ends the program; the value is the exit status.
    int run();
    // One message, its reply, done.
    int answer(const std::string& message);

  private:
    Engine& engine_;
    Conversation& chat_;
    StateFileLock* session_;
    Options options_;
    LineEditor editor_;
    std::vector<StateSource> files_;  // of /read: they go before the next message
    std::string own_file_;            // that /save wrote or /load read: /save may replace it
    std::string begin_;               // what stands on the next line: a message that was not read, or one to edit
    bool editing_ = false;            // the next message replaces the last turn
    bool leave_ = false;
    std::optional<Reply> last_;  // for /stats

    enum class Turn { kSay, kEdit, kRegenerate };
    void turn(Turn kind, const ChatMessage& message);
    void show_end(const Reply& reply, bool ends_line) const;
    void save_session();

    LineEditor::Result read_entry(std::string& text);
    bool read_more(std::string& text, const std::string& line);
    void take(const std::string& text);

    bool command(const std::string& text);
    void read_file(const std::string& path);
    void regenerate();
    void undo();
    void edit();
    void save(const std::string& path);
    void load(const std::string& path);
    void set(const std::string& words);
    void show() const;
    void stats() const;
    GenerateOptions generation() const;
};

}  // namespace samba
