#include "models/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "kernels/error.h"
#include "models/json_text.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr int64_t kMostIds = 1 << 20;
constexpr int kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

class Reader {
  public:
    Reader(const json& root, const std::string& where) : root_(root), where_(where) {}

    TokenizerData read() {
        if (!root_.is_object()) fail("expected an object");
        data_.kind = "gpt2";
        read_model();
        read_rules();
        read_added();
        read_post_processor();
        fill_holes();
        return std::move(data_);
    }

  private:
    const json& root_;
    const std::string& where_;
    TokenizerData data_;
    std::unordered_map<std::string, int64_t> ids_;

    [[noreturn]] void fail(const std::string& what) const { throw FileError(in_quotes(where_) + ": " + what); }
    [[noreturn]] void refuse(const std::string& what, const std::string& expected, const json& found) const {
        fail(what + ": expected " + expected + ", found " +
             in_quotes(found.dump(-1, ' ', false, json::error_handler_t::replace)));
    }

    // A member, null where it is absent.
    static const json& member(const json& object, const char* key) {
        static const json nothing;
        if (!object.is_object()) return nothing;
        auto it = object.find(key);
        return it == object.end() ? nothing : *it;
    }
    const json& part(const char* key) const { return member(root_, key); }
    bool flag(const json& object, const char* key, bool absent, const std::string& what) const {
        const json& value = member(object, key);
        if (value.is_null()) return absent;
        if (!value.is_boolean()) refuse(what + "." + key, "true or false", value);
        return value.get<bool>();
    }
    static std::string type_of(const json& object) {
        const json& type = member(object, "type");
        return type.is_string() ? type.get<std::string>() : "";
    }
    int64_t id_in(const json& value, const std::string& piece) const {
        if (!value.is_number_integer() || value < 0 || value >= kMostIds) {
            refuse("the id of " + in_quotes(piece), "a number from 0 to " + std::to_string(kMostIds - 1), value);
        }
        return value.get<int64_t>();
    }

    void place(const std::string& piece, int64_t id, int type) {
        auto index = static_cast<size_t>(id);
        if (index >= data_.tokens.size()) {
            data_.tokens.resize(index + 1);
            data_.types.resize(index + 1, 0);
        }
        if (data_.types[index] != 0 && data_.tokens[index] != piece) {
            fail("the id " + std::to_string(id) + " belongs to both " + in_quotes(data_.tokens[index]) + " and " +
                 in_quotes(piece));
        }
        data_.tokens[index] = piece;
        data_.types[index] = type;
    }

