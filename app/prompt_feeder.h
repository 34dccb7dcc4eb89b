// Feeds a prompt that arrives in pieces, of any length, in constant memory.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "app/progress.h"
#include "engine/session.h"

namespace samba {

class PromptFeeder {
  public:
    explicit PromptFeeder(Session& session) : session_(session), progress_("reading", "tokens") {}

    void push(std::span<const int32_t> ids);
    // The last tokens, up to a chunk, which go to generate() with the rest of its work.
    std::span<const int32_t> rest() const { return ids_; }

    int64_t fed() const { return fed_; }
    double seconds() const { return seconds_; }  // of feeding, without waiting for input
    bool stopped() const { return stopped_; }    // a signal came: the state holds what was fed
    Progress& progress() { return progress_; }

  private:
    Session& session_;
    Progress progress_;
    std::vector<int32_t> ids_;
    int64_t fed_ = 0;
    double seconds_ = 0;
    bool stopped_ = false;
};

}  // namespace samba
