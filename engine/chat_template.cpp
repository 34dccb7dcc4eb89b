#include "engine/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "models/embedded.h"
#include "models/json_text.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kLongest = 64 << 10;
constexpr const char* kRoles[] = {"system", "user", "assistant"};

}  // namespace

class TemplateReader {
  public:
    using Part = ChatTemplate::Part;

    TemplateReader(const json& root, const std::string& where) : root_(root), where_(where) {}

    ChatTemplate read() {
        if (!root_.is_object()) fail("expected an object, found " + shown(root_));
        for (const auto& [key, value] : root_.items()) {
            bool known = key == "name" || key == "begin" || key == "end" ||
                         std::find(std::begin(kRoles), std::end(kRoles), key) != std::end(kRoles);
            if (!known) fail("unknown key " + in_quotes(key) + "; known: name, begin, system, user, assistant, end");
        }
        ChatTemplate t;
        t.name_ = text(need("name"), "name");
        t.begin_ = root_.contains("begin") ? parts("begin", 0) : ChatTemplate::Parts{};
        for (const char* role : kRoles) {
            bool optional = std::string_view(role) == "system";
            if (!optional || root_.contains(role)) t.roles_[role] = parts(role, 1);
        }
        const json& end = need("end");
        if (!end.is_array() || end.empty()) fail("end: expected a list of tokens, found " + shown(end));
        for (const json& piece : end) t.end_.push_back(text(piece, "end"));
        return t;
    }

  private:
    const json& root_;
    const std::string& where_;

    [[noreturn]] void fail(const std::string& what) const {
        throw FileError(in_quotes(where_) + ": not a chat template: " + what);
    }
    static std::string shown(const json& value) { return in_quotes(value.dump()); }

    const json& need(const char* key) const {
        auto it = root_.find(key);
        if (it == root_.end()) fail(std::string(key) + " is missing");
        return *it;
    }
    std::string text(const json& value, const std::string& what) const {
        if (!value.is_string() || value == "")
            fail(what + ": expected a text that is not empty, found " + shown(value));
        return value.get<std::string>();
    }

    ChatTemplate::Parts parts(const char* key, int n_contents) const {
        const json& list = need(key);
        if (!list.is_array()) fail(std::string(key) + ": expected a list of parts, found " + shown(list));
        ChatTemplate::Parts parts;
        for (const json& part : list) parts.push_back(read_part(part, key));
        auto contents =
            std::count_if(parts.begin(), parts.end(), [](const Part& p) { return p.kind == Part::kContent; });
        if (contents != n_contents) {
            fail(std::string(key) + ": expected " + std::to_string(n_contents) + " {\"content\":true}, found " +
                 std::to_string(contents));
        }
        return parts;
    }

    Part read_part(const json& part, const std::string& key) const {
        if (part.is_object() && part.size() == 1) {
            if (part.contains("token")) return {Part::kToken, text(part["token"], key + ": token")};
            if (part.contains("text")) return {Part::kText, text(part["text"], key + ": text")};
            if (part.contains("content") && part["content"] == true) return {Part::kContent, ""};
        }
        fail(key + ": expected {\"token\":\"…\"}, {\"text\":\"…\"} or {\"content\":true}, found " + shown(part));
    }
};

ChatTemplate ChatTemplate::parse(const std::string& json, const std::string& where) {
    if (json.size() > kLongest) {
        throw FileError(in_quotes(where) + ": not a chat template: it has " + std::to_string(json.size()) +
                        " bytes, at most " + std::to_string(kLongest) + " are read");
    }
    auto root = parse_json(json, where);
    return TemplateReader(root, where).read();
}

ChatTemplate ChatTemplate::named(const std::string& name_or_file) {
    if (name_or_file.find('/') != std::string::npos || name_or_file.ends_with(".json")) {
        return parse(read_text_file(name_or_file), name_or_file);
    }
    std::string path = "prompts/templates/" + name_or_file + ".json";
    if (auto text = embedded_file(path)) return parse(std::string(*text), path);
    std::string known;
    for (const std::string& name : names()) known += (known.empty() ? "" : ", ") + name;
    throw UsageError("unknown chat template " + in_quotes(name_or_file) + "; known: " + known +
                     "; a file is named with a / or .json");
}

std::vector<std::string> ChatTemplate::names() { return embedded_names("prompts/templates"); }

