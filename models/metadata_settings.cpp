#include "models/metadata_settings.h"

#include <charconv>
#include <cmath>

#include "models/quantize.h"
#include "models/quote.h"

namespace samba {

namespace {

enum class Form { kText, kCount, kNumber, kBool, kIds, kMethod };

constexpr std::pair<Form, const char*> kForms[] = {
    {Form::kText, "text"},          {Form::kCount, "a whole number"},     {Form::kNumber, "a number"},
    {Form::kBool, "true or false"}, {Form::kIds, "token ids, as in 6,2"}, {Form::kMethod, "quote, write or state"},
};

constexpr std::pair<const char*, Form> kKeys[] = {
    {"general.name", Form::kText},
    {"general.author", Form::kText},
    {"general.organization", Form::kText},
    {"general.description", Form::kText},
    {"general.license", Form::kText},
    {"general.url", Form::kText},
    {"general.version", Form::kText},
    {"general.size_label", Form::kText},
    {"general.sampling.temp", Form::kNumber},
    {"general.sampling.top_k", Form::kCount},
    {"general.sampling.top_p", Form::kNumber},
    {"general.sampling.min_p", Form::kNumber},
    {"general.sampling.penalty_repeat", Form::kNumber},
    {"general.sampling.penalty_last_n", Form::kCount},
    {"samba.context_length", Form::kCount},
    {"samba.summary_method", Form::kMethod},
    {"samba.recall_length", Form::kCount},
    {"samba.end_token_ids", Form::kIds},
    {"tokenizer.ggml.bos_token_id", Form::kCount},
    {"tokenizer.ggml.eos_token_id", Form::kCount},
    {"tokenizer.ggml.eot_token_id", Form::kCount},
    {"tokenizer.ggml.add_bos_token", Form::kBool},
};

const char* form_name(Form form) {
    for (const auto& [f, name] : kForms) {
        if (f == form) return name;
    }
    return "";
}

// The whole text as a number, whatever the locale.
template <class T>
bool parse(std::string_view text, T& value) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool parse_ids(std::string_view text, std::vector<uint32_t>& ids) {
    while (true) {
        size_t comma = text.find(',');
        if (!parse(text.substr(0, comma), ids.emplace_back())) return false;
        if (comma == std::string_view::npos) return true;
        text.remove_prefix(comma + 1);
    }
}

bool set_value(GgufMetadata& meta, const std::string& key, const std::string& value, Form form) {
    uint32_t count = 0;
    float number = 0;
    std::vector<uint32_t> ids;
    switch (form) {
        case Form::kText:
            if (!valid_utf8(value)) return false;
            meta.set(key, value);
            return true;
        case Form::kMethod:
            if (value != "quote" && value != "write" && value != "state") return false;
            meta.set(key, value);
            return true;
        case Form::kBool:
            if (value != "true" && value != "false") return false;
            meta.set(key, value == "true");
            return true;
        case Form::kCount:
            if (!parse(value, count)) return false;
            meta.set(key, count);
            return true;
        case Form::kNumber:
            if (!parse(value, number) || !std::isfinite(number)) return false;
            meta.set(key, number);
            return true;
        case Form::kIds:
            if (!parse_ids(value, ids)) return false;
            meta.set(key, ids);
            return true;
    }
    return false;
}

}  // namespace

void apply_setting(GgufMetadata& metadata, const std::string& key, const std::string& value) {
    std::string known;
    for (const auto& [name, form] : kKeys) {
        if (key == name) {
            if (set_value(metadata, key, value, form)) return;
            throw UsageError("--set " + key + ": expected " + form_name(form) + ", found " + in_quotes(value));
        }
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    throw UsageError("--set: unknown key " + in_quotes(key) + "; known: " + known);
}

std::vector<std::pair<std::string, std::string>> settable_keys() {
    std::vector<std::pair<std::string, std::string>> keys;
    for (const auto& [name, form] : kKeys) keys.emplace_back(name, form_name(form));
    return keys;
}

}  // namespace samba
