#include "app/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <spdlog/spdlog.h>
#include "app/logging.h"
#include "app/output.h"
#include "engine/engine.h"

namespace samba {
namespace {

constexpr double kFirstAfter = 1.0;  // seconds
constexpr double kBarEvery = 0.1;    // on a terminal
constexpr double kLineEvery = 5.0;   // elsewhere, with --verbose
bool bar_on_screen = false;

void to_stderr(const std::string& text) {
    // What cannot be shown is not worth an error: stderr carries no data.
    [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
}

std::string time_text(double seconds) {
    auto whole = static_cast<int64_t>(seconds + 0.5);
    auto two = [](int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
    if (whole < 3600) return std::to_string(whole / 60) + ":" + two(whole % 60);
    return std::to_string(whole / 3600) + ":" + two(whole / 60 % 60) + ":" + two(whole % 60);
}

std::string amount(double n, const std::string& unit) {
    return unit == "B" ? human_bytes(n) : with_commas(static_cast<int64_t>(n)) + " " + unit;
}

// At most that many columns, taking a character for a column.
std::string fitted(const std::string& text, size_t columns) {
    size_t shown = 0, at = 0;
    while (at < text.size() && shown < columns) {
        ++at;
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
        ++shown;
    }
    return text.substr(0, at);
}

}  // namespace

void hide_progress() {
    if (!bar_on_screen) return;
    to_stderr("\r\x1b[K");
    bar_on_screen = false;
}

Progress::Progress(std::string what, std::string unit, uint64_t total)
    : what_(std::move(what)), unit_(std::move(unit)), total_(total), begun_(now_seconds()), last_(begun_) {}

Progress::~Progress() { hide_progress(); }

double Progress::seconds() const { return now_seconds() - begun_; }

std::string Progress::line(uint64_t done, const std::string& note) const {
    constexpr uint64_t kCells = 20;
    double elapsed = seconds(), rate = static_cast<double>(done) / std::max(elapsed, 1e-9);
    std::string text = what_ + " ";
    if (total_ > 0) {
        uint64_t part = std::min(done, total_);
        uint64_t full = part * kCells / total_;
        text += "[" + std::string(full, '#') + std::string(kCells - full, '.') + "] " +
                std::to_string(part * 100 / total_) + "% ";
    }
    text += amount(static_cast<double>(done), unit_) + ", " + amount(rate, unit_) + "/s, " + time_text(elapsed);
    if (total_ > done && done > 0) {
        text += ", " + time_text(static_cast<double>(total_ - done) / rate) + " left";
    }
    if (!note.empty()) text += ", " + visible_line(note);
    return text;
}

void Progress::update(uint64_t done, const std::string& note) {
    double now = now_seconds();
    static const bool can_draw = [] {
        const char* term = std::getenv("TERM");
        return stderr_is_terminal() && !(term && std::strcmp(term, "dumb") == 0);
    }();
    bool bar = can_draw && !log_is_quiet();
    if (!bar && !log_is_verbose()) return;
    if (now - begun_ < kFirstAfter || (shown_ && now - last_ < (bar ? kBarEvery : kLineEvery))) return;
    last_ = now;
    shown_ = true;
    if (bar) {
        size_t columns = static_cast<size_t>(std::max(terminal_columns() - 1, 10));
        to_stderr("\r" + fitted(line(done, note), columns) + "\x1b[K");
        bar_on_screen = true;
    } else {
        spdlog::debug("{}", line(done, note));
    }
}

}  // namespace samba
