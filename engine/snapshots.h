// Snapshots of a conversation's borders, within a number of bytes: beyond it every second old one goes; the last two
// always stay.
#pragma once
#include <cstdint>
#include <map>

#include "engine/session.h"

namespace samba {

class Snapshots {
  public:
    explicit Snapshots(size_t max_bytes) : max_bytes_(max_bytes) {}

    // `border` is greater than all that are kept.
    void add(int64_t border, Snapshot snapshot);
    // The last one at or before a border, with its border; none is kept: null.
    struct Found {
        int64_t border;
        const Snapshot* snapshot;
    };
    Found at_or_before(int64_t border) const;
    void drop_after(int64_t border);

    size_t bytes() const;
    size_t count() const { return kept_.size(); }

  private:
    size_t max_bytes_;
    std::map<int64_t, Snapshot> kept_;

    void thin();
};

}  // namespace samba
