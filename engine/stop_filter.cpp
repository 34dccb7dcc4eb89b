#include "engine/stop_filter.h"

#include <algorithm>
#include <utility>

namespace samba {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
    std::erase_if(stops_, [](const std::string& s) { return s.empty(); });
}

size_t StopFilter::longest() const {
    size_t n = 0;
    for (const std::string& s : stops_) n = std::max(n, s.size());
    return n;
}

std::string StopFilter::push(const std::string& text) {
    held_ += text;
    size_t first = std::string::npos;
    for (const std::string& stop : stops_) {
        size_t at = held_.find(stop);
        if (at < first) {
            first = at;
            found_ = stop;
        }
    }
    if (found_) return held_.substr(0, first);
    size_t keep = 0;  // the longest end of the text that begins a stop text
    for (const std::string& stop : stops_) {
        for (size_t n = std::min(held_.size(), stop.size() - 1); n > keep; --n) {
            if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
        }
    }
    std::string shown = held_.substr(0, held_.size() - keep);
    held_.erase(0, shown.size());
    return shown;
}

std::string StopFilter::finish() { return std::exchange(held_, {}); }

}  // namespace samba
