// Matrix products in AVX2 with FMA.
#include "kernels/cpu/matmul_f32_kernel.h"
#include "kernels/cpu/panel_avx2.h"
// After the vectors that it is written in.
#include "kernels/cpu/matmul_int8_kernel.h"

namespace samba {

const MatmulKernels kAvx2Kernels = {quantize, f32_product, int8_product};

}  // namespace samba