std::string ChatTemplate::json() const {
    auto list = [](const Parts& parts) {
        auto out = ordered_json::array();
        for (const Part& p : parts) {
            if (p.kind == Part::kToken) out.push_back({{"token", p.value}});
            if (p.kind == Part::kText) out.push_back({{"text", p.value}});
            if (p.kind == Part::kContent) out.push_back({{"content", true}});
        }
        return out;
    };
    ordered_json root = {{"name", name_}, {"begin", list(begin_)}};
    for (const char* role : kRoles) {
        if (auto it = roles_.find(role); it != roles_.end()) root[role] = list(it->second);
    }
    root["end"] = end_;
    return root.dump();
}

std::vector<std::string> ChatTemplate::control_pieces() const {
    std::vector<std::string> pieces = end_;
    auto add = [&](const Parts& parts) {
        for (const Part& p : parts) {
            bool known = std::find(pieces.begin(), pieces.end(), p.value) != pieces.end();
            if (p.kind == Part::kToken && !known) pieces.push_back(p.value);
        }
    };
    add(begin_);
    for (const auto& [role, parts] : roles_) add(parts);
    return pieces;
}

const ChatTemplate::Parts& ChatTemplate::parts(const std::string& role) const {
    auto it = roles_.find(role);
    if (it != roles_.end()) return it->second;
    std::string known;
    for (const auto& [name, parts] : roles_) known += (known.empty() ? "" : ", ") + name;
    throw UsageError("chat template " + in_quotes(name_) + " has no role " + in_quotes(role) + "; it knows " + known);
}

int32_t ChatTemplate::id_of(const Tokenizer& t, const std::string& piece) const {
    if (auto id = t.id_of(piece)) return *id;
    throw UsageError("chat template " + in_quotes(name_) + " needs the token " + in_quotes(piece) +
                     ", which this model's tokenizer lacks; name another with --template");
}

// Tokens close the text before them; text at the end stays open in edge.text.
void ChatTemplate::encode_parts(const Tokenizer& t, std::span<const Part> parts, Edge& edge) const {
    for (const Part& part : parts) {
        if (part.kind == Part::kToken) {
            std::vector<int32_t> ids = t.encode(edge.text);
            edge.text.clear();
            edge.ids.insert(edge.ids.end(), ids.begin(), ids.end());
            edge.ids.push_back(id_of(t, part.value));
        } else {
            edge.text += part.value;
        }
    }
}

std::vector<int32_t> ChatTemplate::begin(const Tokenizer& t) const {
    if (begin_.empty()) return t.add_bos() && t.bos() >= 0 ? std::vector<int32_t>{t.bos()} : std::vector<int32_t>{};
    Edge edge;
    encode_parts(t, begin_, edge);
    std::vector<int32_t> text = t.encode(edge.text);
    edge.ids.insert(edge.ids.end(), text.begin(), text.end());
    return edge.ids;
}

ChatTemplate::Edge ChatTemplate::opening(const Tokenizer& t, const std::string& role) const {
    const Parts& all = parts(role);
    auto content = std::find_if(all.begin(), all.end(), [](const Part& p) { return p.kind == Part::kContent; });
    Edge edge;
    encode_parts(t, {all.begin(), content}, edge);
    return edge;
}

ChatTemplate::Edge ChatTemplate::closing(const Tokenizer& t, const std::string& role) const {
    const Parts& all = parts(role);
    auto part = std::find_if(all.begin(), all.end(), [](const Part& p) { return p.kind == Part::kContent; }) + 1;
    Edge edge;
    for (; part != all.end() && part->kind == Part::kText; ++part) edge.text += part->value;
    Edge rest;
    encode_parts(t, {part, all.end()}, rest);
    std::vector<int32_t> last = t.encode(rest.text);
    edge.ids = std::move(rest.ids);
    edge.ids.insert(edge.ids.end(), last.begin(), last.end());
    return edge;
}

std::vector<int32_t> ChatTemplate::encode(const Tokenizer& t, const Message& message) const {
    Edge open = opening(t, message.role), close = closing(t, message.role);
    std::vector<int32_t> ids = std::move(open.ids);
    std::vector<int32_t> text = t.encode(open.text + message.content + close.text);
    ids.insert(ids.end(), text.begin(), text.end());
    ids.insert(ids.end(), close.ids.begin(), close.ids.end());
    return ids;
}

std::vector<int32_t> ChatTemplate::reply_opening(const Tokenizer& t) const {
    Edge edge = opening(t, "assistant");
    std::vector<int32_t> text = t.encode(edge.text);
    edge.ids.insert(edge.ids.end(), text.begin(), text.end());
    return edge.ids;
}

std::vector<int32_t> ChatTemplate::end_ids(const Tokenizer& t) const {
    std::vector<int32_t> ids;
    for (const std::string& piece : end_) ids.push_back(id_of(t, piece));
    return ids;
}

}  // namespace samba
