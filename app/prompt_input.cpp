#include "app/prompt_input.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "app/options.h"
#include "app/text_changes.h"
#include "engine/text_stream.h"
#include "kernels/error.h"

namespace samba {
namespace {

bool stdin_is_meant(bool alone) {
    if (alone) return !::isatty(STDIN_FILENO);
    struct stat status {};
    if (::fstat(STDIN_FILENO, &status) != 0) return false;
    if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)) return true;
    return S_ISREG(status.st_mode) && status.st_size > ::lseek(STDIN_FILENO, 0, SEEK_CUR);
}

}  // namespace

PromptInput::PromptInput(const PromptOptions& options) {
    bool named = std::find(options.files.begin(), options.files.end(), "-") != options.files.end();
    if (named && options.no_stdin) throw UsageError("--no-stdin and -f - contradict each other");
    bool alone = !options.argument && options.files.empty();
    if (!options.no_stdin && !named && stdin_is_meant(alone)) sources_.push_back({{}, "-", true});
    for (const std::string& file : options.files) sources_.push_back({{}, file, false});
    if (options.argument) sources_.push_back({*options.argument, "", false});
}

void PromptInput::read_source(const Source& source, const std::function<void(std::string_view)>& take) {
    InputText input;
    bool begun = false, held_newline = false;
    auto push = [&](std::string text) {
        if (text.empty()) return;
        if (!begun && any_text_) take("\n\n");
        begun = any_text_ = true;
        if (held_newline) take("\n");
        held_newline = !source.text && text.back() == '\n';
        if (held_newline) text.pop_back();
        if (!text.empty()) take(text);
    };
    std::string where = source.text ? "the prompt" : source.path == "-" ? "standard input" : source.path;
    auto named = [&](auto&& clean) {
        try {
            return clean();
        } catch (const FileError& e) {  // knows no name
            throw FileError(where + ": " + e.what());
        }
    };
    auto take_bytes = [&](std::string_view bytes) { push(named([&] { return input.push(bytes); })); };
    if (source.text)
        take_bytes(*source.text);
    else
        read_input(source.path, take_bytes);
    push(named([&] { return input.finish(); }));
    tell_changes({.invalid_bytes = input.invalid_bytes(), .replaced_spaces = input.replaced_spaces()}, where);
}

void PromptInput::read(const std::function<void(std::string_view)>& take) {
    for (const Source& source : sources_) read_source(source, take);
}

}  // namespace samba
