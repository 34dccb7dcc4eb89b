// The one generation loop: prompt in, tokens out, for every command.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"

namespace samba {

struct GenerateOptions {
    SamplingParams sampling;         // n_top > 0: logprobs in the events
    int64_t max_tokens = -1;         // -1: until an end token; 0: only reads the prompt (its last token stays pending)
    std::vector<std::string> stop;   // texts that end the reply; not given out
    std::vector<int32_t> end_ids;    // tokens that end the reply; not given out
    bool ignore_eos = false;         // end tokens are never drawn
    bool strip_first_space = false;  // the tokenizer's own space before the reply
};

enum class FinishReason { kStop, kLength, kInterrupted };
const char* finish_name(FinishReason reason);  // "stop", "length", "interrupted"

struct TokenEvent {
    int32_t id = 0;
    std::string text;  // whole characters that are certain to be shown now; may be empty
    float logprob = 0;
    std::vector<TokenLogprob> top;
};
// Called for every token of the reply, and once more with id -1 for text that was held back. False stops the reply.
using OnToken = std::function<bool(const TokenEvent&)>;

struct Reply {
    std::string text;
    std::vector<int32_t> ids;  // the tokens shown, without the end token
    FinishReason finish = FinishReason::kStop;
    std::optional<std::string> stop;  // the stop text that ended it
    int64_t prompt_tokens = 0;
    double prompt_seconds = 0, generate_seconds = 0;  // reading the prompt; from then to the last token
};

// Feeds the session's pending token and `prompt`, then generates. Afterwards the state is exactly that of the text
// shown, the pending token included: the end token that closed the reply; the last shown token when the length, an
// interrupt or a full context ended it; none after a stop text. `progress` is called between chunks of the prompt; when
// it says stop, the state holds what was fed and the reply is empty and interrupted. With nothing to feed at all (fresh
// session, empty prompt) it throws UsageError.
Reply generate(Session& session, std::span<const int32_t> prompt, const GenerateOptions& options,
               const OnToken& on_token = {}, const FeedProgress& progress = {});

// Several sequences at once, each in its own session: one decode step carries a row of every live one. Sequence i's
// text equals that of generate() alone (CPU always; docs/architecture.md, rule 3).
struct Request {
    Session* session = nullptr;
    std::vector<int32_t> prompt;
    GenerateOptions options;
    OnToken on_token;
};
std::vector<Reply> generate_many(std::span<Request> requests);

}  // namespace samba
