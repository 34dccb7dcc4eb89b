// Matrix products in AVX-512 with VNNI and BF16.
#include "kernels/cpu/matmul_f32_kernel.h"
#include "kernels/cpu/panel_avx512.h"
// After the vectors that it is written in.
#include "kernels/cpu/matmul_int8_kernel.h"

namespace samba {
namespace {

// bf16 by bf16: 32 columns a step, pairs of products summed in f32 lanes.
struct ProductBF16 {
    using Vector = __m512i;
    static constexpr int kStep = 32, kWeightBytes = 2, kActBytes = 2, kChunk = 2048;
    static __m512i weights(const char* p) { return _mm512_loadu_si512(p); }
    static __m512i weights(const char* p, int n) { return _mm512_maskz_loadu_epi16((1u << n) - 1, p); }
    static __m512i acts(const char* p) { return weights(p); }
    static __m512i acts(const char* p, int n) { return weights(p, n); }
    static vf add_product(vf sum, __m512i w, __m512i x) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
    }
};

void bf16_product(const ProductArgs& a) {
    column_product<ProductBF16>(a, {static_cast<const char*>(a.converted), a.cols * 2});
}

void convert_bf16(const float* x, int64_t stride, int n, int64_t cols, std::byte* group) {
    for (int row = 0; row < n; ++row, x += stride, group += 2 * cols) {
        int64_t i = 0;
        for (; i + 16 <= cols; i += 16) {
            __m256bh h = _mm512_cvtneps_pbh(vload(x + i));
            std::memcpy(group + 2 * i, &h, sizeof h);
        }
        if (int rest = static_cast<int>(cols - i); rest > 0) {
            __m256bh h = _mm512_cvtneps_pbh(vload_n(x + i, rest));
            _mm256_mask_storeu_epi16(group + 2 * i, first_lanes(rest), reinterpret_cast<__m256i>(h));
        }
    }
}

}  // namespace

const MatmulKernels kAvx512Kernels = {quantize, f32_product, int8_product};
const Bf16Kernels kAvx512Bf16 = {convert_bf16, bf16_product, 1, 1, false};

}  // namespace samba
