// A line typed on the terminal: with editing, history and pasting, or plain.
#pragma once
#include <memory>
#include <string>

#include "app/line_history.h"

namespace samba {

class LineEditor {
  public:
    // `plain`: no editing and no escape sequences. Prompts and echo go to stderr, stdout is for the replies.
    LineEditor(bool plain, LineHistory history);
    ~LineEditor();

    enum class Result {
        kLine,
        kInterrupted,  // a signal came; what was typed is dropped
        kEnd,          // Ctrl-D on an empty line, or the input ended
    };
    // `begin` stands on the line already. Pasted text may bring newlines.
    Result read(const std::string& prompt, const std::string& begin, std::string& line);
    void remember(const std::string& entry);

  private:
    struct Editor;  // libedit
    LineHistory history_;
    std::unique_ptr<Editor> editor_;  // null: plain
    std::string waiting_;             // plain: bytes read beyond the line

    Result read_plain(const std::string& prompt, std::string& line);
};

}  // namespace samba
