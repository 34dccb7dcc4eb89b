#include "engine/generate.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "engine/reply_builder.h"
#include "kernels/error.h"

namespace samba {

const char* finish_name(FinishReason reason) {
    switch (reason) {
        case FinishReason::kStop:
            return "stop";
        case FinishReason::kLength:
            return "length";
        case FinishReason::kInterrupted:
            return "interrupted";
    }
    return "";
}

namespace {

// One sequence of the loop: its session, its reply, and how far its steps have run ahead of what the host has seen.
class Lane {
  public:
    explicit Lane(Request& request)
        : request_(request),
          session_(*request.session),
          builder_(session_.engine().has_tokenizer() ? &session_.engine().tokenizer() : nullptr, request.options) {}

    void read_prompt(const FeedProgress& progress);
    bool wants_step() const { return alive_ && submitted_ < most_steps_; }
    bool alive() const { return alive_; }
    Run next_run() {
        ++submitted_;
        return {session_.slot(), start_ + submitted_ - 1, 0, 1, true};
    }
    void receive(const Sampled& sampled);
    Reply finish();

  private:
    Request& request_;
    Session& session_;
    ReplyBuilder builder_;
    std::optional<Snapshot> before_reply_;  // where a long stop text may reach farther back than the planes
    int64_t start_ = 0;                     // position where the reply begins
    int64_t submitted_ = 0;                 // decode steps: tokens of the reply that the device has fed
    int64_t most_steps_ = 0;
    bool alive_ = false;
    double begun_ = now_seconds(), prompt_read_ = begun_;

