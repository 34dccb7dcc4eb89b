#include "models/convert_tokenizer.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "models/convert.h"
#include "models/embedded.h"
#include "models/json_text.h"
#include "models/quote.h"
#include "models/sentencepiece_file.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr int32_t kControl = 3, kUserDefined = 4, kUnused = 5;

struct Token {
    std::string text;
    float score = 0;
    int32_t type = 1;
};

std::optional<json> read_json_if_there(const std::string& path) {
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    return parse_json(read_text_file(path), path);
}

std::optional<int64_t> parse_id(const std::string& text) {
    int64_t id = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id < 0) return std::nullopt;
    return id;
}

// Tokens that the directory adds beyond the pieces: added_tokens.json {"text": id}, and tokenizer_config.json's
// added_tokens_decoder {"id": {"content", "special"}}.
std::map<int64_t, Token> added_tokens(const std::string& directory, const std::optional<json>& config,
                                      int64_t n_pieces) {
    std::map<int64_t, Token> added;
    if (auto list = read_json_if_there(directory + "/added_tokens.json"); list && list->is_object()) {
        for (const auto& [text, id] : list->items()) {
            if (id.is_number_integer() && id >= n_pieces) added[id.get<int64_t>()] = {text, 0, kControl};
        }
    }
    if (!config || !config->contains("added_tokens_decoder")) return added;
    for (const auto& [key, token] : (*config)["added_tokens_decoder"].items()) {
        auto id = parse_id(key);
        if (!id || *id < n_pieces || !token.is_object() || !token.contains("content") || !token["content"].is_string())
            continue;
        bool special = !token.contains("special") || token["special"] == true;
        added[*id] = {token["content"].get<std::string>(), 0, special ? kControl : kUserDefined};
    }
    return added;
}

// Embeddings are often padded to a round number of rows; anything else is another model's tokenizer.
bool only_padding(int64_t tokens, int64_t rows) {
    for (int64_t multiple : {8, 64, 128, 256}) {
        if ((tokens + multiple - 1) / multiple * multiple == rows) return true;
    }
    return false;
}

std::vector<Token> token_list(const SentencePieceFile& file, const std::map<int64_t, Token>& added,
                              const std::string& path, int64_t rows, std::vector<uint32_t>& added_ids) {
    std::vector<Token> tokens;
    for (const auto& p : file.pieces) tokens.push_back({p.text, p.score, p.type});
    auto count = [](int64_t n) { return std::to_string(n); };
    auto n_pieces = static_cast<int64_t>(tokens.size());
    int64_t total = added.empty() ? n_pieces : added.rbegin()->first + 1;
    if (total > rows || !only_padding(total, rows)) {
        throw FileError(in_quotes(path) + ": its " + count(n_pieces) + " pieces" +
                        (added.empty() ? "" : " and " + count(total - n_pieces) + " added tokens") +
                        " do not fit the embedding, which has " + count(rows) +
                        " rows (is it another model's tokenizer?)");
    }
    for (int64_t id = n_pieces; id < total; ++id) {
        auto it = added.find(id);
        tokens.push_back(it != added.end() ? it->second : Token{"[PAD" + count(id) + "]", 0, kUnused});
        if (it != added.end()) added_ids.push_back(static_cast<uint32_t>(id));
    }
    return tokens;
}

// Which of our templates a Jinja text is, by the marks that only it has; empty: none.
std::string recognise(const std::string& jinja) {
    auto has = [&](const char* text) { return jinja.find(text) != std::string::npos; };
    if (has("<|im_start|>")) return "chatml";
    if (has("<|start_header_id|>")) return "llama-3";
    if (has("[INST]") && has("<<SYS>>")) return "llama-2";
    if (has("<|end|>") && has("<|user|>\\n")) return "phi-3";
    if (has("<|end|>") && has("<|user|>") && has("<|assistant|>")) return "samba";
    if (has("<|user|>\\n") && has("eos_token")) return "zephyr";
    return "";
}

// A directory's own Jinja text: chat_template.jinja, or in tokenizer_config.json (a string, or a list with a
// "default").
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

