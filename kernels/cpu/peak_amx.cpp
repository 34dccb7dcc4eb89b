#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/peak_kernels.h"

namespace samba {
namespace {

// Four tiles of sums, as the products have; what is multiplied does not matter.
template <class Step>
double run(int64_t rounds, int operations, Step step) {
    tiles_begin();
    for (int64_t k = 0; k < rounds / 4; ++k) step();
    tiles_end();
    return static_cast<double>(rounds / 4) * 4 * operations;
}

double bf16(int64_t rounds) {
    return run(rounds, 2 * 16 * 16 * 32, [] {
        tile_add_bf16<0, 4, 6>();
        tile_add_bf16<1, 4, 7>();
        tile_add_bf16<2, 5, 6>();
        tile_add_bf16<3, 5, 7>();
    });
}

double int8(int64_t rounds) {
    return run(rounds, 2 * 16 * 16 * 64, [] {
        tile_add_int8<0, 4, 6>();
        tile_add_int8<1, 4, 7>();
        tile_add_int8<2, 5, 6>();
        tile_add_int8<3, 5, 7>();
    });
}

}  // namespace

const PeakKernels kAmxPeaks = {nullptr, bf16, int8};  // f32: AVX-512's

}  // namespace samba
