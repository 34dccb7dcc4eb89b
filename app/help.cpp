#include <CLI/App.hpp>

#include "app/command_line.h"

namespace samba {
namespace {

constexpr size_t kColumns = 80, kIndent = 28;  // of the texts

// `text` in lines that begin at `indent`, the first one after `lead`.
std::string wrapped(std::string lead, const std::string& text, size_t indent) {
    auto width = [](const std::string& s) {
        size_t n = 0;
        for (char c : s) n += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
        return n;
    };
    std::string out, line = std::move(lead);
    if (width(line) + 2 > indent) {
        out += line + "\n";
        line.clear();
    }
    line += std::string(indent - width(line), ' ');
    bool empty = true;
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find(' ', at), text.size());
        std::string word = text.substr(at, end - at);
        at = end + 1;
        if (!empty && width(line) + 1 + width(word) > kColumns) {
            out += line + "\n";
            line = std::string(indent, ' ');
            empty = true;
        }
        line += (empty ? "" : " ") + word;
        empty = false;
    }
    return out + line + "\n";
}

std::string option_lead(const CLI::Option* option) {
    std::string lead = "  ";
    if (option->get_positional()) return lead + option->get_name(true);
    for (const std::string& name : option->get_snames()) lead += "-" + name + ", ";
    if (option->get_snames().empty()) lead += "    ";
    for (const std::string& name : option->get_lnames()) lead += "--" + name;
    if (option->get_items_expected_max() > 0) lead += " " + option->get_type_name();
    return lead;
}

}  // namespace

std::string help_text(const CLI::App& app) {
    std::string usage = "Usage: " + app.get_name() + " [OPTIONS]", positionals, options;
    for (const CLI::Option* option : app.get_options([](const CLI::Option* o) { return o->get_positional(); })) {
        std::string name = option->get_name(true) + (option->get_expected_max() > 1 ? "…" : "");
        usage += option->get_required() ? " " + name : " [" + name + "]";
        positionals += wrapped("  " + name, option->get_description(), kIndent);
    }
    for (const std::string& group : app.get_groups()) {
        std::string lines;
        for (const CLI::Option* option : app.get_options([&](const CLI::Option* o) {
                 return !o->get_positional() && o->get_group() == group && o != app.get_help_ptr();
             })) {
            lines += wrapped(option_lead(option), option->get_description(), kIndent);
        }
        if (group == "General") lines += wrapped(option_lead(app.get_help_ptr()), "print this help", kIndent);
        if (!lines.empty()) options += "\n" + group + ":\n" + lines;
    }
    std::string footer = app.get_footer();
    return app.get_description() + "\n\n" + usage + "\n" + (positionals.empty() ? "" : "\n" + positionals) + options +
           (footer.empty() ? "" : "\n" + footer + "\n");
}

}  // namespace samba
