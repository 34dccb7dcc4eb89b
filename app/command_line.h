// From argv, environment and config file to a command's options (docs/cli.md: options, precedence).
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace samba {

// Parses the arguments of a command (the words after its name), then gives each option that they leave out the value of
// the environment or of the config file's section [command]. False when help was asked for: nothing else was done.
// Throws UsageError, FileError (the config file).
bool parse_command_line(CLI::App& app, const std::string& command, const std::vector<std::string>& arguments);

// "SAMBA_LM_MAX_TOKENS" for "--max-tokens".
std::string environment_name(const std::string& long_name);

// Help for one command, 80 columns wide.
std::string help_text(const CLI::App& app);

}  // namespace samba
