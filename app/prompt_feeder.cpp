#include "app/prompt_feeder.h"

#include "app/signals.h"

namespace samba {

void PromptFeeder::push(std::span<const int32_t> ids) {
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    int64_t chunk = session_.engine().backend().prefill_chunk();
    int64_t begun = session_.position() + (session_.pending() ? 1 : 0);
    // Up to the last border of a chunk, and one token more, which is held back.
    int64_t n = (begun + static_cast<int64_t>(ids_.size()) - 1) / chunk * chunk - begun + 1;
    if (stopped_ || n < chunk) return;
    double start = now_seconds();
    int64_t done = session_.feed_holding_last(std::span(ids_).first(static_cast<size_t>(n)), [&](int64_t fed) {
        progress_.update(static_cast<uint64_t>(fed_ + fed));
        return !interrupted();
    });
    seconds_ += now_seconds() - start;
    fed_ += done;
    stopped_ = done < n;
    ids_.erase(ids_.begin(), ids_.begin() + done);
}

}  // namespace samba
