#include "engine/session.h"

#include <algorithm>
#include <limits>

#include "kernels/error.h"

namespace samba {

Session::Session(Engine& engine) : engine_(engine), slot_(engine.take_slot()) { reset(); }
Session::~Session() { engine_.free_slot(slot_); }

std::span<const int32_t> Session::recent() const {
    size_t n = std::min<size_t>(tokens_.size(), kHistory);
    return std::span(tokens_).last(n);
}

int64_t Session::room() const {
    int64_t limit = engine_.model().max_positions();
    return limit == 0 ? std::numeric_limits<int64_t>::max() : limit - position_;
}

void Session::advance(std::span<const int32_t> fed, int64_t ahead) {
    position_ += static_cast<int64_t>(fed.size());
    computed_ = std::max(computed_, position_ + ahead);
    tokens_.insert(tokens_.end(), fed.begin(), fed.end());
    if (tokens_.size() > 2 * kHistory) tokens_.erase(tokens_.begin(), tokens_.end() - kHistory);
}

Step prefill_step(Run run, std::span<const int32_t> ids) {
    Step step;
    step.kind = StepKind::kPrefill;
    step.runs = {run};
    step.tokens.assign(ids.begin(), ids.end());
    return step;
}

void Session::prefill(std::span<const int32_t> ids, const std::function<void(Step&)>& shape) {
    Step step = prefill_step(run(static_cast<int>(ids.size())), ids);
    if (shape) shape(step);
    engine_.run(step);
    advance(ids);
}

namespace {

void require_room(const Session& session, int64_t n) {
    if (n <= session.room()) return;
    throw Error("the context of full attention is full: " + std::to_string(session.position()) + " tokens read, " +
                std::to_string(n) + " to come, --max-context allows " +
                std::to_string(session.engine().model().max_positions()));
}

}  // namespace

int64_t Session::feed(std::span<const int32_t> ids, const FeedProgress& progress) {
    std::vector<int32_t> all;
    if (pending_) all.push_back(pending_->id);
    int64_t held = static_cast<int64_t>(all.size());
    all.insert(all.end(), ids.begin(), ids.end());
    require_room(*this, static_cast<int64_t>(all.size()));
    int64_t chunk = engine_.backend().prefill_chunk();
    size_t at = 0;
    while (at < all.size()) {
        int64_t until_border = chunk - position_ % chunk;
        size_t n = static_cast<size_t>(std::min<int64_t>(until_border, static_cast<int64_t>(all.size() - at)));
        prefill(std::span(all).subspan(at, n));
        pending_.reset();
        at += n;
        if (progress && !progress(static_cast<int64_t>(at) - held)) break;
    }
    return static_cast<int64_t>(at) - held;
}

int64_t Session::feed_holding_last(std::span<const int32_t> ids, const FeedProgress& progress) {
    if (ids.empty()) return 0;
    int64_t n = feed(ids.first(ids.size() - 1), progress);
    if (n < static_cast<int64_t>(ids.size()) - 1) return n;
    pending_ = Pending{ids.back(), false};
    return n + 1;
}

void Session::feed_with_logits(std::span<const int32_t> ids, const OnLogits& on_logits, StepKind kind) {
    if (pending_) feed({});
    require_room(*this, static_cast<int64_t>(ids.size()));
    int64_t chunk = kind == StepKind::kDecode ? 1 : engine_.backend().prefill_chunk();
    while (!ids.empty()) {
        int64_t n = std::min<int64_t>(chunk - position_ % chunk, static_cast<int64_t>(ids.size()));
        int64_t first_position = position_;
        prefill(ids.first(static_cast<size_t>(n)), [&](Step& step) {
            step.kind = kind;
            for (int row = 0; row < n; ++row) step.wanted.push_back(row);
            step.on_logits = [&](int first, View logits) {
                for (int64_t i = 0; i < logits.rows; ++i) {
                    on_logits(first_position + first + i, {logits.f32(i), static_cast<size_t>(logits.cols)});
                }
            };
        });
        ids = ids.subspan(static_cast<size_t>(n));
    }
}

void Session::reset() {
    position_ = computed_ = floor_ = 0;
    pending_.reset();
    tokens_.clear();
    const StateLayout& layout = engine_.model().layout();
    for (const StateLayout::Planes& p : layout.planes) {  // the plane that token 0 reads; rings are empty at position 0
        size_t last = static_cast<size_t>(layout.n_planes - 1);
        engine_.backend().zero(engine_.model().slot(slot_) + p.offset + last * p.plane_bytes, p.plane_bytes);
    }
    engine_.backend().set_history(slot_, 0, {});
}

bool Session::can_go_back(int64_t n_tokens) const {
    int64_t target = position_ - n_tokens;
    return target >= floor_ && (target == computed_ || target > computed_ - engine_.model().layout().n_planes);
}

void Session::go_back(int64_t n_tokens) {
    if (!can_go_back(n_tokens)) throw Error("cannot go back " + std::to_string(n_tokens) + " tokens");
    position_ -= n_tokens;
    tokens_.resize(tokens_.size() - static_cast<size_t>(n_tokens));
    pending_.reset();
}

Snapshot Session::snapshot() const {
    Backend& backend = engine_.backend();
    const StateLayout& layout = engine_.model().layout();
    Snapshot s{position_, pending_, {recent().begin(), recent().end()}, nullptr};
    s.state = std::make_shared<Buffer>(backend.allocate(layout.snapshot_bytes(position_)));
    char* to = s.state->data();
    layout.for_each_part(position_, [&](size_t offset, size_t bytes) {
        backend.copy(to, engine_.model().slot(slot_) + offset, bytes);
        to += bytes;
    });
    return s;
}

void Session::restore(const Snapshot& s) {
    Backend& backend = engine_.backend();
    const char* from = s.state->data();
    engine_.model().layout().for_each_part(s.position, [&](size_t offset, size_t bytes) {
        backend.copy(engine_.model().slot(slot_) + offset, from, bytes);
        from += bytes;
    });
    position_ = computed_ = floor_ = s.position;
    pending_ = s.pending;
    tokens_ = s.tokens;
    backend.set_history(slot_, position_, recent());
}

}  // namespace samba
