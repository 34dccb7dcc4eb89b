#include "engine/prompts.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "engine/text_stream.h"
#include "kernels/error.h"
#include "models/embedded.h"
#include "models/json_text.h"
#include "models/quote.h"

namespace samba {

namespace {

namespace fs = std::filesystem;

// A variable that is set and not empty.
std::optional<std::string> environment(const char* name) {
    const char* value = std::getenv(name);
    if (!value || !*value) return std::nullopt;
    return value;
}

// Where a user's own prompts lie, the first that has a file wins.
std::vector<fs::path> user_folders() {
    std::vector<fs::path> folders;
    if (auto own = environment("SAMBA_LM_PROMPTS")) {
        std::error_code error;
        if (!fs::is_directory(*own, error)) {
            throw FileError("SAMBA_LM_PROMPTS: expected a directory, found " + in_quotes(*own));
        }
        folders.emplace_back(*own);
    }
    auto config = environment("XDG_CONFIG_HOME");
    auto home = environment("HOME");
    if (config && fs::path(*config).is_absolute()) {
        folders.push_back(fs::path(*config) / "samba-lm/prompts");
    } else if (home) {
        folders.push_back(fs::path(*home) / ".config/samba-lm/prompts");
    }
    return folders;
}

}  // namespace

std::optional<std::string_view> builtin_prompt(std::string_view name) {
    return embedded_file("prompts/" + std::string(name) + ".txt");
}

PromptText PromptText::parse(std::string_view text, const std::string& where) {
    auto fail = [&](const std::string& what) { throw FileError(in_quotes(where) + ": not a prompt: " + what); };
    int64_t invalid = 0;
    std::string clean;
    try {
        clean = clean_text(text, &invalid);
    } catch (const FileError& error) {
        fail(error.what());
    }
    if (invalid > 0) fail("it is not UTF-8");
    if (clean.ends_with('\n')) clean.pop_back();
    PromptText prompt;
    std::string literal;
    auto close_literal = [&] {
        if (!literal.empty()) prompt.parts_.push_back({false, literal});
        literal.clear();
    };
    for (size_t at = 0; at < clean.size();) {
        size_t brace = std::min(clean.find('{', at), clean.size());
        literal.append(clean, at, brace - at);
        at = brace;
        if (at == clean.size()) break;
        std::string_view rest = std::string_view(clean).substr(at);
        std::string_view name = rest.substr(0, std::min(rest.find('}'), rest.size() - 1) + 1);
        if (rest.starts_with("{{")) {
            literal.push_back('{');
            name = "{{";
        } else if (name == "{question}") {
            close_literal();
            prompt.parts_.push_back({true, ""});
        } else if (name == "{text}") {
            if (prompt.has_text()) fail("{text} stands in it twice");
            close_literal();
            prompt.text_at_ = prompt.parts_.size();
        } else {
            fail("expected {text} or {question}, found " + in_quotes(name) + " (a brace is written {{)");
        }
        at += name.size();
    }
    close_literal();
    return prompt;
}

PromptText PromptText::named(const std::string& name) {
    for (const fs::path& folder : user_folders()) {
        fs::path file = folder / (name + ".txt");
        std::error_code error;
        if (fs::exists(file, error)) return parse(read_text_file(file.string()), file.string());
    }
    auto text = builtin_prompt(name);
    if (!text) throw UsageError("no prompt is called " + in_quotes(name));
    return parse(*text, "prompts/" + name + ".txt");
}

bool PromptText::has_question() const {
    return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.question; });
}

std::string PromptText::join(size_t first, size_t last, std::string_view question) const {
    std::string out;
    for (size_t i = first; i < last; ++i) out += parts_[i].question ? question : std::string_view(parts_[i].literal);
    return out;
}

std::string PromptText::before_text(std::string_view question) const {
    return join(0, std::min(text_at_, parts_.size()), question);
}

std::string PromptText::after_text(std::string_view question) const {
    return join(std::min(text_at_, parts_.size()), parts_.size(), question);
}

std::string PromptText::fill(std::string_view text, std::string_view question) const {
    return before_text(question).append(has_text() ? text : "").append(after_text(question));
}

}  // namespace samba
