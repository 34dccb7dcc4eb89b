// What summarize prints: summaries, answers, the honest line at the end; as text or as JSON.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/summarizer.h"

namespace samba {

class SummaryPrinter {
  public:
    struct Style {
        bool json = false, offsets = false;
        std::vector<std::string> files;  // by number, for offsets
    };
    SummaryPrinter(std::string method, Style style) : method_(std::move(method)), style_(std::move(style)) {}

    // "--- N tokens": what follows is the summary so far.
    void at(int64_t tokens);
    // Text that the model writes, as it comes; end_text when it is whole. As JSON it goes into the report.
    void text(std::string_view text);
    void end_text();
    void sentences(const std::vector<SummaryPart>& parts);
    // The next text answers this question; `among`: one of several.
    void question(const std::string& question, bool among);

    // As JSON, a line with what was printed since the last one, and these fields.
    void report(nlohmann::ordered_json fields);
    const std::string& method() const { return method_; }

  private:
    using Json = nlohmann::ordered_json;
    std::string method_;
    Style style_;
    bool ends_line_ = true;
    std::string text_;
    std::optional<std::string> question_;
    Json sentences_, answers_ = Json::array(), summary_, at_;
};

}  // namespace samba