// Stores the template and returns the ids of its end tokens.
std::vector<uint32_t> write_template(const std::string& name, const std::vector<Token>& tokens,
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
        auto it = std::find_if(tokens.begin(), tokens.end(), [&](const Token& token) { return token.text == piece; });
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

void write_special_tokens(const SentencePieceFile& file, const CheckpointPlan& plan, const std::optional<json>& config,
                          std::vector<uint32_t> end, GgufMetadata& metadata) {
    int64_t rows = plan.config.vocab_size;
    int64_t bos = plan.bos && *plan.bos < rows ? *plan.bos : file.bos;
    int64_t eos = !plan.eos.empty() && plan.eos[0] < rows ? plan.eos[0] : file.eos;
    auto set_id = [&](const char* key, int64_t id) {
        if (id >= 0) metadata.set(key, static_cast<uint32_t>(id));
    };
    set_id("tokenizer.ggml.bos_token_id", bos);
    set_id("tokenizer.ggml.eos_token_id", eos);
    set_id("tokenizer.ggml.unknown_token_id", file.unk);
    if (!end.empty() && end[0] != eos) set_id("tokenizer.ggml.eot_token_id", end[0]);
    std::vector<int64_t> closing = plan.eos;
    closing.push_back(eos);
    for (int64_t id : closing) {
        bool usable = id >= 0 && id < rows;
        if (usable && std::find(end.begin(), end.end(), id) == end.end()) end.push_back(static_cast<uint32_t>(id));
    }
    metadata.set("samba.end_token_ids", end);
    bool add_bos = bos >= 0;
    if (config && config->contains("add_bos_token") && (*config)["add_bos_token"].is_boolean()) {
        add_bos = (*config)["add_bos_token"].get<bool>() && bos >= 0;
    }
    metadata.set("tokenizer.ggml.add_bos_token", add_bos);
    metadata.set("tokenizer.ggml.add_space_prefix", file.add_dummy_prefix);
}

}  // namespace

std::vector<std::string> chat_template_names() { return embedded_names("prompts/templates"); }

std::string write_tokenizer(const TokenizerSource& source, const CheckpointPlan& plan, GgufMetadata& metadata,
                            std::vector<std::string>& notes) {
    std::string bytes = read_text_file(source.tokenizer_path);
    SentencePieceFile file = parse_sentencepiece(bytes, source.tokenizer_path);
    if (!file.exact_streams()) {
        notes.push_back(
            "the tokenizer's normaliser (" + in_quotes(file.normalizer) +
            ") changes text or white space: streams are cut at 64 KiB, where tokens may differ from the whole text's");
    }
    auto config = read_json_if_there(source.directory + "/tokenizer_config.json");
    if (config && !config->is_object())
        throw FileError(in_quotes(source.directory + "/tokenizer_config.json") + ": expected an object");
    auto added = added_tokens(source.directory, config, static_cast<int64_t>(file.pieces.size()));
    std::vector<uint32_t> added_ids;
    std::vector<Token> tokens = token_list(file, added, source.tokenizer_path, plan.config.vocab_size, added_ids);
    std::vector<std::string> texts;
    std::vector<float> scores;
    std::vector<int32_t> types;
    for (const Token& t : tokens) {
        texts.push_back(t.text);
        scores.push_back(t.score);
        types.push_back(t.type);
    }
    metadata.set("tokenizer.ggml.model", std::string("llama"));
    metadata.set("tokenizer.ggml.tokens", std::move(texts));
    metadata.set("tokenizer.ggml.scores", std::move(scores));
    metadata.set("tokenizer.ggml.token_type", std::move(types));
    metadata.set("tokenizer.sentencepiece.model", std::vector<uint8_t>(bytes.begin(), bytes.end()));
    if (!added_ids.empty()) metadata.set("samba.added_token_ids", added_ids);

    std::string name = source.chat_template, jinja = jinja_text(source.directory, config);
    if (!jinja.empty()) {
        metadata.set("tokenizer.chat_template", jinja);
        if (name.empty()) name = recognise(jinja);
        if (name.empty())
            notes.push_back("the checkpoint's chat template is none that is known: name one with --template to chat");
    } else if (name.empty()) {
        notes.push_back("the checkpoint has no chat template: name one with --template to chat");
    }
    std::vector<uint32_t> end;
    if (!name.empty()) end = write_template(name, tokens, metadata);
    write_special_tokens(file, plan, config, std::move(end), metadata);
    return name;
}

}  // namespace samba
