// Matrix products in plain C++: the baseline of any CPU, and the plainest statement of the order of sums.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/quant.h"

namespace samba {
namespace {

constexpr int kLanes = 8;           // partial sums of an f32 dot product
constexpr int64_t kWidened = 4096;  // columns of a weight row widened at a time

float store(const ProductArgs& a, int64_t j, float old, float sum) {
    if (a.bias) sum += a.bias[j];
    return a.add ? old + sum : sum;
}

float dot(const float* a, const float* b, int64_t n) {
    float sums[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (int l = 0; l < kLanes; ++l) sums[l] += a[i + l] * b[i + l];
    }
    for (int l = 0; i + l < n; ++l) sums[l] += a[i + l] * b[i + l];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// Columns are widened a piece at a time into the panel; each piece's dot is added in turn.
void f32_product(const ProductArgs& a) {
    auto* wide = reinterpret_cast<float*>(a.panel);
    for (int64_t j = 0; j < a.n_out; ++j) {
        for (int64_t first = 0; first < a.cols; first += kWidened) {
            int64_t n = std::min(kWidened, a.cols - first);
            dequantize_row(a.type, a.w + j * a.w_stride + static_cast<int64_t>(row_bytes(a.type, first)), wide, n);
            for (int64_t t = 0; t < a.n_rows; ++t) {
                float sum = dot(wide, a.x + t * a.x_stride + first, n);
                float& y = a.y[t * a.y_stride + j];
                y = first == 0 ? store(a, j, y, sum) : y + sum;
            }
        }
    }
}

// A block of 32 activations of the n rows of a group.
struct ActBlock {
    const std::byte* data;
    int n;

    const int8_t* q(int row) const { return reinterpret_cast<const int8_t*>(data) + 32 * row; }
    float scale(int row) const { return number<float>(row); }
    float scaled_sum(int row) const { return number<float>(n + row); }

  private:
    template <class T>
    T number(int i) const {
        T v;
        std::memcpy(&v, data + 32 * n + 4 * i, sizeof v);
        return v;
    }
};

void quantize(const float* x, int64_t stride, int n, int64_t cols, std::byte* group) {
    for (int64_t b = 0; b < cols / 32; ++b, group += n * kActBlockBytes) {
        for (int row = 0; row < n; ++row) {
            const float* in = x + row * stride + 32 * b;
            auto* q = reinterpret_cast<int8_t*>(group) + 32 * row;
            float amax = 0;
            for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(in[i]));
            float scale = amax / 127.0f, inverse = amax > 0 ? 127.0f / amax : 0.0f;
            int32_t half[2] = {};
            for (int i = 0; i < 32; ++i) {
                float v = std::nearbyint(in[i] * inverse);
                q[i] = static_cast<int8_t>(v >= -127.0f && v <= 127.0f ? v : 127.0f);
                half[i / 16] += q[i];
            }
            float scaled_sum = scale * static_cast<float>(half[0] + half[1]);
            int32_t negative[3] = {-(half[0] + half[1]), -half[0], -half[1]};
            std::byte* numbers = group + 32 * n + 4 * row;
            std::memcpy(numbers, &scale, 4);
            std::memcpy(numbers + 4 * n, &scaled_sum, 4);
            for (int i = 0; i < 3; ++i) std::memcpy(numbers + 4 * n * (2 + i), &negative[i], 4);
        }
    }
}

// 32 weights: value i = scale[i / 16] * q[i] - min.
struct WeightBlock {
    int8_t q[32];
    float scale[2];
    float min;
};

template <class Block>
Block load(const char* row, int64_t i) {
    Block b;
    std::memcpy(&b, row + i * static_cast<int64_t>(sizeof b), sizeof b);
    return b;
}

void unpack(const BlockQ8_0& b, WeightBlock* w) {
    std::copy(b.q, b.q + 32, w->q);
    w->scale[0] = w->scale[1] = f16_to_f32(b.d);
}

void unpack(const BlockQ4_0& b, WeightBlock* w) {
    for (int i = 0; i < 16; ++i) {
        w->q[i] = static_cast<int8_t>((b.q[i] & 15) - 8);
        w->q[i + 16] = static_cast<int8_t>((b.q[i] >> 4) - 8);
    }
    w->scale[0] = w->scale[1] = f16_to_f32(b.d);
}

template <class Block>  // Q4_K, Q5_K
void unpack_scales(const Block& b, int j, WeightBlock& w) {
    uint8_t scale, min;
    unpack_scale(b.scales, j, scale, min);
    w.scale[0] = w.scale[1] = f16_to_f32(b.d) * static_cast<float>(scale);
    w.min = f16_to_f32(b.dmin) * static_cast<float>(min);
}

void unpack(const BlockQ4_K& b, WeightBlock* w) {
    for (int j = 0; j < 8; ++j) {
        unpack_scales(b, j, w[j]);
        for (int i = 0; i < 32; ++i) w[j].q[i] = static_cast<int8_t>(b.q[32 * (j / 2) + i] >> (4 * (j & 1)) & 15);
    }
}

void unpack(const BlockQ5_K& b, WeightBlock* w) {
    for (int j = 0; j < 8; ++j) {
        unpack_scales(b, j, w[j]);
        for (int i = 0; i < 32; ++i) {
            int low = b.q[32 * (j / 2) + i] >> (4 * (j & 1)) & 15;
            w[j].q[i] = static_cast<int8_t>(low | (b.qh[i] >> j & 1) << 4);
        }
    }
}

void unpack(const BlockQ6_K& b, WeightBlock* w) {
    float d = f16_to_f32(b.d);
    for (int j = 0; j < 8; ++j) {
        int half = j / 4, part = j % 4;
        for (int i = 0; i < 32; ++i) {
            int low = b.ql[64 * half + 32 * (part & 1) + i] >> (4 * (part >> 1)) & 15;
            int high = b.qh[32 * half + i] >> (2 * part) & 3;
            w[j].q[i] = static_cast<int8_t>((low | high << 4) - 32);
        }
        for (int h = 0; h < 2; ++h) w[j].scale[h] = d * static_cast<float>(b.scales[2 * j + h]);
    }
}

int dot16(const int8_t* a, const int8_t* b) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) sum += a[i] * b[i];
    return sum;
}

