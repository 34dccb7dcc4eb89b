// Quantisers that search: for one block, the scales (and mins) that minimise the squared error
//   Σ importance[i] · (x[i] - decoded[i])²
// with the decoder's own rounding of scales taken into account. importance may be null (all ones).
#pragma once
#include "kernels/quant.h"

namespace samba {

void quantize(const float* x, const float* importance, BlockQ4_0& b);
void quantize(const float* x, const float* importance, BlockQ4_K& b);
void quantize(const float* x, const float* importance, BlockQ5_K& b);
void quantize(const float* x, const float* importance, BlockQ6_K& b);

}  // namespace samba
