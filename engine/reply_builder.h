// One reply as it grows: token ids in, text out, and whether it has ended. Knows nothing of states and steps.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/stop_filter.h"
#include "engine/text_stream.h"

namespace samba {

class ReplyBuilder {
  public:
    // tokenizer null: ids only, no text (a model without a tokenizer).
    ReplyBuilder(const Tokenizer* tokenizer, const GenerateOptions& options);

    // Takes the next sampled token; calls on_token for what is shown. True when the reply has ended.
    bool push(const Sampled& sampled, const OnToken& on_token);
    // The reply ends here (length or interrupt): shows the text that was held back.
    void end(FinishReason reason, const OnToken& on_token);

    bool ended() const { return ended_; }
    bool ended_by_token() const { return end_token_; }        // the last pushed id is the end token, not shown
    int32_t last_id() const { return last_id_; }              // the last pushed
    const std::vector<int32_t>& ids() const { return ids_; }  // all pushed, the end token excepted
    const Reply& reply() const { return reply_; }
    Reply& reply() { return reply_; }

    // After a stop text: how many of ids() are shown whole, and the shown text beyond them.
    struct Cut {
        size_t whole_tokens = 0;
        std::string rest;
    };
    Cut cut() const;

  private:
    const Tokenizer* tokenizer_;
    const GenerateOptions& options_;
    std::optional<TextStream> stream_;
    StopFilter stops_;
    std::vector<int32_t> ids_;
    Reply reply_;
    int32_t last_id_ = -1;
    bool ended_ = false, end_token_ = false;

    void show(const TokenEvent& event, const OnToken& on_token);
};

}  // namespace samba
