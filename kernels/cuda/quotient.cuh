// Quotients of small numbers by one that the host knows, by a multiplication: a division is some twenty instructions
// that wait for one another, and in a kernel that takes three microseconds nothing hides them.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/host_device.h"

namespace samba::cuda {

// n / d is quotient(n, inverse_of(d)), of 0 < d and 0 <= n that fit.
constexpr bool quotient_fits(int64_t n, int64_t d) { return n < 4095 * d && n * d < 1 << 20; }
inline uint32_t inverse_of(int d) { return (1u << 20) / static_cast<uint32_t>(d) + 1; }
SAMBA_HOST_DEVICE inline int quotient(int n, uint32_t inverse) {
    return static_cast<int>(static_cast<uint32_t>(n) * inverse >> 20);
}

// n mod d is remainder(n, d, long_inverse_of(d)), of any n and 0 < d.
inline uint32_t long_inverse_of(uint32_t d) {
    return static_cast<uint32_t>(std::min((uint64_t{1} << 32) / d, uint64_t{0xffffffff}));
}
SAMBA_HOST_DEVICE inline uint32_t remainder(uint32_t n, uint32_t d, uint32_t inverse) {
    const uint32_t rest = n - static_cast<uint32_t>(uint64_t{n} * inverse >> 32) * d;  // the quotient, or one less
    return rest >= d ? rest - d : rest;
}

}  // namespace samba::cuda
