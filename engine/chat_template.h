// How messages become tokens. A template is data (JSON, docs/file-format.md):
//   {"name", "begin", "system", "user", "assistant": [parts], "end": [pieces]}; a part is {"token": "<|user|>"},
//   {"text": "…"} or {"content": true}. Neighbouring text and content are encoded as one TEXT, by itself.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/tokenizer.h"

namespace samba {

struct Message {
    std::string role;  // "system", "user", "assistant"
    std::string content;
};

class ChatTemplate {
  public:
    static ChatTemplate parse(const std::string& json, const std::string& where);  // throws FileError naming `where`
    // A built-in name ("samba", "chatml", …: prompts/templates/NAME.json), or a file if it holds '/' or ends in .json.
    static ChatTemplate named(const std::string& name_or_file);
    static std::vector<std::string> names();

    const std::string& name() const { return name_; }
    std::string json() const;  // canonical text: what a session remembers
    std::vector<std::string> control_pieces() const;

    // The ids of a conversation's begin. A template with an empty "begin" leaves it to the tokenizer: its begin token,
    // if it adds one to texts.
    std::vector<int32_t> begin(const Tokenizer& t) const;
    // A whole message.
    std::vector<int32_t> encode(const Tokenizer& t, const Message& message) const;
    // A message in three steps, for content that arrives as a stream: ids, then one TEXT = text_before + content +
    // text_after of the opening and closing, then ids.
    struct Edge {
        std::vector<int32_t> ids;
        std::string text;
    };
    Edge opening(const Tokenizer& t, const std::string& role) const;  // ids first, then text that begins the TEXT
    Edge closing(const Tokenizer& t, const std::string& role) const;  // text that ends the TEXT first, then ids
    // What opens a reply: the assistant's ids (and text, encoded) before its content.
    std::vector<int32_t> reply_opening(const Tokenizer& t) const;
    // The tokens that close a reply; the first is the one fed after a reply that was cut.
    std::vector<int32_t> end_ids(const Tokenizer& t) const;

  private:
    struct Part {
        enum Kind { kToken, kText, kContent } kind;
        std::string value;
    };
    using Parts = std::vector<Part>;
    std::string name_;
    Parts begin_;
    std::map<std::string, Parts> roles_;
    std::vector<std::string> end_;

    friend class TemplateReader;
    const Parts& parts(const std::string& role) const;
    int32_t id_of(const Tokenizer& t, const std::string& piece) const;
    void encode_parts(const Tokenizer& t, std::span<const Part> parts, Edge& edge) const;
};

}  // namespace samba
