#include "models/convert_tokenizer.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "models/convert_template.h"
#include "models/json_text.h"
#include "models/model_file.h"
#include "models/quote.h"
#include "models/sentencepiece_file.h"
#include "models/tokenizer_json.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr int32_t kControl = 3, kUserDefined = 4, kUnused = 5;

std::optional<json> read_json_if_there(const std::string& path) {
    struct stat status;
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    json j = parse_json(read_text_file(path), path);
    if (!j.is_object()) throw FileError(in_quotes(path) + ": expected an object");
    return j;
}

std::optional<int64_t> parse_id(const std::string& text) {
    int64_t id = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id < 0) return std::nullopt;
    return id;
}

struct AddedToken {
    std::string text;
    int32_t type = kControl;
};

// Tokens that the directory adds beyond the tokenizer's own: added_tokens.json {"text": id}, and
// tokenizer_config.json's added_tokens_decoder {"id": {"content", "special"}}.
std::map<int64_t, AddedToken> added_tokens(const std::string& directory, const std::optional<json>& config,
                                           int64_t n_pieces) {
    std::map<int64_t, AddedToken> added;
    if (auto list = read_json_if_there(directory + "/added_tokens.json")) {
        for (const auto& [text, id] : list->items()) {
            if (id.is_number_integer() && id >= n_pieces) added[id.get<int64_t>()] = {text, kControl};
        }
    }
    if (!config || !config->contains("added_tokens_decoder")) return added;
    for (const auto& [key, token] : (*config)["added_tokens_decoder"].items()) {
        auto id = parse_id(key);
        if (!id || *id < n_pieces || !token.is_object() || !token.contains("content") || !token["content"].is_string())
            continue;
        bool special = !token.contains("special") || token["special"] == true;
        added[*id] = {token["content"].get<std::string>(), special ? kControl : kUserDefined};
    }
    return added;
}

// Embeddings are often padded to a round number of rows.
bool only_padding(int64_t tokens, int64_t rows) {
    for (int64_t multiple : {8, 64, 128, 256, 512}) {
        if ((tokens + multiple - 1) / multiple * multiple == rows) return true;
    }
    return false;
}

// Appends what the directory adds. More tokens than rows are another model's tokenizer; so is a tokenizer.model, which
// may come from anywhere, with far fewer. A directory's own tokenizer.json with far fewer only gets a note.
void append_added(const std::map<int64_t, AddedToken>& added, const TokenizerSource& source, int64_t rows,
                  TokenizerData& data, std::vector<std::string>& notes) {
    auto count = [](int64_t n) { return std::to_string(n); };
    auto n_pieces = static_cast<int64_t>(data.tokens.size());
    int64_t total = added.empty() ? n_pieces : added.rbegin()->first + 1;
    bool padded = only_padding(total, rows);
    if (total > rows || (!padded && data.kind != "gpt2")) {
        throw FileError(in_quotes(source.tokenizer_path) + ": its " + count(n_pieces) + " pieces" +
                        (added.empty() ? "" : " and " + count(total - n_pieces) + " added tokens") +
                        " do not fit the embedding, which has " + count(rows) +
                        " rows (is it another model's tokenizer?)");
    }
    if (!padded) {
        notes.push_back("the tokenizer has " + count(total) + " pieces, the embedding " + count(rows) +
                        " rows: the last are taken as padding");
    }
    for (int64_t id = n_pieces; id < total; ++id) {
        auto it = added.find(id);
        bool there = it != added.end();
        data.tokens.push_back(there ? it->second.text : "[PAD" + count(id) + "]");
        data.types.push_back(there ? it->second.type : kUnused);
        if (!data.scores.empty()) data.scores.push_back(0);
        if (there) data.added_ids.push_back(static_cast<uint32_t>(id));
    }
}

TokenizerData from_sentencepiece(std::string bytes, const std::string& path, std::vector<std::string>& notes) {
    SentencePieceFile file = parse_sentencepiece(bytes, path);
    if (!file.exact_streams()) {
        notes.push_back(
            "the tokenizer's normaliser (" + in_quotes(file.normalizer) +
            ") changes text or white space: streams are cut at 64 KiB, where tokens may differ from the whole text's");
    }
    TokenizerData data;
    data.kind = "llama";
    for (const auto& p : file.pieces) {
        data.tokens.push_back(p.text);
        data.scores.push_back(p.score);
        data.types.push_back(p.type);
    }
    data.bos = static_cast<int32_t>(file.bos);
    data.eos = static_cast<int32_t>(file.eos);
    data.unk = static_cast<int32_t>(file.unk);
    data.add_bos = true;
    data.add_space_prefix = file.add_dummy_prefix;
    data.sentencepiece_model = std::move(bytes);
    return data;
}

void write_pieces(TokenizerData data, GgufMetadata& metadata) {
    metadata.set("tokenizer.ggml.model", data.kind);
    if (!data.pre.empty()) metadata.set("tokenizer.ggml.pre", data.pre);
    metadata.set("tokenizer.ggml.tokens", std::move(data.tokens));
    if (!data.scores.empty()) metadata.set("tokenizer.ggml.scores", std::move(data.scores));
    metadata.set("tokenizer.ggml.token_type", std::move(data.types));
    if (!data.merges.empty()) metadata.set("tokenizer.ggml.merges", std::move(data.merges));
    const std::string& model = data.sentencepiece_model;
    if (!model.empty()) metadata.set("tokenizer.sentencepiece.model", std::vector<uint8_t>(model.begin(), model.end()));
    if (!data.added_ids.empty()) metadata.set("samba.added_token_ids", std::move(data.added_ids));
}