float add_block(DType type, const WeightBlock& w, const ActBlock& x, int row, float sum) {
    int first = dot16(w.q, x.q(row)), second = dot16(w.q + 16, x.q(row) + 16);
    if (type == DType::kQ6_K) {
        sum += static_cast<float>(first) * (w.scale[0] * x.scale(row));
        return sum + static_cast<float>(second) * (w.scale[1] * x.scale(row));
    }
    sum += static_cast<float>(first + second) * (w.scale[0] * x.scale(row));
    return type == DType::kQ4_K || type == DType::kQ5_K ? sum - w.min * x.scaled_sum(row) : sum;
}

// One row of weights is unpacked into the panel and used for all rows of activations.
template <class Block>
void int8_product_of(const ProductArgs& a) {
    constexpr int kBlocks = sizeof(Block) > 100 ? 8 : 1;  // of 32, in one block of the file
    auto* row = reinterpret_cast<WeightBlock*>(a.panel);
    int64_t blocks = a.cols / 32;
    for (int64_t j = 0; j < a.n_out; ++j) {
        for (int64_t b = 0; b < blocks; b += kBlocks) unpack(load<Block>(a.w + j * a.w_stride, b / kBlocks), row + b);
        for (int64_t t = 0; t < a.n_rows; ++t) {
            int64_t group = t / a.group * a.group;
            int n = static_cast<int>(std::min(a.group, a.n_rows - group));
            const std::byte* x = static_cast<const std::byte*>(a.converted) + group * blocks * kActBlockBytes;
            float sum = 0;
            for (int64_t b = 0; b < blocks; ++b) {
                sum = add_block(a.type, row[b], {x + b * n * kActBlockBytes, n}, static_cast<int>(t - group), sum);
            }
            float& y = a.y[t * a.y_stride + j];
            y = store(a, j, y, sum);
        }
    }
}

void int8_product(const ProductArgs& a) {
    switch (a.type) {
        case DType::kQ8_0:
            return int8_product_of<BlockQ8_0>(a);
        case DType::kQ4_0:
            return int8_product_of<BlockQ4_0>(a);
        case DType::kQ4_K:
            return int8_product_of<BlockQ4_K>(a);
        case DType::kQ5_K:
            return int8_product_of<BlockQ5_K>(a);
        case DType::kQ6_K:
            return int8_product_of<BlockQ6_K>(a);
        default:
            return;
    }
}

}  // namespace

const MatmulKernels kPortableKernels = {quantize, f32_product, int8_product};

}  // namespace samba
