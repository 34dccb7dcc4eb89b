#include <CLI/App.hpp>
#include <charconv>

#include "app/options.h"
#include "app/output.h"
#include "kernels/error.h"

namespace samba {
namespace {

// \n \r \t \\; any other backslash stands for itself.
std::string unescaped(const std::string& text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        constexpr std::string_view kNames = "nrt\\", kValues = "\n\r\t\\";
        size_t which = text[i] == '\\' && i + 1 < text.size() ? kNames.find(text[i + 1]) : std::string_view::npos;
        out += which == std::string_view::npos ? text[i] : kValues[which];
        if (which != std::string_view::npos) ++i;
    }
    return out;
}

std::vector<std::string> stop_texts(const std::vector<std::string>& given) {
    std::vector<std::string> stops;
    for (const std::string& text : given) {
        if (text.empty()) throw UsageError("--stop: an empty text would end every reply at once");
        stops.push_back(unescaped(text));
    }
    return stops;
}

std::pair<int32_t, float> logit_bias(const std::string& text) {
    size_t sign = text.find_first_of("+-", 1);
    if (text.empty() || sign == std::string::npos) {
        throw UsageError("--logit-bias: expected ID+BIAS or ID-BIAS, found '" + visible_line(text) + "'");
    }
    int64_t id = parse_integer("--logit-bias", text.substr(0, sign), {0, INT32_MAX});
    return {static_cast<int32_t>(id),
            static_cast<float>(parse_number("--logit-bias", text.substr(sign), {-1e30, 1e30}))};
}

std::string shown_default(const std::string& help, const std::string& value) { return help + " [" + value + "]"; }

}  // namespace

void add_sampling_options(CLI::App& app, SamplingOptions& s, int64_t default_max_tokens) {
    auto grouped = [](CLI::Option* option) { option->group("Sampling"); };
    constexpr NumberRange kAny{-1e30, 1e30};
    grouped(add_integer(
        app, "-n,--max-tokens", s.max_tokens, "N",
        shown_default("most tokens of the reply; -1: until an end token", std::to_string(default_max_tokens)),
        {-1, INT64_MAX}));
    grouped(add_number(app, "--temp", s.temp, "T", "temperature; 0: always the likeliest token [0.8]"));
    grouped(add_integer(app, "--top-k", s.top_k, "N", "only the N likeliest tokens; 0: all [40]", {0, INT32_MAX}));
    grouped(
        add_number(app, "--top-p", s.top_p, "P", "only the likeliest tokens that make up P together [0.95]", {0, 1}));
    grouped(add_number(app, "--min-p", s.min_p, "P", "only tokens at least P times as likely as the likeliest [0.05]",
                       {0, 1}));
    grouped(add_number(app, "--repeat-penalty", s.repeat_penalty, "X",
                       "divides the logits of recent tokens; 1: none [1]", {1e-6, 1e30}));
    grouped(
        add_integer(app, "--repeat-last-n", s.repeat_last_n, "N", "how many tokens are recent [64]", {0, kHistory}));
    grouped(add_number(app, "--frequency-penalty", s.frequency_penalty, "X",
                       "subtracted for each recent occurrence of a token [0]", kAny));
    grouped(
        add_number(app, "--presence-penalty", s.presence_penalty, "X", "subtracted once for a recent token [0]", kAny));
    grouped(add_values(app, "--logit-bias", "ID±BIAS", "added to a token's logit (repeatable)",
                       [&s](const std::vector<std::string>& given) {
                           s.logit_bias.clear();
                           for (const std::string& text : given) s.logit_bias.push_back(logit_bias(text));
                       }));
    grouped(add_values(app, "--stop", "TEXT",
                       "ends the reply and is not printed; \\n \\r \\t \\\\ are understood (repeatable)",
                       [&s](const std::vector<std::string>& given) { s.stop = stop_texts(given); }));
    grouped(add_flag(app, "--ignore-eos", s.ignore_eos, "go on beyond the end of a text"));
}

void set_sampling_option(SamplingOptions& sampling, const std::string& name, const std::string& value) {
    SamplingOptions changed = sampling;
    CLI::App app;
    app.set_help_flag();
    add_sampling_options(app, changed, -1);
    CLI::Option* option = app.get_option_no_throw((name.size() == 1 ? "-" : "--") + name);
    if (!option) {
        std::string known;
        for (const CLI::Option* o : app.get_options()) known += " " + o->get_lnames().front();
        throw UsageError("'" + visible_line(name) + "' is no sampling option; there are:" + known);
    }
    try {
        option->add_result(value);
        option->run_callback();
    } catch (const CLI::ParseError&) {
        throw UsageError("--" + name + ": expected on or off, found '" + visible_line(value) + "'");
    }
    sampling = changed;
}

GenerateOptions generate_options(const SamplingOptions& s, const Engine& engine, uint64_t seed,
                                 int64_t default_max_tokens) {
    const SamplingDefaults& file = engine.file().sampling;
    const SamplingParams built_in;
    auto first = [](const auto& given, const auto& of_file, auto otherwise) {
        using Value = decltype(otherwise);
        if (given) return static_cast<Value>(*given);
        return of_file ? static_cast<Value>(*of_file) : otherwise;
    };
    GenerateOptions options;
    SamplingParams& p = options.sampling;
    p.temp = first(s.temp, file.temp, built_in.temp);
    p.top_k = first(s.top_k, file.top_k, built_in.top_k);
    p.top_p = first(s.top_p, file.top_p, built_in.top_p);
    p.min_p = first(s.min_p, file.min_p, built_in.min_p);
    p.repeat_penalty = first(s.repeat_penalty, file.repeat_penalty, built_in.repeat_penalty);
    p.repeat_last_n = first(s.repeat_last_n, file.repeat_last_n, built_in.repeat_last_n);
    p.frequency_penalty = s.frequency_penalty.value_or(built_in.frequency_penalty);
    p.presence_penalty = s.presence_penalty.value_or(built_in.presence_penalty);
    p.seed = seed;
    p.logit_bias = s.logit_bias;
    for (auto [id, bias] : s.logit_bias) {
        if (id >= engine.config().vocab_size) {
            throw UsageError("--logit-bias: token " + std::to_string(id) + ", but the model has only " +
                             std::to_string(engine.config().vocab_size));
        }
    }
    options.stop = s.stop;
    options.max_tokens = s.max_tokens.value_or(default_max_tokens);
    options.ignore_eos = s.ignore_eos;
    return options;
}

}  // namespace samba
