#include "app/summary_printer.h"

#include "app/output.h"
#include "app/progress.h"

namespace samba {

void SummaryPrinter::at(int64_t tokens) {
    hide_progress();
    at_ = tokens;
    if (!style_.json) print("--- " + std::to_string(tokens) + " tokens\n");
    flush_output();
}

void SummaryPrinter::text(std::string_view text) {
    if (text.empty()) return;
    hide_progress();
    text_ += text;
    ends_line_ = text.back() == '\n';
    if (!style_.json) print_text(text);
}

void SummaryPrinter::end_text() {
    if (question_) {
        answers_.push_back({{"question", *question_}, {"text", text_}});
    } else {
        summary_ = text_;
    }
    if (!style_.json && !ends_line_) print("\n");
    flush_output();
    question_.reset();
    text_.clear();
    ends_line_ = true;
}

void SummaryPrinter::sentences(const std::vector<SummaryPart>& parts) {
    hide_progress();
    sentences_ = Json::array();
    std::string all;
    for (const SummaryPart& part : parts) {
        const std::string& file = part.file < style_.files.size() ? style_.files[part.file] : std::string();
        sentences_.push_back(
            {{"text", part.text}, {"file", file}, {"offset", part.offset}, {"bytes", part.text.size()}});
        all += (all.empty() ? "" : " ") + part.text;
        if (style_.json) continue;
        std::string where = style_.files.size() > 1 ? visible_line(file) + ":" : "";
        if (style_.offsets) print("[" + where + std::to_string(part.offset) + "] ");
        print_text(part.text);
        print("\n");
    }
    summary_ = all;
    flush_output();
}

void SummaryPrinter::question(const std::string& question, bool among) {
    hide_progress();
    question_ = question;
    if (among && !style_.json) print_text("> " + question + "\n");
}

void SummaryPrinter::report(Json fields) {
    if (!style_.json) return;
    Json report = {{"v", 1}, {"method", method_}};
    if (!at_.is_null()) report["at_tokens"] = at_;
    report["summary"] = summary_;
    if (!sentences_.is_null()) report["sentences"] = sentences_;
    if (!answers_.empty()) report["answers"] = answers_;
    report.update(fields);
    print_json(report);
    flush_output();
    summary_ = at_ = sentences_ = Json();
    answers_ = Json::array();
}

}  // namespace samba
