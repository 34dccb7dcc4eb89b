#include "app/line_editor.h"

#include <histedit.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "app/signals.h"
#include "engine/utf8.h"

namespace samba {
namespace {

void to_stderr(std::string_view text) { [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, text.data(), text.size()); }

std::wstring wide(std::string_view text) {
    std::wstring out;
    while (!text.empty()) {
        Utf8Char c = decode_utf8(text);
        out += static_cast<wchar_t>(c.code);
        text.remove_prefix(static_cast<size_t>(c.length));
    }
    return out;
}

std::string narrow(std::wstring_view text) {
    std::string out;
    for (wchar_t c : text) append_utf8(out, static_cast<char32_t>(c));
    return out;
}

// Signals that only matter while a line is edited: the terminal's size, and Ctrl-Z, which must find it in order.
volatile sig_atomic_t resized = 0, suspended = 0;

class EditingSignals {
  public:
    EditingSignals() {
        resized = 0;
        suspended = 0;
        set(SIGWINCH, before_[0], [](int) { resized = 1; });
        set(SIGTSTP, before_[1], [](int) { suspended = 1; });
    }
    ~EditingSignals() {
        ::sigaction(SIGWINCH, &before_[0], nullptr);
        ::sigaction(SIGTSTP, &before_[1], nullptr);
    }

  private:
    struct sigaction before_[2];

    static void set(int signal, struct sigaction& before, void (*handler)(int)) {
        struct sigaction action {};
        action.sa_handler = handler;  // without SA_RESTART: the read returns, and looks
        ::sigaction(signal, &action, &before);
    }
};

constexpr char kPasteOn[] = "\x1b[?2004h", kPasteOff[] = "\x1b[?2004l";
constexpr wchar_t kInsertBegin[] = L"\x1b[998~";  // a key that no keyboard has

}  // namespace

struct LineEditor::Editor {
    EditLine* el = nullptr;
    HistoryW* history = nullptr;
    std::string prompt;
    std::wstring prompt_wide, begin;
    std::string bytes;  // read and not whole characters yet
    termios cooked{};

    explicit Editor(const LineHistory& entries) {
        ::tcgetattr(STDIN_FILENO, &cooked);
        el = ::el_init("samba-lm", stdin, stderr, stderr);
        history = ::history_winit();
        HistEventW event;
        ::history_w(history, &event, H_SETSIZE, static_cast<int>(LineHistory::kMost));
        for (const std::string& entry : entries.entries()) ::history_w(history, &event, H_ENTER, wide(entry).c_str());
        ::el_wset(el, EL_CLIENTDATA, this);
        ::el_wset(el, EL_EDITOR, L"emacs");
        ::el_wset(el, EL_SIGNAL, 0);
        ::el_wset(el, EL_HIST, history_w, history);
        ::el_wset(el, EL_GETCFN, get_character);
        ::el_wset(el, EL_PROMPT, prompt_of);
        ::el_wset(el, EL_ADDFN, L"samba-paste", L"insert pasted text", paste);
        ::el_wset(el, EL_ADDFN, L"samba-begin", L"insert the line's begin", insert_begin);
        ::el_wset(el, EL_ADDFN, L"samba-newline", L"insert a newline", insert_newline);
        ::el_wset(el, EL_BIND, L"\\e[200~", L"samba-paste", nullptr);
        ::el_wset(el, EL_BIND, L"\\e[998~", L"samba-begin", nullptr);
        ::el_wset(el, EL_BIND, L"\\e\\r", L"samba-newline", nullptr);
        ::el_wset(el, EL_BIND, L"\\e\\n", L"samba-newline", nullptr);
        ::el_wset(el, EL_BIND, L"^R", L"em-inc-search-prev", nullptr);
        ::el_source(el, nullptr);  // the user's ~/.editrc
    }
    ~Editor() {
        ::el_end(el);
        ::history_wend(history);
    }

    static Editor& of(EditLine* el) {
        void* data = nullptr;
        ::el_wget(el, EL_CLIENTDATA, &data);
        return *static_cast<Editor*>(data);
    }
    static wchar_t* prompt_of(EditLine* el) { return of(el).prompt_wide.data(); }
    static int get_character(EditLine* el, wchar_t* c) { return of(el).next_character(c); }

