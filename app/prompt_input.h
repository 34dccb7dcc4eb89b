// Where a prompt comes from: standard input, then files, then the argument, joined by a blank line.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace samba {

struct PromptOptions {
    std::optional<std::string> argument;
    std::vector<std::string> files;  // "-": standard input
    bool no_stdin = false;
};

class PromptInput {
  public:
    // Decides what will be read. Beside an argument or files, standard input counts only if it is a pipe or a regular
    // file with bytes left; alone, if it is no terminal. Throws UsageError.
    explicit PromptInput(const PromptOptions& options);

    bool none() const { return sources_.empty(); }
    // Nothing but standard input, which nobody asked for by name: without bytes it is no prompt.
    bool only_implicit_stdin() const { return sources_.size() == 1 && sources_[0].implicit; }

    // Reads everything and hands it on as it comes, in clean pieces of text (engine/text_stream.h): each source without
    // one trailing newline, a blank line between sources that have text. Told once on stderr: what was replaced.
    void read(const std::function<void(std::string_view)>& take);
    bool any_text() const { return any_text_; }

  private:
    struct Source {
        std::optional<std::string> text;  // the argument, or …
        std::string path;                 // … a file, "-" for standard input
        bool implicit = false;
    };
    std::vector<Source> sources_;
    bool any_text_ = false;

    void read_source(const Source& source, const std::function<void(std::string_view)>& take);
};

}  // namespace samba
