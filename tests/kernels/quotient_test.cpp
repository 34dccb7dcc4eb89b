// Divisions by multiplication (kernels/cuda/quotient.cuh) are those of the language, wherever they are allowed.
#include "kernels/cuda/quotient.cuh"

#include <catch2/catch.hpp>
#include <random>

using namespace samba::cuda;

TEST_CASE("the quotient of small numbers") {
    for (int d = 1; d <= 1 << 10; ++d) {
        const uint32_t inverse = inverse_of(d);
        bool right = true;
        int n = 0;
        for (; quotient_fits(n, d); ++n) right = right && quotient(n, inverse) == n / d;
        INFO("divisor " << d << ", up to " << n);
        CHECK(right);
        CHECK(n >= std::min(4095 * d, (1 << 20) / d));
    }
}

TEST_CASE("the remainder of any number") {
    std::mt19937 random(1);
    for (uint32_t d : {1u, 2u, 3u, 8u, 9u, 2055u, 2056u, 65536u, 1048583u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        const uint32_t inverse = long_inverse_of(d);
        const auto check = [&](uint32_t n) {
            INFO(n << " mod " << d);
            CHECK(remainder(n, d, inverse) == n % d);
        };
        for (uint32_t k = 0; k < 1000; ++k) {
            check(random());
            const uint32_t multiple = random() / d * d;
            check(multiple), check(multiple - 1), check(multiple + 1);
        }
        check(0), check(0xffffffffu);
    }
}
