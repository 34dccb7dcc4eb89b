// A chat: turns over one session. Every turn's borders have snapshots, so that /regen, /undo and /edit read nothing
// again.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/reader.h"
#include "engine/session_file.h"
#include "engine/snapshots.h"

namespace samba {

class Conversation {
  public:
    struct Options {
        std::string system;  // empty: no system turn
        uint64_t seed = 0;
        size_t snapshot_bytes = size_t{1} << 30;
    };
    Conversation(Engine& engine, const Options& options);  // takes a slot; throws UsageError without a template
    // Goes on with a saved chat: its messages, system prompt and seed. Throws FileError, and then nothing has changed.
    void resume(const SavedState& saved);

    // Reads the message and replies. None when `reading` said stop: then all is as before. Sampling, stop texts and
    // lengths are the options'; end tokens, the first space and the seed of the turn are filled in.
    std::optional<Reply> say(const ChatMessage& message, const GenerateOptions& options, const OnToken& on_token,
                             const FeedProgress& reading = {});
    // The last reply anew, from another random stream; the last turn anew, with another message.
    std::optional<Reply> regenerate(const GenerateOptions& options, const OnToken& on_token,
                                    const FeedProgress& reading = {});
    std::optional<Reply> edit(const ChatMessage& message, const GenerateOptions& options, const OnToken& on_token,
                              const FeedProgress& reading = {});
    // The message of the last turn; none where nothing was said since the last clear() or set_system().
    const ChatMessage* last_message() const;

    void clear();                              // drops the turns
    void set_system(const std::string& text);  // the same, with a new system prompt

    // Takes back the last turn, clear() or set_system(). `read_again`: tokens that had to be read once more, because
    // the snapshot of that border was thinned away.
    enum class Undo { kDone, kNothing, kStopped };
    struct Undone {
        Undo what = Undo::kDone;
        int64_t read_again = 0;
    };
    Undone undo(const FeedProgress& reading = {});

    const std::string& system() const { return system_before(events_.size()); }
    std::vector<ChatMessage> messages() const;  // since the last clear() or set_system(), the system prompt included
    SavedState saved() const;
    const Session& session() const { return session_; }
    const Snapshots& snapshots() const { return snapshots_; }
    uint64_t seed() const { return options_.seed; }
    void set_seed(uint64_t seed) { options_.seed = seed; }
    const TextChanges& changes() const { return changes_; }  // of the files of the last message read

  private:
    // What happened, in order. Border 2 i is the state before event i; border 2 i + 1, of a turn, the one before its
    // reply, where the last token of the message is pending.
    struct Event {
        enum Kind { kTurn, kClear, kSystem } kind = kTurn;
        ChatMessage user;
        std::string reply;
        std::vector<int32_t> reply_ids;  // as sampled; none after a resume
        int64_t attempt = 0;             // of the reply, from 0
        std::string system;              // kSystem: the new one
    };

    Options options_;
    Session session_;
    Snapshots snapshots_;
    std::vector<Event> events_;
    std::optional<Snapshot> begun_;  // of a chat that has only its system prompt, begun_system_
    std::string begun_system_;
    TextChanges changes_;

    int64_t border() const { return 2 * static_cast<int64_t>(events_.size()); }
    size_t first_turn(size_t end) const;
    const std::string& system_before(size_t end) const;
    void reset_with(Event event);
    void restore(const Snapshot& before);

    std::vector<int32_t> end_ids() const;
    std::vector<int32_t> closing_of_reply();
    bool read_begin(const std::string& system, TokenFeed& feed);
    bool read_message(ChatMessage& message, bool first, TokenFeed& feed);
    bool read_file(StateSource& file, const std::function<bool(std::string_view)>& push, TokenFeed& feed);
    bool read_reply(const Event& event, TokenFeed& feed);
    bool return_to(int64_t border, TokenFeed& feed);
    Reply reply_to(Event& event, const GenerateOptions& options, const OnToken& on_token);
};

}  // namespace samba