// The id of the piece that tokenizer_config.json names, as text or as {"content": text}; -1: none.
int64_t named_piece(const std::optional<json>& config, const char* key, const std::vector<std::string>& tokens) {
    if (!config || !config->contains(key)) return -1;
    const json& named = (*config)[key];
    const json& text = named.is_object() && named.contains("content") ? named["content"] : named;
    if (!text.is_string()) return -1;
    auto it = std::find(tokens.begin(), tokens.end(), text.get<std::string>());
    return it == tokens.end() ? -1 : it - tokens.begin();
}

// generation_config.json's end tokens, one or a list: a chat model's often end with more than the config says.
std::vector<int64_t> generation_ends(const std::string& directory) {
    std::string path = directory + "/generation_config.json";
    auto config = read_json_if_there(path);
    if (!config || !config->contains("eos_token_id") || (*config)["eos_token_id"].is_null()) return {};
    const json& value = (*config)["eos_token_id"];
    std::vector<int64_t> ids;
    for (const json& id : value.is_array() ? value : json::array({value})) {
        if (!id.is_number_integer() || id < 0) {
            throw FileError(in_quotes(path) + ": \"eos_token_id\": expected token ids, found " +
                            in_quotes(id.dump(-1, ' ', false, json::error_handler_t::replace)));
        }
        ids.push_back(id.get<int64_t>());
    }
    return ids;
}

// `end`: the template's end tokens, which come first; then config.json's, generation_config.json's, the tokenizer's.
void write_special_tokens(const TokenizerData& data, const CheckpointPlan& plan, const TokenizerSource& source,
                          const std::optional<json>& config, std::vector<uint32_t> end, GgufMetadata& metadata,
                          std::vector<std::string>& notes) {
    int64_t rows = plan.config.vocab_size;
    auto usable = [&](int64_t id) { return id >= 0 && id < rows; };
    std::vector<int64_t> closing = plan.eos;
    for (int64_t id : generation_ends(source.directory)) closing.push_back(id);
    closing.push_back(named_piece(config, "eos_token", data.tokens));
    auto first = std::find_if(closing.begin(), closing.end(), usable);
    int64_t eos = first == closing.end() ? data.eos : *first;
    int64_t bos = data.bos;
    bool begins_itself = data.kind == "gpt2" && data.add_bos;  // the post-processor names the token
    if (plan.bos && usable(*plan.bos) && !begins_itself) bos = *plan.bos;
    if (bos < 0) bos = named_piece(config, "bos_token", data.tokens);
    auto set_id = [&](const char* key, int64_t id) {
        if (id >= 0) metadata.set(key, static_cast<uint32_t>(id));
    };
    set_id("tokenizer.ggml.bos_token_id", bos);
    set_id("tokenizer.ggml.eos_token_id", eos);
    set_id("tokenizer.ggml.unknown_token_id", data.unk);
    if (!end.empty() && end[0] != eos) set_id("tokenizer.ggml.eot_token_id", end[0]);
    closing.push_back(eos);
    for (int64_t id : closing) {
        if (usable(id) && std::find(end.begin(), end.end(), id) == end.end()) end.push_back(static_cast<uint32_t>(id));
    }
    if (end.empty()) notes.push_back("the checkpoint names no end token: --set samba.end_token_ids=ID,… says them");
    metadata.set("samba.end_token_ids", end);
    bool add_bos = data.add_bos && bos >= 0;
    if (config && config->contains("add_bos_token") && (*config)["add_bos_token"].is_boolean()) {
        add_bos = (*config)["add_bos_token"].get<bool>() && bos >= 0;
    }
    metadata.set("tokenizer.ggml.add_bos_token", add_bos);
    metadata.set("tokenizer.ggml.add_space_prefix", data.add_space_prefix);
}

}  // namespace

std::string write_tokenizer(const TokenizerSource& source, const CheckpointPlan& plan, GgufMetadata& metadata,
                            std::vector<std::string>& notes) {
    std::string bytes = read_text_file(source.tokenizer_path);
    TokenizerData data = bytes.starts_with('{') ? read_tokenizer_json(bytes, source.tokenizer_path)
                                                : from_sentencepiece(std::move(bytes), source.tokenizer_path, notes);
    auto config = read_json_if_there(source.directory + "/tokenizer_config.json");
    auto added = added_tokens(source.directory, config, static_cast<int64_t>(data.tokens.size()));
    append_added(added, source, plan.config.vocab_size, data, notes);
    write_pieces(data, metadata);

    std::string name = source.chat_template, jinja = jinja_text(source.directory, config);
    if (!jinja.empty()) {
        metadata.set("tokenizer.chat_template", jinja);
        if (name.empty()) name = recognise_template(jinja);
        if (name.empty())
            notes.push_back("the checkpoint's chat template is none that is known: name one with --template to chat");
    } else if (name.empty()) {
        notes.push_back("the checkpoint has no chat template: name one with --template to chat");
    }
    std::vector<uint32_t> end;
    if (!name.empty()) end = write_template(name, data.tokens, metadata);
    write_special_tokens(data, plan, source, config, std::move(end), metadata, notes);
    return name;
}

}  // namespace samba
