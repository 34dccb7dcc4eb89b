#include "app/command_line.h"

#include <CLI/App.hpp>
#include <algorithm>
#include <cstdlib>

#include "app/config_file.h"
#include "app/output.h"
#include "kernels/error.h"

namespace samba {
namespace {

bool takes_value(const CLI::Option* option) { return option->get_items_expected_max() > 0; }

// CLI11 takes "--name=" for an option without its value, so "--name=value" becomes two words; and a missing value gets
// a message of ours.
std::vector<std::string> separated(const CLI::App& app, const std::vector<std::string>& arguments) {
    std::vector<std::string> words;
    for (size_t i = 0; i < arguments.size(); ++i) {
        std::string word = arguments[i];
        if (word == "--") {
            words.insert(words.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
            break;
        }
        size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
        const CLI::Option* option = word.starts_with('-') ? app.get_option_no_throw(word.substr(0, equals)) : nullptr;
        if (!option || option->get_positional() || !takes_value(option)) {
            words.push_back(word);
            continue;
        }
        words.push_back(word.substr(0, equals));
        if (equals != std::string::npos) {
            words.push_back(word.substr(equals + 1));
        } else if (i + 1 < arguments.size()) {
            words.push_back(arguments[++i]);
        } else {
            throw UsageError(word + ": a value is missing (" + option->get_type_name() + ")");
        }
    }
    return words;
}

[[noreturn]] void refuse_extras(const CLI::App& app, const std::string& command) {
    std::string word = app.remaining().empty() ? std::string() : app.remaining().front();
    std::string help = "; see samba-lm " + command + " --help";
    if (word.starts_with('-') && word.size() > 1) {
        throw UsageError("unknown option " + visible_line(word.substr(0, word.find('='))) + help);
    }
    throw UsageError("one argument too many: '" + visible_line(word) + "' (a text of several words needs quotes)" +
                     help);
}

void parse_words(CLI::App& app, const std::string& command, std::vector<std::string> words) {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    try {
        app.parse(std::move(words));
    } catch (const CLI::ExtrasError&) {
        refuse_extras(app, command);
    } catch (const CLI::RequiredError& e) {
        throw UsageError(std::string(e.what()) + "; see samba-lm " + command + " --help");
    } catch (const CLI::CallForHelp&) {
        throw;
    } catch (const CLI::ConversionError& e) {  // only flags: what takes a value converts it itself (declare.cpp)
        std::string what = e.what();
        throw UsageError(visible_line(what.substr(what.find("--"))) + ": expected true or false");
    } catch (const CLI::ParseError& e) {
        throw UsageError(visible_line(e.what()));
    }
}

void set_from(CLI::Option* option, const std::vector<std::string>& values, const std::string& source) {
    try {
        for (const std::string& value : values) option->add_result(value);
        option->run_callback();
    } catch (const UsageError& e) {
        throw UsageError(source + ": " + e.what());
    } catch (const CLI::ParseError&) {
        throw UsageError(source + ": expected true or false, found '" + visible_line(values.back()) + "'");
    }
}

void fill_from_environment(CLI::App& app) {
    for (CLI::Option* option : app.get_options()) {
        if (!option->get_configurable() || option->get_lnames().empty() || option->count() > 0) continue;
        std::string name = environment_name(option->get_lnames().front());
        const char* value = std::getenv(name.c_str());
        if (value && *value) set_from(option, {value}, name);
    }
}

void fill_from_config(CLI::App& app, const std::string& command) {
    std::string path = app.get_option("--config")->as<std::string>();
    const char* named = std::getenv("SAMBA_LM_CONFIG");
    if (path.empty() && named) path = named;
    if (path.empty()) return;
    std::vector<CLI::Option*> from_config;
    for (const ConfigEntry& entry : read_config_section(path, command)) {
        CLI::Option* option = app.get_option_no_throw("--" + entry.key);
        if (!option || !option->get_configurable() || option->get_lnames().empty()) {
            throw UsageError(entry.where + ": no option '" + visible_line(entry.key) + "' that [" + command +
                             "] can set; see samba-lm " + command + " --help");
        }
        if (option->count() == 0) set_from(option, entry.values, entry.where);
    }
}

}  // namespace

std::string environment_name(const std::string& long_name) {
    std::string name = "SAMBA_LM_";
    for (char c : long_name) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return name;
}

bool parse_command_line(CLI::App& app, const std::string& command, const std::vector<std::string>& arguments) {
    try {
        parse_words(app, command, separated(app, arguments));
    } catch (const CLI::CallForHelp&) {
        return false;
    }
    fill_from_environment(app);
    fill_from_config(app, command);
    return true;
}

}  // namespace samba
