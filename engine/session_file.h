// The state file (docs/file-format.md): `--session`, `/save`, `--save-state`. A sequence as it stands, with what the
// command needs to go on from there; the same file for every backend.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"

namespace samba {

enum class StateKind { kRaw, kChat, kSummarize };
const char* state_kind_name(StateKind kind);  // "raw", "chat", "summarize"

// Bytes that were read into the state: of a file, or of a pipe ("-").
struct StateSource {
    std::string path;
    uint64_t bytes = 0;
    uint64_t hash = 0;  // XXH3-64 of those bytes
};

// A message of a chat: files whose texts come first, each followed by a blank line, then what was typed.
struct ChatMessage {
    std::string role;  // "system", "user", "assistant"
    std::string content;
    std::vector<StateSource> files;
};

struct SavedState {
    StateKind kind = StateKind::kRaw;
    uint64_t seed = 0;
    int64_t attempt = 0;                  // chat: of the last reply, from 0
    std::vector<ChatMessage> messages;    // chat
    std::string text;                     // summarize: text that is read and not fed yet …
    std::string raw;                      // … and bytes after it that are not a whole character yet
    bool text_begun = false;              // tokens of the TEXT that `text` goes on are in the state
    int64_t text_tokens = 0;              // summarize: of the text, in the state
    std::vector<StateSource> sources;     // summarize: what was read, in order
    std::string summary;                  // summarize: the summary so far, in the method's own form
    Snapshot now;                         // with its pending token
    std::optional<Snapshot> before_turn;  // chat: before the last user's turn
};

// What a file says without a model: to open the engine as the state needs it. Throws FileError (missing, broken).
struct StateHeader {
    StateKind kind = StateKind::kRaw;
    DType ring_type = DType::kF16;
    std::string model_name, template_name;
    int64_t position = 0;
    std::vector<ChatMessage> messages;
};
StateHeader read_state_header(const std::string& path);

// Throws FileError: missing, broken, newer, of another kind, or of another model, tokenizer, template (not for raw
// states) or ring type than the engine's.
SavedState load_state(const std::string& path, Engine& engine, StateKind kind);

// Written to a temporary file beside, synced, renamed; mode 0600. Replaces an existing file: whether that is wanted is
// the caller's to know. Throws FileError.
void save_state(const std::string& path, const SavedState& state, Engine& engine);

// One process at a time owns a session's file. A missing file is made, empty, so that it can be locked.
class StateFileLock {
  public:
    explicit StateFileLock(const std::string& path);  // throws Error when another process has it
    ~StateFileLock();                                 // an empty file that it made goes away
    StateFileLock(const StateFileLock&) = delete;
    StateFileLock& operator=(const StateFileLock&) = delete;

    bool is_new() const { return is_new_; }  // nothing was saved there before
    // save_state to the locked path; the lock moves to the new file before it takes the old one's place.
    void save(const SavedState& state, Engine& engine);

  private:
    std::string path_;
    int fd_ = -1;
    bool is_new_ = false, made_ = false;
};

}  // namespace samba
