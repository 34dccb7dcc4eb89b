// How `complete` shows a reply: as text while it comes, as a line of JSON a token, or as one report.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/generate.h"

namespace samba {

class ReplyPrinter {
  public:
    struct Style {
        bool json = false, jsonl = false;
        bool logprobs = false;  // in the JSON forms
    };
    ReplyPrinter(const Engine& engine, uint64_t seed, Style style) : engine_(engine), seed_(seed), style_(style) {}

    void echo(std::string_view text);     // of the prompt
    bool token(const TokenEvent& event);  // false: nobody reads any more, the reply may end
    bool closed() const { return closed_; }
    void finish(const Reply& reply);

  private:
    const Engine& engine_;
    uint64_t seed_;
    Style style_;
    std::string echoed_;                                                 // json
    nlohmann::ordered_json logprobs_ = nlohmann::ordered_json::array();  // json
    bool closed_ = false;
    bool ends_line_ = true;  // what was printed last ends with a newline

    void show(std::string_view text);
    void print_token(const TokenEvent& event);
    nlohmann::ordered_json logprob_json(int32_t id, float logprob) const;
    nlohmann::ordered_json with_top(nlohmann::ordered_json token, const TokenEvent& event) const;
    nlohmann::ordered_json report(const Reply& reply) const;
};

}  // namespace samba
