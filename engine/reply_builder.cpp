#include "engine/reply_builder.h"

#include <algorithm>

namespace samba {

ReplyBuilder::ReplyBuilder(const Tokenizer* tokenizer, const GenerateOptions& options)
    : tokenizer_(tokenizer), options_(options), stops_(options.stop) {
    if (tokenizer) stream_.emplace(*tokenizer, options.strip_first_space);
}

void ReplyBuilder::show(const TokenEvent& event, const OnToken& on_token) {
    reply_.text += event.text;
    if (!on_token || on_token(event) || ended_) return;
    ended_ = true;
    reply_.finish = FinishReason::kInterrupted;
}

bool ReplyBuilder::push(const Sampled& sampled, const OnToken& on_token) {
    int32_t id = last_id_ = sampled.token.id;
    const auto& ends = options_.end_ids;
    if (!options_.ignore_eos && std::find(ends.begin(), ends.end(), id) != ends.end()) {
        end_token_ = true;
        end(FinishReason::kStop, on_token);
        return true;
    }
    ids_.push_back(id);
    TokenEvent event{id, stops_.push(stream_ ? stream_->push(id) : ""), sampled.token.logprob, sampled.top};
    if (stops_.found()) {
        ended_ = true;
        reply_.finish = FinishReason::kStop;
        reply_.stop = stops_.found();
    }
    show(event, on_token);
    if (!ended_ && options_.max_tokens >= 0 && static_cast<int64_t>(ids_.size()) >= options_.max_tokens) {
        end(FinishReason::kLength, on_token);
    } else if (ended_ && !stops_.found()) {
        end(FinishReason::kInterrupted, on_token);
    }
    return ended_;
}

void ReplyBuilder::end(FinishReason reason, const OnToken& on_token) {
    ended_ = true;
    reply_.finish = reason;
    std::string held = stops_.push(stream_ ? stream_->finish() : "");
    if (stops_.found()) {
        reply_.finish = FinishReason::kStop;
        reply_.stop = stops_.found();
    } else {
        held += stops_.finish();
    }
    if (!held.empty()) show({.id = -1, .text = held, .logprob = 0, .top = {}}, on_token);
}

ReplyBuilder::Cut ReplyBuilder::cut() const {
    if (!tokenizer_) return {ids_.size(), ""};
    size_t shown = reply_.text.size();
    std::string raw;
    for (size_t i = 0; i < ids_.size(); ++i) {
        size_t before = raw.size();
        raw += tokenizer_->bytes(ids_[i]);
        size_t stripped = options_.strip_first_space && raw.starts_with(' ') ? 1 : 0;
        if (raw.size() > shown + stripped) return {i, raw.substr(before, shown + stripped - before)};
    }
    return {ids_.size(), ""};
}

}  // namespace samba