    static unsigned char insert_begin(EditLine* el, wint_t) {
        ::el_winsertstr(el, of(el).begin.c_str());
        return CC_REFRESH;
    }
    static unsigned char insert_newline(EditLine* el, wint_t) {
        ::el_winsertstr(el, L"\n");
        return CC_REFRESH;
    }

    // Everything up to the end mark of the paste goes in as it is, CR and CRLF as LF, other controls left out.
    static unsigned char paste(EditLine* el, wint_t) {
        constexpr std::wstring_view kEnd = L"\x1b[201~";
        std::wstring text;
        wchar_t c;
        while (!text.ends_with(kEnd)) {
            if (::el_wgetc(el, &c) != 1) return CC_EOF;
            if (c == L'\n' && text.ends_with(L'\r')) continue;
            text += c;
        }
        text.resize(text.size() - kEnd.size());
        std::wstring clean;
        for (wchar_t w : text) {
            if (w == L'\r') w = L'\n';
            if (w >= L' ' || w == L'\n' || w == L'\t') clean += w;
        }
        ::el_winsertstr(el, clean.c_str());
        return CC_REFRESH;
    }

    void stop_and_continue() {
        suspended = 0;
        termios raw{};
        ::tcgetattr(STDIN_FILENO, &raw);
        ::tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
        to_stderr(kPasteOff);
        ::raise(SIGSTOP);
        ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
        to_stderr(kPasteOn);
        ::el_wset(el, EL_REFRESH);
    }

    // 1 with a character, 0 at the end of the input, -1 when a signal came.
    int next_character(wchar_t* c) {
        for (;;) {
            if (!bytes.empty()) {
                Utf8Char next = decode_utf8(bytes);
                if (next.kind != Utf8Char::kCut) {
                    bytes.erase(0, static_cast<size_t>(next.length));
                    *c = static_cast<wchar_t>(next.code);
                    return 1;
                }
            }
            char piece[1024];
            ssize_t n = interrupted() ? -1 : ::read(STDIN_FILENO, piece, sizeof piece);
            if (n > 0) bytes.append(piece, static_cast<size_t>(n));
            if (n == 0) return 0;
            if (n > 0) continue;
            if (interrupted() || errno != EINTR) return -1;
            if (std::exchange(resized, 0)) ::el_resize(el);
            if (suspended) stop_and_continue();
        }
    }

    Result read(std::string& line) {
        EditingSignals signals;
        prompt_wide = wide(prompt);
        to_stderr(kPasteOn);
        if (!begin.empty()) ::el_wpush(el, kInsertBegin);
        int n = 0;
        const wchar_t* text = ::el_wgets(el, &n);
        to_stderr(kPasteOff);
        if (interrupted()) {
            to_stderr("\n");
            bytes.clear();
            return Result::kInterrupted;
        }
        if (!text || n <= 0) return Result::kEnd;
        line = narrow({text, static_cast<size_t>(n)});
        if (line.ends_with('\n')) line.pop_back();
        return Result::kLine;
    }
};

LineEditor::LineEditor(bool plain, LineHistory history) : history_(std::move(history)) {
    if (!plain) editor_ = std::make_unique<Editor>(history_);
}

LineEditor::~LineEditor() = default;

LineEditor::Result LineEditor::read(const std::string& prompt, const std::string& begin, std::string& line) {
    if (!editor_) return read_plain(prompt, line);
    editor_->prompt = prompt;
    editor_->begin = wide(begin);
    return editor_->read(line);
}

void LineEditor::remember(const std::string& entry) {
    if (editor_) {
        HistEventW event;
        ::history_w(editor_->history, &event, H_ENTER, wide(entry).c_str());
    }
    history_.add(entry);
}

LineEditor::Result LineEditor::read_plain(const std::string& prompt, std::string& line) {
    to_stderr(prompt);
    for (;;) {
        size_t newline = waiting_.find('\n');
        if (newline != std::string::npos) {
            line = waiting_.substr(0, newline);
            waiting_.erase(0, newline + 1);
            if (line.ends_with('\r')) line.pop_back();
            return Result::kLine;
        }
        if (interrupted()) {
            waiting_.clear();
            to_stderr("\n");
            return Result::kInterrupted;
        }
        char piece[1024];
        ssize_t n = ::read(STDIN_FILENO, piece, sizeof piece);
        if (n > 0) waiting_.append(piece, static_cast<size_t>(n));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            line = std::exchange(waiting_, {});
            return line.empty() ? Result::kEnd : Result::kLine;
        }
    }
}

}  // namespace samba