    SamplingParams sampling() const;
    void settle();
    void settle_after_stop_text();
};

SamplingParams Lane::sampling() const {
    SamplingParams params = request_.options.sampling;
    if (request_.options.ignore_eos) {
        for (int32_t id : request_.options.end_ids) {
            params.logit_bias.emplace_back(id, -std::numeric_limits<float>::infinity());
        }
    }
    return params;
}

void Lane::read_prompt(const FeedProgress& progress) {
    std::vector<int32_t>& prompt = request_.prompt;
    builder_.reply().prompt_tokens = static_cast<int64_t>(prompt.size());
    std::optional<Pending> pending = session_.pending();
    if (prompt.empty() && !pending) {  // the last token again, for its logits
        if (session_.position() == 0) throw UsageError("nothing to go on from: the prompt is empty");
        int32_t last = session_.recent().back();
        if (!session_.can_go_back(1)) throw UsageError("nothing to go on from: give a prompt");
        session_.go_back(1);
        pending = Pending{last, false};
        session_.set_pending(pending);
    }
    if (request_.options.max_tokens == 0) {
        session_.feed_holding_last(prompt, progress);
        builder_.reply().finish = FinishReason::kLength;
        prompt_read_ = now_seconds();
        return;
    }
    StepKind kind = prompt.empty() && pending->sampled ? StepKind::kDecode : StepKind::kPrefill;
    std::vector<int32_t> ids;
    if (pending) ids.push_back(pending->id);
    ids.insert(ids.end(), prompt.begin(), prompt.end());
    if (static_cast<int64_t>(ids.size()) > session_.room()) session_.feed(prompt);  // throws: the context is full
    session_.set_pending({});
    // Whole chunks first; the last chunk, whole or not, draws the first token.
    int64_t chunk = session_.engine().backend().prefill_chunk();
    int64_t in_last_chunk = (session_.position() + static_cast<int64_t>(ids.size()) - 1) % chunk + 1;
    size_t head = ids.size() - static_cast<size_t>(std::min(in_last_chunk, static_cast<int64_t>(ids.size())));
    int64_t fed = session_.feed(std::span(ids).first(head), progress);
    if (fed < static_cast<int64_t>(head) || (progress && !progress(fed))) {
        builder_.reply().finish = FinishReason::kInterrupted;
        prompt_read_ = now_seconds();
        return;
    }
    ids.erase(ids.begin(), ids.begin() + static_cast<int64_t>(head));
    session_.engine().backend().set_sampling(session_.slot(), sampling());
    Step step = prefill_step(session_.run(static_cast<int>(ids.size())), ids);
    step.kind = kind;
    step.wanted = {step.n_rows() - 1};
    step.sample = true;
    std::vector<Sampled> first = session_.engine().run(step);
    session_.advance(ids);
    prompt_read_ = now_seconds();

    start_ = session_.position();
    most_steps_ = session_.room();
    if (request_.options.max_tokens > 0) most_steps_ = std::min(most_steps_, request_.options.max_tokens - 1);
    int64_t planes = session_.engine().model().layout().n_planes;
    int64_t reach =
        StopFilter(request_.options.stop).longest() + static_cast<size_t>(session_.engine().backend().run_ahead());
    if (!request_.options.stop.empty() && reach >= planes) before_reply_ = session_.snapshot();
    alive_ = true;
    receive(first.front());
}

void Lane::receive(const Sampled& sampled) {
    if (!alive_) return;  // a step that ran ahead of the reply's end
    bool ended = builder_.push(sampled, request_.on_token);
    int64_t n = static_cast<int64_t>(builder_.ids().size());
    if (!ended && n > most_steps_) {  // full attention has no room for this token
        builder_.end(FinishReason::kLength, request_.on_token);
        ended = true;
    }
    alive_ = !ended;
}

// Makes the state exactly that of the text shown; nothing of this lane is in flight.
void Lane::settle() {
    const std::vector<int32_t>& ids = builder_.ids();
    if (builder_.reply().stop) {
        settle_after_stop_text();
        return;
    }
    size_t in_state = builder_.ended_by_token() ? ids.size() : ids.size() - 1;
    session_.advance(std::span(ids).first(in_state), submitted_ - static_cast<int64_t>(in_state));
    session_.set_pending(Pending{builder_.last_id(), true});
}

void Lane::settle_after_stop_text() {
    const std::vector<int32_t>& ids = builder_.ids();
    ReplyBuilder::Cut cut = builder_.cut();
    std::span<const int32_t> kept = std::span(ids).first(cut.whole_tokens);
    session_.advance(kept, submitted_ - static_cast<int64_t>(kept.size()));
    if (!session_.state_is_whole()) {  // farther than the planes reach: from the reply's start, step by step as before
        session_.restore(*before_reply_);
        for (const int32_t& id : kept) {
            Step step = prefill_step(session_.run(1), std::span(&id, 1));
            step.kind = StepKind::kDecode;
            session_.engine().run(step);
            session_.advance(step.tokens);
        }
    }
    if (!cut.rest.empty()) session_.feed(session_.engine().tokenizer().encode_continuation(cut.rest));
    builder_.reply().ids.assign(kept.begin(), kept.end());
}

Reply Lane::finish() {
    Reply& reply = builder_.reply();
    if (builder_.ended()) {
        reply.ids = builder_.ids();
        settle();  // may shorten them
    }
    reply.prompt_seconds = prompt_read_ - begun_;
    reply.generate_seconds = now_seconds() - prompt_read_;
    return std::move(reply);
}

}  // namespace

namespace {

std::vector<Reply> run_lanes(std::deque<Lane>& lanes, Engine& engine) {
    std::deque<std::vector<Lane*>> in_flight;
    auto submit = [&] {
        Step step;
        step.kind = StepKind::kDecode;
        step.sample = true;
        std::vector<Lane*> members;
        for (Lane& lane : lanes) {
            if (!lane.wants_step()) continue;
            Run run = lane.next_run();
            run.first_row = static_cast<int>(members.size());
            step.runs.push_back(run);
            step.wanted.push_back(run.first_row);
            members.push_back(&lane);
        }
        if (members.empty()) return false;
        step.tokens.assign(members.size(), 0);
        engine.submit(step);
        in_flight.push_back(std::move(members));
        return true;
    };
    size_t depth = static_cast<size_t>(engine.backend().run_ahead());
    for (;;) {
        while (in_flight.size() < depth && submit()) {
        }
        if (in_flight.empty()) break;
        std::vector<Sampled> samples = engine.backend().receive();
        for (size_t i = 0; i < samples.size(); ++i) in_flight.front()[i]->receive(samples[i]);
        in_flight.pop_front();
    }
    std::vector<Reply> replies;
    for (Lane& lane : lanes) replies.push_back(lane.finish());
    return replies;
}

}  // namespace

Reply generate(Session& session, std::span<const int32_t> prompt, const GenerateOptions& options,
               const OnToken& on_token, const FeedProgress& progress) {
    Request request{&session, {prompt.begin(), prompt.end()}, options, on_token};
    std::deque<Lane> lanes;
    lanes.emplace_back(request).read_prompt(progress);
    return std::move(run_lanes(lanes, session.engine()).front());
}

std::vector<Reply> generate_many(std::span<Request> requests) {
    std::deque<Lane> lanes;
    for (Request& request : requests) lanes.emplace_back(request).read_prompt({});
    return requests.empty() ? std::vector<Reply>{} : run_lanes(lanes, requests.front().session->engine());
}

}  // namespace samba