    void read_model() {
        const json& model = part("model");
        const json& vocab = member(model, "vocab");
        const json& merges = member(model, "merges");
        if ((type_of(model) != "BPE" && model.is_object() && model.contains("type")) || !vocab.is_object() ||
            !merges.is_array()) {
            fail("expected a model of type \"BPE\" with vocab and merges, found type " + in_quotes(type_of(model)));
        }
        for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
            const json& value = member(model, key);
            if (!value.is_null() && value != "") refuse(std::string("model.") + key, "none", value);
        }
        const json& dropout = member(model, "dropout");
        if (!dropout.is_null() && dropout != 0.0) refuse("model.dropout", "none", dropout);
        if (flag(model, "byte_fallback", false, "model")) {
            fail(
                "model.byte_fallback: expected false, found true: made of a sentencepiece tokenizer, whose "
                "tokenizer.model is needed");
        }
        for (const auto& [piece, id] : vocab.items()) {
            ids_.emplace(piece, id_in(id, piece));
            place(piece, ids_[piece], kNormal);
        }
        for (const json& merge : merges) read_merge(merge);
    }

    // "a b", or ["a", "b"] in newer files.
    void read_merge(const json& merge) {
        std::string left, right;
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            left = merge[0].get<std::string>();
            right = merge[1].get<std::string>();
        } else if (merge.is_string()) {
            auto text = merge.get<std::string>();
            size_t space = text.find(' ');
            left = text.substr(0, space);
            if (space != std::string::npos) right = text.substr(space + 1);
        }
        bool known = ids_.contains(left) && ids_.contains(right) && ids_.contains(left + right);
        if (!known || (left + right).find(' ') != std::string::npos) {
            refuse("model.merges[" + std::to_string(data_.merges.size()) + "]",
                   "two pieces of the vocabulary that join to a third", merge);
        }
        data_.merges.push_back(left + ' ' + right);
    }

    // [Split by Llama 3's pattern, ByteLevel without its own]
    bool is_llama3(const json& pre) const {
        const json& parts = member(pre, "pretokenizers");
        if (type_of(pre) != "Sequence" || !parts.is_array() || parts.size() != 2) return false;
        const json& split = parts[0];
        return type_of(split) == "Split" && member(member(split, "pattern"), "Regex") == kLlama3Pattern &&
               member(split, "behavior") == "Isolated" && !flag(split, "invert", false, "Split") &&
               type_of(parts[1]) == "ByteLevel" && !flag(parts[1], "use_regex", true, "ByteLevel") &&
               !flag(parts[1], "add_prefix_space", true, "ByteLevel");
    }

    void read_rules() {
        const json& normalizer = part("normalizer");
        if (!normalizer.is_null() && type_of(normalizer) != "NFC") refuse("normalizer", "none or NFC", normalizer);
        data_.pre = normalizer.is_null() ? "gpt-2" : "gpt-neox";
        const json& pre = part("pre_tokenizer");
        if (is_llama3(pre)) {
            if (!normalizer.is_null()) refuse("normalizer", "none beside Llama 3's pattern", normalizer);
            data_.pre = "llama-bpe";
            data_.add_space_prefix = false;
        } else if (type_of(pre) != "ByteLevel" || !flag(pre, "use_regex", true, "pre_tokenizer")) {
            refuse("pre_tokenizer", "ByteLevel with its own pattern, or Llama 3's", pre);
        } else {
            data_.add_space_prefix = flag(pre, "add_prefix_space", true, "pre_tokenizer");
        }
        bool whole_words = data_.pre == "llama-bpe";
        if (flag(part("model"), "ignore_merges", false, "model") != whole_words) {
            refuse("model.ignore_merges", whole_words ? "true beside Llama 3's pattern" : "false", !whole_words);
        }
        const json& decoder = part("decoder");
        if (!decoder.is_null() && type_of(decoder) != "ByteLevel") refuse("decoder", "ByteLevel", decoder);
    }

    void read_added() {
        const json& added = part("added_tokens");
        if (!added.is_null() && !added.is_array()) refuse("added_tokens", "a list", added);
        for (const json& token : added) {
            const json& content = member(token, "content");
            if (!content.is_string() || content == "") refuse("added_tokens", "tokens with a content", token);
            auto piece = content.get<std::string>();
            int64_t id = id_in(member(token, "id"), piece);
            bool special = flag(token, "special", false, "added_tokens");
            if (!special) check_text_token(token, piece);
            place(piece, id, special ? kControl : kUserDefined);
            ids_.emplace(piece, id);
            if (special) data_.added_ids.push_back(static_cast<uint32_t>(id));
        }
    }

    // Text gives such a token wherever it holds the content; conditions on what stands around it are not known here.
    void check_text_token(const json& token, const std::string& piece) const {
        for (const char* key : {"single_word", "lstrip", "rstrip"}) {
            if (flag(token, key, false, "added_tokens")) {
                refuse("the added token " + in_quotes(piece), std::string(key) + " false", token);
            }
        }
        bool ascii =
            std::all_of(piece.begin(), piece.end(), [](char c) { return static_cast<unsigned char>(c) < 128; });
        if (data_.pre == "gpt-neox" && !(ascii && flag(token, "normalized", false, "added_tokens"))) {
            refuse("the added token " + in_quotes(piece), "ASCII text and normalized true beside a normalizer", token);
        }
    }

    void read_post_processor() {
        const json& post = part("post_processor");
        const json& parts = member(post, "processors");
        if (type_of(post) == "Sequence" && parts.is_array()) {
            for (const json& p : parts) read_post_processor(p);
        } else {
            read_post_processor(post);
        }
    }

    void read_post_processor(const json& post) {
        if (post.is_null() || type_of(post) == "ByteLevel") return;
        const json& single = member(post, "single");
        if (type_of(post) != "TemplateProcessing" || !single.is_array() || single.empty() || single.size() > 2 ||
            !single.back().contains("Sequence")) {
            refuse("post_processor", "ByteLevel, or a template that only begins texts", post);
        }
        if (single.size() == 1) return;
        const json& name = member(member(single[0], "SpecialToken"), "id");
        auto it = name.is_string() ? ids_.find(name.get<std::string>()) : ids_.end();
        if (it == ids_.end()) refuse("post_processor", "a begin token of the vocabulary", single[0]);
        data_.bos = static_cast<int32_t>(it->second);
        data_.add_bos = true;
    }

    void fill_holes() {
        for (size_t id = 0; id < data_.tokens.size(); ++id) {
            if (data_.types[id] != 0) continue;
            data_.tokens[id] = "[PAD" + std::to_string(id) + "]";  // GGUF's name for a row without a piece
            data_.types[id] = kUnused;
        }
    }
};

}  // namespace

TokenizerData read_tokenizer_json(std::string_view text, const std::string& where) {
    json root = parse_json(text, where);
    return Reader(root, where).read();
}

}  // namespace samba
