#include "app/line_history.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace samba {
namespace {

namespace fs = std::filesystem;

std::string escaped(const std::string& entry) {
    std::string line;
    for (char c : entry) {
        if (c == '\\') line += "\\\\";
        if (c == '\n') line += "\\n";
        if (c != '\\' && c != '\n') line += c;
    }
    return line + "\n";
}

std::string unescaped(const std::string& line) {
    std::string entry;
    for (size_t i = 0; i < line.size(); ++i) {
        bool pair = line[i] == '\\' && i + 1 < line.size();
        if (pair) ++i;
        entry += pair && line[i] == 'n' ? '\n' : line[i];
    }
    return entry;
}

void write_private(const std::string& path, int flags, const std::string& text) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0) return;
    [[maybe_unused]] ssize_t n = ::write(fd, text.data(), text.size());
    ::close(fd);
}

}  // namespace

std::string LineHistory::default_path() {
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    if (state && state[0] == '/') return std::string(state) + "/samba-lm/history";
    if (home && *home) return std::string(home) + "/.local/state/samba-lm/history";
    return "";
}

LineHistory::LineHistory(std::string path) : path_(std::move(path)) {
    if (path_.empty()) return;
    std::error_code error;
    fs::path folder = fs::path(path_).parent_path();
    if (fs::create_directories(folder, error)) fs::permissions(folder, fs::perms::owner_all, error);
    load();
}

void LineHistory::load() {
    std::ifstream in(path_, std::ios::binary);
    for (std::string line; std::getline(in, line);) entries_.push_back(unescaped(line));
    if (entries_.size() <= kMost) return;
    entries_.erase(entries_.begin(), entries_.end() - kMost);
    rewrite();
}

void LineHistory::rewrite() const {
    std::string text, temporary = path_ + ".tmp-" + std::to_string(::getpid());
    for (const std::string& entry : entries_) text += escaped(entry);
    write_private(temporary, O_TRUNC, text);
    std::error_code error;
    fs::rename(temporary, path_, error);
}

void LineHistory::add(const std::string& entry) {
    if (entry.empty() || (!entries_.empty() && entries_.back() == entry)) return;
    entries_.push_back(entry);
    if (!path_.empty()) write_private(path_, O_APPEND, escaped(entry));
}

}  // namespace samba
