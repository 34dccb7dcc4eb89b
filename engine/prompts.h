// Prompts are data: text files with {text} and {question}, compiled in (prompts/NAME.txt), which a user's own replace.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace samba {

class PromptText {
  public:
    // "{{" is a brace; another name in braces, {text} twice, or text that is not UTF-8 is a FileError naming `where`.
    // One newline at the end is dropped.
    static PromptText parse(std::string_view text, const std::string& where);
    // NAME.txt in $SAMBA_LM_PROMPTS, else in $XDG_CONFIG_HOME/samba-lm/prompts (~/.config without it), else built in.
    // Throws FileError; UsageError for a name that is nowhere.
    static PromptText named(const std::string& name);

    bool has_text() const { return text_at_ != std::string::npos; }
    bool has_question() const;
    // What stands before and after {text}, for a text that arrives as a stream. Without {text} all of it is before.
    std::string before_text(std::string_view question = {}) const;
    std::string after_text(std::string_view question = {}) const;
    std::string fill(std::string_view text, std::string_view question = {}) const;

  private:
    struct Part {
        bool question = false;  // else the literal
        std::string literal;
    };
    std::vector<Part> parts_;
    size_t text_at_ = std::string::npos;  // {text} stands before this part

    std::string join(size_t first, size_t last, std::string_view question) const;
};

// The text of a built-in prompt: "summarize", "ask". Nothing for another name.
std::optional<std::string_view> builtin_prompt(std::string_view name);

}  // namespace samba
