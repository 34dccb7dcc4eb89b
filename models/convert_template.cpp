#include "models/convert_template.h"

#include <sys/stat.h>

#include <algorithm>

#include "models/convert.h"
#include "models/embedded.h"
#include "models/json_text.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;

// The pieces that a template uses: the tokens of its parts, and its end tokens.
struct TemplatePieces {
    std::vector<std::string> all, end;
};
TemplatePieces pieces_of(const json& t) {
    TemplatePieces pieces;
    for (const char* part : {"begin", "system", "user", "assistant", "end"}) {
        if (!t.contains(part)) continue;
        for (const json& p : t[part]) {
            std::string token = p.is_string() ? p.get<std::string>() : p.is_object() ? p.value("token", "") : "";
            if (token.empty()) continue;
            pieces.all.push_back(token);
            if (std::string_view(part) == "end") pieces.end.push_back(token);
        }
    }
    return pieces;
}

}  // namespace

std::vector<std::string> chat_template_names() { return embedded_names("prompts/templates"); }

std::string recognise_template(const std::string& jinja) {
    auto has = [&](const char* text) { return jinja.find(text) != std::string::npos; };
    if (has("<|im_start|>")) return "chatml";
    if (has("<|start_header_id|>")) return "llama-3";
    if (has("[INST]") && has("<<SYS>>")) return "llama-2";
    if (has("<|end|>") && has("<|user|>\\n")) return "phi-3";
    if (has("<|end|>") && has("<|user|>") && has("<|assistant|>")) return "samba";
    if (has("<|user|>\\n") && has("eos_token")) return "zephyr";
    return "";
}

std::string jinja_text(const std::string& directory, const std::optional<json>& config) {
    struct stat status;
    std::string path = directory + "/chat_template.jinja";
    if (::stat(path.c_str(), &status) == 0) return read_text_file(path);
    if (!config || !config->contains("chat_template")) return "";
    const json& t = (*config)["chat_template"];
    if (t.is_string()) return t.get<std::string>();
    if (!t.is_array()) return "";
    for (const json& entry : t) {
        if (entry.is_object() && entry.value("name", "") == "default") return entry.value("template", "");
    }
    return "";
}

std::vector<uint32_t> write_template(const std::string& name, const std::vector<std::string>& tokens,
                                     GgufMetadata& metadata) {
    std::string path = "prompts/templates/" + name + ".json";
    auto text = embedded_file(path);
    if (!text) {
        std::string known;
        for (const std::string& n : chat_template_names()) known += (known.empty() ? "" : ", ") + n;
        throw UsageError("unknown chat template " + in_quotes(name) + "; known: " + known);
    }
    json t = parse_json(*text, path);
    std::vector<uint32_t> end;
    TemplatePieces pieces = pieces_of(t);
    for (const std::string& piece : pieces.all) {
        auto it = std::find(tokens.begin(), tokens.end(), piece);
        if (it == tokens.end()) {
            throw FileError("chat template " + in_quotes(name) + " uses the token " + in_quotes(piece) +
                            ", which the tokenizer lacks");
        }
        if (std::find(pieces.end.begin(), pieces.end.end(), piece) != pieces.end.end()) {
            auto id = static_cast<uint32_t>(it - tokens.begin());
            if (std::find(end.begin(), end.end(), id) == end.end()) end.push_back(id);
        }
    }
    metadata.set("samba.chat_template", t.dump());
    return end;
}

}  // namespace samba
