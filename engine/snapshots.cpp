#include "engine/snapshots.h"

namespace samba {

void Snapshots::add(int64_t border, Snapshot snapshot) {
    kept_.insert_or_assign(border, std::move(snapshot));
    thin();
}

Snapshots::Found Snapshots::at_or_before(int64_t border) const {
    auto after = kept_.upper_bound(border);
    if (after == kept_.begin()) return {-1, nullptr};
    --after;
    return {after->first, &after->second};
}

void Snapshots::drop_after(int64_t border) { kept_.erase(kept_.upper_bound(border), kept_.end()); }

// Copies share a state's memory (a border that two events have in common): it counts once.
size_t Snapshots::bytes() const {
    size_t sum = 0;
    const void* last = nullptr;
    for (const auto& [border, s] : kept_) {
        if (!s.state || s.state.get() != last) sum += s.bytes();
        last = s.state.get();
    }
    return sum;
}

void Snapshots::thin() {
    constexpr size_t kAlwaysKept = 2;
    while (kept_.size() > kAlwaysKept && bytes() > max_bytes_) {
        size_t old = kept_.size() - kAlwaysKept;
        auto at = kept_.begin();
        for (size_t i = 0; i < old; ++i) {
            bool goes = i % 2 == 1 || old == 1;
            at = goes ? kept_.erase(at) : std::next(at);
        }
    }
}

}  // namespace samba
