// What the products with quantised weights share (matvec_int8.cuh of several rows, matvec_int8_row.cuh of a single
// one): a group of weights on its way, and activations as 8-bit integers (docs/adr/0008): 32 values have one scale, and
// their bytes stand in the order in which a format unpacks its weights. A team of four lanes makes a block of 32, eight
// values a lane.
#pragma once
#include <type_traits>

#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/matvec_args.h"

namespace samba::cuda {

template <class F, class Weights = typename F::Raw>
struct Int8Groups {
    static constexpr int kColumns = F::kBlocks * 32, kPieces = F::kPieces, kBytes = kFormatBytes<F>;
    static constexpr QuantLayout kLayout = F::kLayout;
    using Raw = Weights;
    using Source = const unsigned char*;  // a group
    static __device__ __forceinline__ Source source(const DeviceWeight& w, int n_groups, int tile, int group) {
        return w.data + (static_cast<int64_t>(tile) * n_groups + group) * kBytes;
    }
    static __device__ __forceinline__ void step(Source& s, int n) { s += n * kBytes; }
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& raw, Source s, Fetch f) {
        F::fetch(raw, s, threadIdx.x & 31, f);
    }
    // A group as it lies in memory, in shared memory.
    static constexpr bool kBulk = true;
    static __device__ __forceinline__ void load(Raw& raw, const unsigned char* group, int lane) {
        F::fetch(raw, group, lane, FromGroup());
    }
};

// Eight of a row's values, on their way; of a block, those of the team's lane t.
template <class F>
struct PlainEight {  // 16-bit ones
    static constexpr int kAtOnce = 3;
    uint4 v = {};
    static __device__ __forceinline__ const void* from(const MatvecArgs& a, int r, int block, int t) {
        return static_cast<const bfloat*>(a.x) + r * a.x_stride + 32 * block + (F::kSplit ? 4 : 8) * t;
    }
    __device__ __forceinline__ void load(const void* from) {
        if constexpr (F::kSplit) {
            const auto* p = static_cast<const uint2*>(from);
            v = make_uint4(p[0].x, p[0].y, p[4].x, p[4].y);
        } else {
            v = *static_cast<const uint4*>(from);
        }
    }
    __device__ __forceinline__ void set(const uint4 (&asked)[2]) { v = asked[0]; }
    static __device__ __forceinline__ void load_norm(const MatvecArgs&, int, int, float4 (&)[2]) {}
    __device__ __forceinline__ float take(const MatvecArgs& a, const float4 (&)[2], float (&f)[8]) const {
        const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 two = a.x_f16 ? floats_of_f16(w[i]) : make_float2(low_bf16(w[i]), high_bf16(w[i]));
            f[2 * i] = two.x, f[2 * i + 1] = two.y;
        }
        return 0;
    }
};
template <class F>
struct NormedEight {  // f32 ones, times the norm's weights
    static constexpr int kAtOnce = 1;
    float4 v[2] = {};
    static __device__ __forceinline__ int first(int block, int t) { return 32 * block + (F::kSplit ? 4 : 8) * t; }
    static constexpr int kSecond = F::kSplit ? 16 : 4;
    static __device__ __forceinline__ const void* from(const MatvecArgs& a, int r, int block, int t) {
        return static_cast<const float*>(a.x) + (a.gather ? a.rows.row[r] : r) * a.x_stride + first(block, t);
    }
    __device__ __forceinline__ void load(const void* from) {
        v[0] = *static_cast<const float4*>(from);
        v[1] = *reinterpret_cast<const float4*>(static_cast<const float*>(from) + kSecond);
    }
    __device__ __forceinline__ void set(const uint4 (&asked)[2]) {
#pragma unroll
        for (int i = 0; i < 2; i++) v[i] = *reinterpret_cast<const float4*>(&asked[i]);
    }
    static __device__ __forceinline__ void load_norm(const MatvecArgs& a, int block, int t, float4 (&norm)[2]) {
        norm[0] = *reinterpret_cast<const float4*>(a.norm + first(block, t));
        norm[1] = *reinterpret_cast<const float4*>(a.norm + first(block, t) + kSecond);
    }
    // Returns the sum of the squares.
    __device__ __forceinline__ float take(const MatvecArgs& a, const float4 (&norm)[2], float (&f)[8]) const {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 w = norm[i];
            f[4 * i] = v[i].x * w.x, f[4 * i + 1] = v[i].y * w.y;
            f[4 * i + 2] = v[i].z * w.z, f[4 * i + 3] = v[i].w * w.w;
            sum = fmaf(v[i].x, v[i].x, fmaf(v[i].y, v[i].y, fmaf(v[i].z, v[i].z, fmaf(v[i].w, v[i].w, sum))));
        }
        return sum;
    }
};

// a / b, rounded as a division is but for a few quotients in millions and for values at the ends of the range;
// per_b: about 1 / b. A division has more instructions, and a branch for those.
__device__ __forceinline__ float ratio(float a, float b, float per_b) {
    const float q = a * per_b;
    return fmaf(fmaf(-q, b, a), per_b, q);
}

