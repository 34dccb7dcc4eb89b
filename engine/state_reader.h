// Reads a text of any length into a state, as one user's message that is not finished, and asks about it: every answer
// is given by a fork, so that reading goes on undisturbed.
#pragma once
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/reader.h"
#include "engine/text_stream.h"

namespace samba {

class StateReader {
  public:
    struct Options {
        int64_t every = 0;  // > 0: `at_every` is called whenever that many more tokens are in the state
        std::function<void(int64_t tokens)> at_every;
    };
    // Opens the user's turn; `before_text` is what a prompt has before the text. Throws UsageError without a template.
    StateReader(Engine& engine, const std::string& before_text, Options options);
    // Goes on where that one was saved; the next bytes follow those read then.
    StateReader(Engine& engine, const SavedState& saved, Options options);

    // Files come one after another, each after a line with its name if `name` is not empty.
    void begin_file(const std::string& name);
    void push(std::string_view bytes);

    // The reply to what was read so far and `after_text`, the end of the message. From `at_every`, exactly the tokens
    // that it counts; else all of the text, the part included that waits for its next character or word.
    Reply answer(const std::string& after_text, const GenerateOptions& options, const OnToken& on_token,
                 const FeedProgress& reading = {});

    // Feeds what waits for its chunk. The state is that of a summarize run; sources and summary are the caller's.
    SavedState saved();

    int64_t tokens() const;  // of the text, all that was pushed
    TextChanges changes() const;
    // How many of the bytes pushed came before the last n tokens; a little less where that is inside a portion. None
    // where that was too long ago, or before a resume.
    std::optional<uint64_t> bytes_before_last(int64_t n) const;

  private:
    Engine& engine_;
    Options options_;
    Session session_;
    TokenFeed feed_;
    InputText input_;
    StreamEncoder encoder_;
    bool text_begun_ = false, at_border_ = false;
    int64_t tokens_ = 0, n_files_ = 0;
    uint64_t bytes_ = 0;
    TextChanges changes_;

    struct Mark {
        int64_t tokens;
        uint64_t bytes;
    };
    std::deque<Mark> marks_;  // how far bytes and tokens had come, lately

    void push_text(std::string_view text);
    void feed(std::span<const int32_t> ids);
    void end_file();
};

}  // namespace samba
