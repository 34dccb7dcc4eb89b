#include "app/reply_printer.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "app/model_text.h"
#include "app/output.h"

namespace samba {

using Json = nlohmann::ordered_json;

namespace {

double rate(int64_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; }

}  // namespace

void ReplyPrinter::show(std::string_view text) {
    if (text.empty()) return;
    print_text(text);
    ends_line_ = text.back() == '\n';
}

void ReplyPrinter::echo(std::string_view text) {
    if (style_.json)
        echoed_ += text;
    else
        show(text);
}

Json ReplyPrinter::logprob_json(int32_t id, float logprob) const {
    return {{"id", id}, {"text", engine_.tokenizer().bytes(id)}, {"logprob", logprob}};
}

Json ReplyPrinter::with_top(Json token, const TokenEvent& event) const {
    Json top = Json::array();
    for (const TokenLogprob& t : event.top) top.push_back(logprob_json(t.id, t.logprob));
    token["top"] = top;
    return token;
}

bool ReplyPrinter::token(const TokenEvent& event) {
    try {
        if (!closed_) print_token(event);
    } catch (const BrokenPipe&) {  // the command still has a state to save
        closed_ = true;
    }
    return !closed_;
}

void ReplyPrinter::print_token(const TokenEvent& event) {
    if (style_.jsonl) {
        Json line = {{"type", "token"}, {"id", event.id}, {"text", event.text}, {"logprob", event.logprob}};
        if (event.id < 0)
            line = {{"type", "text"}, {"text", event.text}};  // text that was held back
        else if (style_.logprobs)
            line = with_top(line, event);
        print_json(line);
        flush_output();
    } else if (!style_.json) {
        show(event.text);
    } else if (style_.logprobs && event.id >= 0) {
        logprobs_.push_back(with_top(logprob_json(event.id, event.logprob), event));
    }
}

Json ReplyPrinter::report(const Reply& reply) const {
    auto n = static_cast<int64_t>(reply.ids.size());
    Json report;
    if (style_.jsonl) report["type"] = "end";
    report.update({{"v", 1},
                   {"model", model_name(engine_)},
                   {"seed", seed_},
                   {"text", echoed_ + reply.text},
                   {"ids", reply.ids},
                   {"prompt_tokens", reply.prompt_tokens},
                   {"completion_tokens", n},
                   {"finish_reason", finish_name(reply.finish)},
                   {"stop", reply.stop ? Json(*reply.stop) : Json()},
                   {"logprobs", Json()},
                   {"timings",
                    {{"load_s", engine_.load_seconds()},
                     {"prompt_s", reply.prompt_seconds},
                     {"prompt_tokens_per_s", rate(reply.prompt_tokens, reply.prompt_seconds)},
                     {"generate_s", reply.generate_seconds},
                     {"tokens_per_s", rate(n, reply.generate_seconds)}}}});
    if (style_.json && style_.logprobs) {
        report["logprobs"] = logprobs_;
        // A stop text may have cut tokens that were seen before it was whole.
        while (report["logprobs"].size() > reply.ids.size()) report["logprobs"].erase(report["logprobs"].size() - 1);
    }
    if (style_.jsonl) report.erase("logprobs");
    return report;
}

void ReplyPrinter::finish(const Reply& reply) {
    if (style_.json || style_.jsonl)
        print_json(report(reply));
    else if (stdout_is_terminal() && !ends_line_)
        print("\n");
    flush_output();
    spdlog::debug("prompt: {} tokens, {:.3f} s, {:.1f} tokens/s", reply.prompt_tokens, reply.prompt_seconds,
                  rate(reply.prompt_tokens, reply.prompt_seconds));
    spdlog::debug("reply: {} tokens, {:.3f} s, {:.1f} tokens/s, finish_reason {}", reply.ids.size(),
                  reply.generate_seconds, rate(static_cast<int64_t>(reply.ids.size()), reply.generate_seconds),
                  finish_name(reply.finish));
}

}  // namespace samba
