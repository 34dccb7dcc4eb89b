// State files: as they come, and with the hashes of their sections set right, so that the checks behind them are met.
#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/session_format.h"
#include "kernels/error.h"

namespace {

void decode(std::span<const unsigned char> bytes) {
    for (bool header_only : {true, false}) {
        try {
            samba::StoredState state = samba::decode_state(bytes, "input", header_only);
            if (!header_only) samba::encode_state(state);
        } catch (const samba::FileError&) {
        }
    }
}

void set_hashes_right(std::vector<unsigned char>& file) {
    constexpr size_t kBegin = 12, kHead = 20;
    for (size_t at = kBegin; at + kHead <= file.size();) {
        uint64_t length;
        std::memcpy(&length, &file[at + 4], sizeof length);
        if (length > file.size() - at - kHead) return;
        uint64_t hash = XXH3_64bits(file.data() + at + kHead, length);
        std::memcpy(&file[at + 12], &hash, sizeof hash);
        at += kHead + length;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    decode({data, size});
    std::vector<unsigned char> file(data, data + size);
    set_hashes_right(file);
    decode(file);
    return 0;
}
