// samba-lm: argv to a command, and the one place where errors become one line and an exit status.
#include <langinfo.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstring>
#include <new>

#include "app/command_line.h"
#include "app/commands.h"
#include "app/logging.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "kernels/error.h"
#include "models/progress.h"
#include "version.h"

namespace samba {
namespace {

// Numbers are read and written the same everywhere; only what a character is comes from the environment.
void set_locale() {
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

std::string program_help() {
    std::string text =
        "samba-lm runs Samba language models (Mamba, sliding-window attention, MLP) on text of\n"
        "any length in constant memory.\n\nUsage: samba-lm COMMAND [OPTIONS]\n\nCommands:\n";
    for (const Command& command : commands()) {
        text += "  " + std::string(command.name) + std::string(14 - std::strlen(command.name), ' ') + command.summary +
                "\n";
    }
    return text +
           "\nsamba-lm COMMAND --help shows a command's options, with examples.\n"
           "samba-lm --version shows the version.\n\n"
           "Examples:\n"
           "  samba-lm chat\n"
           "  samba-lm complete \"Once upon a time\"\n"
           "  samba-lm summarize book.txt\n";
}

int run_command(const Command& command, const std::vector<std::string>& arguments) {
    CLI::App app(command.summary, std::string("samba-lm ") + command.name);
    app.set_help_flag("-h,--help", "print this help");
    static CommonOptions common;
    RunCommand run = command.add(app, common);
    add_log_options(app, common);
    if (!parse_command_line(app, command.name, arguments)) {
        print(help_text(app));
        flush_output();
        return 0;
    }
    if (common.verbose && common.quiet) throw UsageError("--verbose and --quiet contradict each other");
    set_color_mode(common.color);
    start_logging(common);
    int status;
    try {
        status = run();
        flush_output();
    } catch (const BrokenPipe&) {
        if (!command.closed_pipe_is_fine) throw;
        status = 0;
    }
    return status;
}

int run_program(const std::vector<std::string>& words) {
    const std::string first = words.empty() ? "--help" : words[0];
    if (first == "--help" || first == "-h" || first == "help") {
        if (first == "help" && words.size() > 1 && find_command(words[1])) {
            return run_command(*find_command(words[1]), {"--help"});
        }
        print(program_help());
        flush_output();
        return 0;
    }
    if (first == "--version" || first == "-V") {
        print("samba-lm " SAMBA_VERSION " (" SAMBA_COMMIT ")\n");
        flush_output();
        return 0;
    }
    if (first.starts_with('-')) {
        throw UsageError("expected a command, found '" + visible_line(first) + "'; options stand after the command");
    }
    const Command* command = find_command(first);
    if (!command) throw UsageError("no command '" + visible_line(first) + "'; samba-lm --help lists them");
    return run_command(*command, {words.begin() + 1, words.end()});
}

int failed(const std::string& message, int status) {
    hide_progress();
    spdlog::error("{}", message);
    return status;
}

}  // namespace
}  // namespace samba

int main(int argc, char** argv) {
    using namespace samba;
    set_locale();
    install_signals();
    start_logging({});
    try {
        return run_program({argv + std::min(argc, 1), argv + argc});
    } catch (const UsageError& e) {
        return failed(e.what(), 2);
    } catch (const Cancelled& e) {
        return failed(e.what(), interrupt_status());
    } catch (const Error& e) {
        return failed(e.what(), 1);
    } catch (const std::bad_alloc&) {
        return failed("out of memory", 1);
    } catch (const std::exception& e) {
        return failed(std::string("internal error: ") + e.what(), 1);
    }
}