// A lane's eight values as bytes; of its block the scale, and the sums of the bytes that belong to each scale of the
// weights: where a product needs them of the block, or of each half.
template <class F>
struct EightBytes {
    static constexpr int kSums = !F::kMins && F::kOffset == 0 ? 0 : F::kSplit ? 2 : 1;
    uint32_t word[2];
    float scale;
    int sum[2] = {0, 0};

    // q = round(v 127 / largest): v times `inverse`; the block's scale is largest / 127.
    __device__ __forceinline__ float set_scale(float largest) {
        scale = ratio(largest, 127.0f, 1.0f / 127.0f);
        return largest > 0 ? ratio(127.0f, largest, __fdividef(1.0f, largest)) : 0.0f;
    }
    // 1.5 x 2^23 and an integer: that is its lowest byte.
    static __device__ __forceinline__ uint32_t quantize(float v, float inverse) {
        return __float_as_uint(fmaf(v, inverse, 12582912.0f));
    }
    // Digit v: which byte has value v. kOrder says it the other way round.
    static constexpr uint32_t kPlaces = [] {
        uint32_t places = 0;
        for (uint32_t i = 0; i < 8; i++) places |= i << 4 * (F::kOrder >> 4 * i & 7);
        return places;
    }();
    // Where in a block the byte of one of its columns stands: which team's lane has it, and as which of its bytes.
    static __device__ __forceinline__ int lane_of(int column) { return F::kSplit ? column % 16 / 4 : column / 8; }
    static __device__ __forceinline__ int byte_of(int column) {
        return kPlaces >> 4 * (F::kSplit ? column / 16 * 4 + column % 4 : column % 8) & 7;
    }
    // Of a warp's 32 values, a lane a column, which has its byte in word[0]; byte: byte_of() of it. The same bytes and
    // sums, but where a value is no number.
    __device__ __forceinline__ EightBytes(float v, int byte) {
        const uint32_t largest = __reduce_max_sync(0xffffffffu, __float_as_uint(fabsf(v)));  // as its bits are
        word[0] = quantize(v, set_scale(__uint_as_float(largest))), word[1] = 0;
        const int q = static_cast<int8_t>(word[0]);
#pragma unroll
        for (int h = 0; h < kSums; h++) {
            sum[h] = __reduce_add_sync(0xffffffffu, kSums == 1 || byte / 4 == h ? q : 0);
        }
    }

    // Of a team's 32 values.
    __device__ __forceinline__ explicit EightBytes(const float (&v)[8]) {
        float most[4];
#pragma unroll
        for (int i = 0; i < 4; i++) most[i] = fmaxf(fabsf(v[i]), fabsf(v[i + 4]));
        float largest = fmaxf(fmaxf(most[0], most[2]), fmaxf(most[1], most[3]));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        const float inverse = set_scale(largest);
        uint32_t q[8];
#pragma unroll
        for (int i = 0; i < 8; i++) q[i] = quantize(v[F::kOrder >> (4 * i) & 7], inverse);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            word[h] = __byte_perm(__byte_perm(q[4 * h], q[4 * h + 1], 0x0040),
                                  __byte_perm(q[4 * h + 2], q[4 * h + 3], 0x0040), 0x5410);
        }
#pragma unroll
        for (int h = 0; h < kSums; h++) {
            sum[h] = __dp4a(static_cast<int>(word[h]), 0x01010101, 0);
            if (kSums == 1) sum[h] = __dp4a(static_cast<int>(word[1]), 0x01010101, sum[h]);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        }
    }
    // scale x sum as three bf16, exactly its 24 bits: those of a pair's first block at `to`, the second's one further.
    __device__ __forceinline__ void put_sum(bfloat* to) const {
        static_assert(F::kMins && !F::kSplit);
        float left = scale * static_cast<float>(sum[0]);
#pragma unroll
        for (int i = 0; i < 3; i++) {
            const bfloat part = from_float<bfloat>(left);
            to[2 * i] = part;
            left -= to_float(part);
        }
    }
};

// One block's part of a product: an integer sum, times the block's scale (an integer in the K types) and that of the
// activations. The product with an integer scale is below 2^24, or a multiple of 16 below 2^28: exact as a float.
template <class Scale>
__device__ __forceinline__ float add_block(float sum, int part, Scale scale, float activation) {
    if constexpr (std::is_integral_v<Scale>) {
        return fmaf(activation, static_cast<float>(part * scale), sum);
    } else {
        return fmaf(scale, static_cast<float>(part) * activation, sum);
    }
}

// The group's minima times the blocks' sums (EightBytes::put_sum): a product of its own.
template <class F, class Raw>
__device__ __forceinline__ void add_mins(float (&mins)[4], const Raw& raw, const uint4& sums) {
    const uint32_t m = F::two_mins(raw, threadIdx.x & 3, 0), m8 = F::two_mins(raw, threadIdx.x & 3, 1);
    mma_bf16_8(mins, m, m8, sums.z);
    mma_bf16_8(mins, m, m8, sums.y);
    mma_bf16_8(mins, m, m8, sums.x);
}

}  // namespace samba::cuda
