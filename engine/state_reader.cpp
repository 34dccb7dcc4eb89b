#include "engine/state_reader.h"

#include <algorithm>

#include "kernels/error.h"

namespace samba {
namespace {

constexpr int64_t kMarkTokens = 64;         // between two marks
constexpr int64_t kMarkedTokens = 1 << 20;  // how far back they reach

void append(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
    ids.insert(ids.end(), more.begin(), more.end());
}

}  // namespace

StateReader::StateReader(Engine& engine, const std::string& before_text, Options options)
    : engine_(engine), options_(std::move(options)), session_(engine), feed_(session_), encoder_(engine.tokenizer()) {
    const Tokenizer& t = engine.tokenizer();
    const ChatTemplate& chat = engine.require_template();
    ChatTemplate::Edge opening = chat.opening(t, "user");
    std::vector<int32_t> ids = chat.begin(t);
    append(ids, opening.ids);
    encoder_.push(opening.text, ids);
    encoder_.push(before_text, ids);
    feed_.add(ids);
}

StateReader::StateReader(Engine& engine, const SavedState& saved, Options options)
    : engine_(engine),
      options_(std::move(options)),
      session_(engine),
      feed_(session_),
      encoder_(engine.tokenizer(), saved.text_begun),
      text_begun_(saved.text_begun),
      tokens_(saved.text_tokens),
      n_files_(static_cast<int64_t>(saved.sources.size())) {
    engine.require_template();
    session_.restore(saved.now);
    std::vector<int32_t> ids;
    encoder_.push(saved.text, ids);
    feed(ids);
    for (const StateSource& source : saved.sources) bytes_ += source.bytes;
    bool only_raw = !saved.sources.empty() && saved.sources.back().bytes <= saved.raw.size();
    if (!only_raw) input_.push("x");  // the file's begin is behind us: no byte order mark is looked for
    push_text(input_.push(saved.raw));
}

void StateReader::begin_file(const std::string& name) {
    if (n_files_ > 0) end_file();
    ++n_files_;
    if (!name.empty()) push_text(name + "\n\n");
}

void StateReader::end_file() {
    push_text(input_.finish() + "\n\n");
    changes_.invalid_bytes += input_.invalid_bytes();
    changes_.replaced_spaces += input_.replaced_spaces();
    input_ = {};
}

void StateReader::push(std::string_view bytes) {
    if (marks_.empty() || tokens_ - marks_.back().tokens >= kMarkTokens) marks_.push_back({tokens_, bytes_});
    while (marks_.size() > 1 && marks_[1].tokens < tokens_ - kMarkedTokens) marks_.pop_front();
    bytes_ += bytes.size();
    push_text(input_.push(bytes));
}

void StateReader::push_text(std::string_view text) {
    std::vector<int32_t> ids;
    encoder_.push(text, ids);
    if (!ids.empty()) text_begun_ = true;
    feed(ids);
}

void StateReader::feed(std::span<const int32_t> ids) {
    auto take = [&](size_t n) {
        feed_.add(ids.first(n));
        tokens_ += static_cast<int64_t>(n);
        ids = ids.subspan(n);
    };
    while (options_.every > 0) {
        auto until = static_cast<size_t>(options_.every - tokens_ % options_.every);
        if (ids.size() < until) break;
        take(until);
        at_border_ = true;
        options_.at_every(tokens_);
        at_border_ = false;
    }
    take(ids.size());
}

Reply StateReader::answer(const std::string& after_text, const GenerateOptions& options, const OnToken& on_token,
                          const FeedProgress& reading) {
    const Tokenizer& t = engine_.tokenizer();
    const ChatTemplate& chat = engine_.require_template();
    ChatTemplate::Edge closing = chat.closing(t, "user");
    std::vector<int32_t> ids;
    if (at_border_) {
        ids = t.encode_continuation(after_text + closing.text);
    } else {
        StreamEncoder encoder = encoder_;
        encoder.push(InputText(input_).finish(), ids);
        encoder.push(after_text, ids);
        encoder.push(closing.text, ids);
        encoder.finish(ids);
    }
    append(ids, closing.ids);
    append(ids, chat.reply_opening(t));

    GenerateOptions o = options;
    o.end_ids = chat.end_ids(t);
    append(o.end_ids, t.end_ids());
    o.strip_first_space = t.adds_space();
    feed_.feed_all();
    Snapshot here = session_.snapshot();
    try {
        Reply reply = generate(session_, ids, o, on_token, reading);
        session_.restore(here);
        return reply;
    } catch (...) {
        session_.restore(here);
        throw;
    }
}

SavedState StateReader::saved() {
    feed_.feed_all();
    SavedState state;
    state.kind = StateKind::kSummarize;
    state.text = encoder_.unfed();
    state.raw = input_.held();
    state.text_begun = text_begun_;
    state.text_tokens = tokens_;
    state.now = session_.snapshot();
    return state;
}

int64_t StateReader::tokens() const {
    std::vector<int32_t> ids;
    StreamEncoder(encoder_).finish(ids);
    return tokens_ + static_cast<int64_t>(ids.size());
}

TextChanges StateReader::changes() const {
    return {changes_.invalid_bytes + input_.invalid_bytes(), changes_.replaced_spaces + input_.replaced_spaces(),
            encoder_.forced_cuts()};
}

std::optional<uint64_t> StateReader::bytes_before_last(int64_t n) const {
    int64_t tokens = this->tokens() - n;
    auto after = std::partition_point(marks_.begin(), marks_.end(), [&](const Mark& m) { return m.tokens <= tokens; });
    if (after == marks_.begin()) return {};
    return std::prev(after)->bytes;
}

}  // namespace samba
