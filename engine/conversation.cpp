#include "engine/conversation.h"

#include <xxhash.h>

#include "engine/text_stream.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

Conversation::Conversation(Engine& engine, const Options& options)
    : options_(options), session_(engine), snapshots_(options.snapshot_bytes) {
    engine.require_template();
}

void Conversation::resume(const SavedState& saved) {
    const std::vector<ChatMessage>& messages = saved.messages;
    size_t at = !messages.empty() && messages[0].role == "system" ? 1 : 0;
    std::vector<Event> events;
    std::string system = at > 0 ? messages[0].content : "";
    for (; at < messages.size(); at += 2) {
        bool turn = at + 1 < messages.size() && messages[at].role == "user" && messages[at + 1].role == "assistant";
        if (!turn) throw FileError("a saved chat whose messages are out of order");
        Event event;
        event.user = messages[at];
        event.reply = messages[at + 1].content;
        events.push_back(std::move(event));
    }
    session_.restore(saved.now);
    options_.seed = saved.seed;
    options_.system = std::move(system);
    events_ = std::move(events);
    snapshots_ = Snapshots(options_.snapshot_bytes);
    begun_.reset();
    if (events_.empty()) return;
    events_.back().attempt = saved.attempt;
    if (saved.before_turn) snapshots_.add(border() - 2, *saved.before_turn);
}

// ---- what happened ---------------------------------------------------------------------------------------------

// The first turn of the run of turns that ends before event `end`.
size_t Conversation::first_turn(size_t end) const {
    while (end > 0 && events_[end - 1].kind == Event::kTurn) --end;
    return end;
}

const std::string& Conversation::system_before(size_t end) const {
    for (size_t i = end; i-- > 0;) {
        if (events_[i].kind == Event::kSystem) return events_[i].system;
    }
    return options_.system;
}

const ChatMessage* Conversation::last_message() const {
    return events_.empty() || events_.back().kind != Event::kTurn ? nullptr : &events_.back().user;
}

std::vector<ChatMessage> Conversation::messages() const {
    std::vector<ChatMessage> list;
    if (!system().empty()) list.push_back({"system", system(), {}});
    for (size_t i = first_turn(events_.size()); i < events_.size(); ++i) {
        list.push_back(events_[i].user);
        list.push_back({"assistant", events_[i].reply, {}});
    }
    return list;
}

SavedState Conversation::saved() const {
    SavedState state;
    state.kind = StateKind::kChat;
    state.seed = options_.seed;
    state.messages = messages();
    state.now = session_.snapshot();
    if (!last_message()) return state;
    state.attempt = events_.back().attempt;
    Snapshots::Found found = snapshots_.at_or_before(border() - 2);
    if (found.snapshot && found.border == border() - 2) state.before_turn = *found.snapshot;
    return state;
}

// ---- reading ---------------------------------------------------------------------------------------------------

// The template's, then the tokenizer's.
std::vector<int32_t> Conversation::end_ids() const {
    const Tokenizer& t = session_.engine().tokenizer();
    std::vector<int32_t> ids = session_.engine().require_template().end_ids(t);
    ids.insert(ids.end(), t.end_ids().begin(), t.end_ids().end());
    return ids;
}

// The tokens that close the last reply. An end token that the model drew itself is replaced by the template's, so that
// a chat has one form.
std::vector<int32_t> Conversation::closing_of_reply() {
    const Tokenizer& t = session_.engine().tokenizer();
    const ChatTemplate& chat = session_.engine().require_template();
    ChatTemplate::Edge closing = chat.closing(t, "assistant");
    std::vector<int32_t> ends = end_ids();
    const auto& pending = session_.pending();
    bool ended = pending && std::find(ends.begin(), ends.end(), pending->id) != ends.end();
    if (ended && closing.ids.empty()) return {};
    if (ended) session_.set_pending({});
    std::vector<int32_t> ids;
    if (!closing.text.empty()) ids = t.encode_continuation(closing.text);
    ids.insert(ids.end(), closing.ids.begin(), closing.ids.end());
    return ids;
}

bool Conversation::read_begin(const std::string& system, TokenFeed& feed) {
    if (begun_ && begun_system_ == system) {
        session_.restore(*begun_);
        return true;
    }
    const Tokenizer& t = session_.engine().tokenizer();
    const ChatTemplate& chat = session_.engine().require_template();
    session_.reset();
    std::vector<int32_t> ids = chat.begin(t);
    if (!system.empty()) {
        std::vector<int32_t> message = chat.encode(t, {"system", system});
        ids.insert(ids.end(), message.begin(), message.end());
    }
    if (!feed.add(ids) || !feed.feed_all()) return false;
    begun_ = session_.snapshot();
    begun_system_ = system;
    return true;
}

