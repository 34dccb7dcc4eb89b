// What was typed before, kept in a file of its own: a line an entry, newlines as \n, mode 0600.
#pragma once
#include <string>
#include <vector>

namespace samba {

class LineHistory {
  public:
    static constexpr size_t kMost = 1000;

    // $XDG_STATE_HOME/samba-lm/history, ~/.local/state without it; empty where there is no home.
    static std::string default_path();

    // An empty path: entries are kept for this run alone. A file that cannot be read or written is no reason to stop.
    explicit LineHistory(std::string path);

    const std::vector<std::string>& entries() const { return entries_; }  // the oldest first
    void add(const std::string& entry);                                   // appended to the file at once

  private:
    std::string path_;
    std::vector<std::string> entries_;

    void load();
    void rewrite() const;
};

}  // namespace samba
