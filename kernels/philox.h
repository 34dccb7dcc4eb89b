// Philox-4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include <cstdint>

#include "kernels/host_device.h"

namespace samba {

// Replaces the counter by its random words.
SAMBA_HOST_DEVICE inline void philox(uint32_t (&c)[4], uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; ++round) {
        uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
        c[0] = static_cast<uint32_t>(b >> 32) ^ c[1] ^ key0;
        c[2] = static_cast<uint32_t>(a >> 32) ^ c[3] ^ key1;
        c[1] = static_cast<uint32_t>(b);
        c[3] = static_cast<uint32_t>(a);
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

// The uniform number in [0, 1) of a position: 24 bits, key = seed, counter = position.
SAMBA_HOST_DEVICE inline float philox_uniform_at(uint64_t seed, int64_t position) {
    auto p = static_cast<uint64_t>(position);
    uint32_t c[4] = {static_cast<uint32_t>(p), static_cast<uint32_t>(p >> 32), 0, 0};
    philox(c, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    return static_cast<float>(c[0] >> 8) * 0x1p-24f;
}

}  // namespace samba