// One newline at the file's end is dropped: the model would go on differently after it.
bool Conversation::read_file(StateSource& file, const std::function<bool(std::string_view)>& push, TokenFeed& feed) {
    InputFile input(file.path);
    InputText text;
    bool held_newline = false;
    auto push_held = [&](std::string more) {
        if (more.empty()) return true;
        if (held_newline) more.insert(0, 1, '\n');
        held_newline = more.back() == '\n';
        if (held_newline) more.pop_back();
        return push(more);
    };
    while (!input.at_end()) {
        std::string_view bytes = input.next([&] { return feed.stopped(); });
        if (feed.stopped() || !push_held(text.push(bytes))) return false;
    }
    if (!push_held(text.finish())) return false;
    bool known = file.bytes > 0;
    StateSource source = input.source();
    if (known && (source.bytes != file.bytes || source.hash != file.hash)) {
        throw FileError(in_quotes(file.path) +
                        " has changed since the chat read it, so that turn cannot be read again");
    }
    file = source;
    changes_.invalid_bytes += text.invalid_bytes();
    changes_.replaced_spaces += text.replaced_spaces();
    return true;
}

// From the end of the last reply, or the chat's begin, to where the next reply begins; its last token is pending.
bool Conversation::read_message(ChatMessage& message, bool first, TokenFeed& feed) {
    const Tokenizer& t = session_.engine().tokenizer();
    const ChatTemplate& chat = session_.engine().require_template();
    ChatTemplate::Edge opening = chat.opening(t, "user"), closing = chat.closing(t, "user");
    changes_ = {};
    std::vector<int32_t> ids;
    auto append = [&](const std::vector<int32_t>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
    if (!first) append(closing_of_reply());
    append(opening.ids);
    StreamEncoder encoder(t);
    auto push = [&](std::string_view text) {
        encoder.push(text, ids);
        bool goes_on = feed.add(ids);
        ids.clear();
        return goes_on;
    };
    if (!push(opening.text)) return false;
    for (StateSource& file : message.files) {
        if (!read_file(file, push, feed) || !push("\n\n")) return false;
    }
    encoder.push(message.content, ids);
    encoder.push(closing.text, ids);
    encoder.finish(ids);
    changes_.forced_cuts = encoder.forced_cuts();
    append(closing.ids);
    append(chat.reply_opening(t));
    return feed.add(ids) && feed.feed_holding_last();
}

bool Conversation::read_reply(const Event& event, TokenFeed& feed) {
    const Tokenizer& t = session_.engine().tokenizer();
    std::vector<int32_t> ids = event.reply_ids;
    if (ids.empty() && !event.reply.empty()) {
        bool goes_on = !session_.engine().require_template().opening(t, "assistant").text.empty();
        ids = goes_on ? t.encode_continuation(event.reply) : t.encode(event.reply);
    }
    return feed.add(ids) && feed.feed_holding_last();
}

// Makes the state that of a border, from the last snapshot at or before it; what lies between is read again.
bool Conversation::return_to(int64_t border, TokenFeed& feed) {
    size_t first = first_turn(static_cast<size_t>(border / 2));
    int64_t at = 2 * static_cast<int64_t>(first);
    Snapshots::Found found = snapshots_.at_or_before(border);
    if (found.snapshot && found.border >= at) {
        at = found.border;
        session_.restore(*found.snapshot);
    } else if (!read_begin(system_before(first), feed)) {
        return false;
    }
    for (; at < border; ++at) {
        size_t i = static_cast<size_t>(at / 2);
        bool read = at % 2 == 0 ? read_message(events_[i].user, i == first, feed) : read_reply(events_[i], feed);
        if (!read) return false;
    }
    return true;
}

// ---- talking ---------------------------------------------------------------------------------------------------

// `event`: the last one or the one to come. The first attempt draws from the chat's own seed.
Reply Conversation::reply_to(Event& event, const GenerateOptions& options, const OnToken& on_token) {
    const Tokenizer& t = session_.engine().tokenizer();
    GenerateOptions o = options;
    o.end_ids = end_ids();
    o.strip_first_space = t.adds_space();
    o.sampling.seed = options_.seed;
    if (event.attempt > 0) {
        const uint64_t stream[] = {options_.seed, static_cast<uint64_t>(session_.position()),
                                   static_cast<uint64_t>(event.attempt)};
        o.sampling.seed = XXH3_64bits(stream, sizeof stream);
    }
    Reply reply = generate(session_, {}, o, on_token);
    event.reply = reply.text;
    event.reply_ids = reply.ids;
    return reply;
}

// Without a state: a chat that has not begun.
void Conversation::restore(const Snapshot& before) {
    if (before.state) {
        session_.restore(before);
    } else {
        session_.reset();
    }
}

std::optional<Reply> Conversation::say(const ChatMessage& message, const GenerateOptions& options,
                                       const OnToken& on_token, const FeedProgress& reading) {
    Event event;
    event.user = message;
    TokenFeed feed(session_, reading);
    bool first = first_turn(events_.size()) == events_.size();
    Snapshot before;
    if (!first) before = session_.snapshot();
    std::optional<Reply> reply;
    try {
        if (!first || read_begin(system(), feed)) {
            if (first) before = *begun_;
            snapshots_.add(border(), before);
            if (read_message(event.user, first, feed)) {
                snapshots_.add(border() + 1, session_.snapshot());
                reply = reply_to(event, options, on_token);
                reply->prompt_tokens = feed.fed();
            }
        }
    } catch (...) {
        snapshots_.drop_after(border());
        restore(before);
        throw;
    }
    if (reply) {
        events_.push_back(std::move(event));
    } else {
        restore(before);
    }
    return reply;
}

std::optional<Reply> Conversation::regenerate(const GenerateOptions& options, const OnToken& on_token,
                                              const FeedProgress& reading) {
    if (!last_message()) throw UsageError("there is no reply to make anew");
    Snapshot now = session_.snapshot();
    TokenFeed feed(session_, reading);
    int64_t before_reply = border() - 1;
    bool kept = snapshots_.at_or_before(before_reply).border == before_reply;
    std::optional<Reply> reply;
    Event event = events_.back();
    try {
        if (return_to(before_reply, feed)) {
            if (!kept) snapshots_.add(before_reply, session_.snapshot());
            ++event.attempt;
            reply = reply_to(event, options, on_token);
        }
    } catch (...) {
        session_.restore(now);
        throw;
    }
    if (reply) {
        events_.back() = std::move(event);
    } else {
        session_.restore(now);
    }
    return reply;
}

std::optional<Reply> Conversation::edit(const ChatMessage& message, const GenerateOptions& options,
                                        const OnToken& on_token, const FeedProgress& reading) {
    if (!last_message()) throw UsageError("there is no message to edit");
    Snapshot now = session_.snapshot();
    Snapshots kept = snapshots_;
    Event old = events_.back();
    auto put_back = [&] {
        events_.push_back(std::move(old));
        snapshots_ = std::move(kept);
        session_.restore(now);
    };
    if (undo(reading).what != Undo::kDone) return {};
    std::optional<Reply> reply;
    try {
        reply = say(message, options, on_token, reading);
    } catch (...) {
        put_back();
        throw;
    }
    if (!reply) put_back();
    return reply;
}

void Conversation::reset_with(Event event) {
    bool begun = first_turn(events_.size()) < events_.size();
    if (begun) snapshots_.add(border(), session_.snapshot());
    events_.push_back(std::move(event));
    session_.reset();  // the next message begins with the system prompt
}

void Conversation::clear() {
    Event event;
    event.kind = Event::kClear;
    reset_with(std::move(event));
}

void Conversation::set_system(const std::string& text) {
    Event event;
    event.kind = Event::kSystem;
    event.system = text;
    reset_with(std::move(event));
}

Conversation::Undone Conversation::undo(const FeedProgress& reading) {
    if (events_.empty()) return {Undo::kNothing, 0};
    Snapshot now = session_.snapshot();
    TokenFeed feed(session_, reading);
    int64_t target = border() - 2;
    size_t end = events_.size() - 1;
    try {
        if (first_turn(end) == end) {  // back to a chat without turns
            session_.reset();
        } else if (!return_to(target, feed)) {
            session_.restore(now);
            return {Undo::kStopped, 0};
        }
    } catch (...) {
        session_.restore(now);
        throw;
    }
    events_.pop_back();
    snapshots_.drop_after(target);
    return {Undo::kDone, feed.fed()};
}

}  // namespace samba
