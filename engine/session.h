// One sequence: a slot's state, its position, the last tokens, and the token that is sampled but not fed yet.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace samba {

// The token that is fed next. A sampled one goes through a decode step when nothing follows it, as it would have
// without the stop in between; a prompt's last token, held back, goes through a prefill step: the text is the same
// either way.
struct Pending {
    int32_t id = 0;
    bool sampled = true;
};

// A sequence at a moment: copies of the current planes and the visible ring rows, in the backend's memory. Copies share
// it.
struct Snapshot {
    int64_t position = 0;
    std::optional<Pending> pending;
    std::vector<int32_t> tokens;    // the last of the `position` tokens, at most kHistory
    std::shared_ptr<Buffer> state;  // the parts of StateLayout::for_each_part, one after another
    size_t bytes() const { return (state ? state->bytes() : 0) + tokens.size() * sizeof(int32_t); }
};

// Called between chunks with the tokens fed so far of this feed; false stops (the state holds what was fed).
using FeedProgress = std::function<bool(int64_t fed)>;

class Session {
  public:
    explicit Session(Engine& engine);  // takes a slot; fresh
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Engine& engine() const { return engine_; }
    int slot() const { return slot_; }
    int64_t position() const { return position_; }  // tokens in the state
    const std::optional<Pending>& pending() const { return pending_; }
    std::span<const int32_t> recent() const;  // the last ids in the state, at most kHistory
    int64_t room() const;                     // tokens that full attention still takes; INT64_MAX without end

    // The pending token, if any, and these go into the state, in prefill chunks that end at absolute multiples of the
    // backend's chunk. Returns how many of `ids` were fed (all, unless progress said stop). Throws Error beyond room().
    int64_t feed(std::span<const int32_t> ids, const FeedProgress& progress = {});
    // The same, but the last token stays pending: a later generate continues with its logits.
    int64_t feed_holding_last(std::span<const int32_t> ids, const FeedProgress& progress = {});
    // Feeds, and gives the host the logits of every row: the position of the row's token, (vocab) f32.
    using OnLogits = std::function<void(int64_t position, std::span<const float> logits)>;
    void feed_with_logits(std::span<const int32_t> ids, const OnLogits& on_logits, StepKind kind = StepKind::kPrefill);

    void set_pending(std::optional<Pending> pending) { pending_ = pending; }
    void reset();  // fresh again
    // Back to an earlier position. The last n_planes steps can be undone so; pending is cleared.
    bool can_go_back(int64_t n_tokens) const;
    void go_back(int64_t n_tokens);
    // False when steps ran so far ahead of `position` that its planes are overwritten: restore a snapshot then.
    bool state_is_whole() const { return can_go_back(0); }

    Snapshot snapshot() const;
    void restore(const Snapshot& snapshot);  // of any session of the same model and ring type

    // A run of this session in a step that starts at its position; the caller runs the step, then calls advance.
    Run run(int n_rows) const { return {slot_, position_, 0, n_rows, false}; }
    // These tokens went into the state by a step that the caller ran. `ahead`: how many more the step loop ran beyond.
    void advance(std::span<const int32_t> fed, int64_t ahead = 0);

  private:
    Engine& engine_;
    int slot_;
    int64_t position_ = 0;
    int64_t computed_ = 0;  // the most tokens that the state ever held since `floor_`: their planes are the newest
    int64_t floor_ = 0;     // where the state was made fresh or restored: nothing before it can be gone back to
    std::optional<Pending> pending_;
    std::vector<int32_t> tokens_;

    // One prefill step of ids at the current position; the step's `wanted` and so on may be set by `shape`.
    void prefill(std::span<const int32_t> ids, const std::function<void(Step&)>& shape = {});
};

// A prefill step of one run with these ids.
Step prefill_step(Run run, std::span<const int32_t> ids);

}  // namespace samba
