#include "app/text_changes.h"

#include <spdlog/spdlog.h>

#include "app/output.h"

namespace samba {

void tell_changes(const TextChanges& changes, const std::string& where) {
    std::string name = visible_line(where);
    if (changes.invalid_bytes > 0) {
        spdlog::warn("{}: {} bytes are not valid UTF-8, each became U+FFFD", name, changes.invalid_bytes);
    }
    if (changes.replaced_spaces > 0) {
        spdlog::warn("{}: {} characters U+2581 became spaces", name, changes.replaced_spaces);
    }
    if (changes.forced_cuts > 0) {
        spdlog::warn("{}: cut in {} places that are 64 KiB from any place where tokens end; some tokens may differ",
                     name, changes.forced_cuts);
    }
}

}  // namespace samba
