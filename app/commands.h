// The commands: each declares its options on a CLI::App and gives back what runs once they are parsed.
#pragma once
#include <functional>
#include <span>
#include <string_view>

#include "app/options.h"

namespace CLI {
class App;
}

namespace samba {

// Runs the command; the value is the exit status. Errors are exceptions (kernels/error.h), caught in main.
using RunCommand = std::function<int()>;

struct Command {
    const char* name;
    const char* summary;
    // `common` lives as long as the program; main declares the options of every command (--verbose, …) itself.
    RunCommand (*add)(CLI::App& app, CommonOptions& common);
    bool closed_pipe_is_fine;  // whoever reads stdout may stop reading: exit 0, else 1
};

std::span<const Command> commands();
const Command* find_command(std::string_view name);  // null: none

RunCommand add_chat(CLI::App& app, CommonOptions& common);
RunCommand add_complete(CLI::App& app, CommonOptions& common);
RunCommand add_summarize(CLI::App& app, CommonOptions& common);
RunCommand add_convert(CLI::App& app, CommonOptions& common);
RunCommand add_quantize(CLI::App& app, CommonOptions& common);
RunCommand add_inspect(CLI::App& app, CommonOptions& common);
RunCommand add_tokenize(CLI::App& app, CommonOptions& common);
RunCommand add_logits(CLI::App& app, CommonOptions& common);
RunCommand add_perplexity(CLI::App& app, CommonOptions& common);
RunCommand add_bench(CLI::App& app, CommonOptions& common);
RunCommand add_doctor(CLI::App& app, CommonOptions& common);

}  // namespace samba
