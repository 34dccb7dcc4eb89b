// The weight formats as a warp multiplies them (quant_layout.h): per format how a lane loads its part of a group, and
// how it becomes bytes for an integer mma (a matrix of 16 rows of weights), or bf16 pairs where it is widened, and
// scales.
#pragma once
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quant_layout.h"
#include "kernels/cuda/values.cuh"
#include "kernels/cuda/weight.h"

namespace samba::cuda {

// Four words of two bf16 each: a lane's eight values of a block, of one row.
struct Pairs {
    uint32_t w[4];
};

__device__ __forceinline__ uint32_t subtract_bf16(uint32_t pair, float n) {
    const __nv_bfloat162 v = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&pair), __float2bfloat162_rn(n));
    return *reinterpret_cast<const uint32_t*>(&v);
}

// Eight signed bytes, a word's four in the order 0, 2, 1, 3. A byte's lower seven bits m make 128 + m in bf16
// (0x4300 | m), its sign bit 128 or 256 (0x4300, 0x4380): their difference is the integer, exactly.
__device__ __forceinline__ uint32_t byte_pair(uint32_t bytes) {
    const uint32_t magnitude = (bytes & 0x007f007fu) | 0x43004300u, sign = (bytes & 0x00800080u) | 0x43004300u;
    const __nv_bfloat162 v =
        __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&magnitude), *reinterpret_cast<const __nv_bfloat162*>(&sign));
    return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ Pairs bytes_to_bf16(uint32_t low, uint32_t high) {
    return {{byte_pair(low), byte_pair(low >> 8), byte_pair(high), byte_pair(high >> 8)}};
}

// Eight nibbles: 128 + q in bf16 is 0x4300 | q.
__device__ __forceinline__ uint32_t nibble_pair(uint32_t word, int j) { return (word >> (4 * j)) & 0x000f000fu; }

// As bytes: values 0, 4, 1, 5 and 2, 6, 3, 7.
__device__ __forceinline__ uint2 nibbles(uint32_t word) {
    return make_uint2(word & 0x0f0f0f0fu, (word >> 4) & 0x0f0f0f0fu);
}
__device__ __forceinline__ uint32_t moved(uint32_t bits, int from, int to) {
    return from >= to ? bits >> (from - to) : bits << (to - from);
}

__device__ __forceinline__ uint32_t pick(const uint4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Ways to bring a piece of a lane's share of a group: to registers, or by way of shared memory. There a lane reads what
// it has copied itself, so nothing but its own copies must be waited for; or what the copy engine has brought.
struct FromMemory {
    __device__ __forceinline__ void operator()(uint4& to, const void* from, bool valid = true) const {
        to = valid ? load_stream(from) : make_uint4(0, 0, 0, 0);
    }
    __device__ __forceinline__ void operator()(uint32_t& to, const void* from) const {
        to = *static_cast<const uint32_t*>(from);
    }
};
inline constexpr int kPieceBytes = 512;  // of all lanes
struct ToShared {
    unsigned char* at;  // the lane's place in the first piece
    __device__ __forceinline__ void operator()(uint4&, const void* from, bool valid = true) {
        cp_async<16>(at, from, valid);
        at += kPieceBytes;
    }
    __device__ __forceinline__ void operator()(uint32_t&, const void* from) {
        cp_async<4>(at, from);
        at += kPieceBytes;
    }
};
struct FromGroup {  // a group that lies in shared memory as in the weight
    template <class T>
    __device__ __forceinline__ void operator()(T& to, const void* from, bool = true) const {
        to = *static_cast<const T*>(from);
    }
};
struct FromShared {
    const unsigned char* at;
    template <class T>
    __device__ __forceinline__ void operator()(T& to, const void*, bool = true) {
        to = *reinterpret_cast<const T*>(at);
        at += kPieceBytes;
    }
};

// Each format has
//   fetch(raw, group, lane, f): calls f for the kPieces pieces of a lane's share;
//   pairs(raw, b, upper): the lane's values of block b, rows g or g + 8 (upper), as bf16, their offset subtracted;
//   words(raw, b, upper): the same as bytes with the offset kOffset, byte i is the value that digit i of kOrder names;
//   scale, min: of a block (with kSplit of its first or second 16 columns); they are block_scale x group_scale, and
//   for the products the minima as bf16 pairs (two_mins) x group_min.
struct Q8_0 {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ8_0);
    static constexpr int kBlocks = 4, kPieces = 5;
    static constexpr bool kMins = false, kSplit = false, kUnsigned = false;
    static constexpr int kOffset = 0, kOrder = 0x75643120;
    struct Raw {
        uint4 q[4], s;
    };
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.s, scales + lane / 4 * 16);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        return upper ? bytes_to_bf16(r.q[b].z, r.q[b].w) : bytes_to_bf16(r.q[b].x, r.q[b].y);
    }
    static __device__ __forceinline__ uint2 words(const Raw& r, int b, int upper) {
        return upper ? make_uint2(r.q[b].z, r.q[b].w) : make_uint2(r.q[b].x, r.q[b].y);
    }
    static __device__ __forceinline__ float scale(const Raw& r, int b, int, int upper) {
        const float2 d = floats_of_f16(pick(r.s, b));
        return upper ? d.y : d.x;
    }
    static __device__ __forceinline__ float block_scale(const Raw& r, int b, int, int upper) {
        return scale(r, b, 0, upper);
    }
    static __device__ __forceinline__ float group_scale(const Raw&, int) { return 1.0f; }
};

struct Q4_0 {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ4_0);
    static constexpr int kBlocks = 4, kPieces = 3;
    static constexpr bool kMins = false, kSplit = false, kUnsigned = true;
    static constexpr int kOffset = 8, kOrder = 0x73625140;
    struct Raw {
        uint4 q[2], s;
    };
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 2; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.s, scales + lane / 4 * 16);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) p.w[j] = subtract_bf16(nibble_pair(word, j) | 0x43004300u, 136.0f);
        return p;
    }
    static __device__ __forceinline__ uint2 words(const Raw& r, int b, int upper) {
        return nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
    }
    static __device__ __forceinline__ float scale(const Raw& r, int b, int, int upper) {
        const float2 d = floats_of_f16(pick(r.s, b));
        return upper ? d.y : d.x;
    }
    static __device__ __forceinline__ float block_scale(const Raw& r, int b, int, int upper) {
        return scale(r, b, 0, upper);
    }
    static __device__ __forceinline__ float group_scale(const Raw&, int) { return 1.0f; }
};

// The 6-bit scales and mins of a row, four to a word: blocks 0-3, 4-7.
struct KScales {
    uint32_t scale[2], min[2];
};
__device__ __forceinline__ KScales unpack_scales(const uint4& s) {
    KScales k;
    k.scale[0] = s.y & 0x3f3f3f3fu;
    k.min[0] = s.z & 0x3f3f3f3fu;
    k.scale[1] = (s.w & 0x0f0f0f0fu) | ((s.y >> 2) & 0x30303030u);
    k.min[1] = ((s.w >> 4) & 0x0f0f0f0fu) | ((s.z >> 2) & 0x30303030u);
    return k;
}
__device__ __forceinline__ int byte_of(const uint32_t (&w)[2], int b) {
    return static_cast<int>(__byte_perm(w[b / 4], 0, 0x4440u | static_cast<uint32_t>(b & 3)));
}

// Of blocks 2t and 2t + 1, in the halves of a word, as bf16.
__device__ __forceinline__ uint32_t two_bytes(const uint32_t (&w)[2], int t) {
    return subtract_bf16(__byte_perm(t < 2 ? w[0] : w[1], 0x43434343u, t & 1 ? 0x4342u : 0x4140u), 128.0f);
}

// Scales and minima of the types that have both: `s` of a lane's share is the rows' first 16 bytes.
struct ScalesAndMins {
    template <class Raw>
    static __device__ __forceinline__ int block_scale(const Raw& r, int b, int, int upper) {
        return byte_of(unpack_scales(r.s[upper]).scale, b);
    }
    template <class Raw>
    static __device__ __forceinline__ float group_scale(const Raw& r, int upper) {
        return low_f16(r.s[upper].x);
    }
    template <class Raw>
    static __device__ __forceinline__ float group_min(const Raw& r, int upper) {
        return high_f16(r.s[upper].x);
    }
    template <class Raw>
    static __device__ __forceinline__ uint32_t two_mins(const Raw& r, int t, int upper) {
        return two_bytes(unpack_scales(r.s[upper]).min, t);
    }
    template <class Raw>
    static __device__ __forceinline__ float scale(const Raw& r, int b, int, int upper) {
        return group_scale(r, upper) * static_cast<float>(block_scale(r, b, 0, upper));
    }
    template <class Raw>
    static __device__ __forceinline__ float min(const Raw& r, int b, int upper) {
        return group_min(r, upper) * static_cast<float>(byte_of(unpack_scales(r.s[upper]).min, b));
    }
};

struct Q4_K : ScalesAndMins {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ4_K);
    static constexpr int kBlocks = 8, kPieces = 6;
    static constexpr bool kMins = true, kSplit = false, kUnsigned = true;
    static constexpr int kOffset = 0, kOrder = 0x73625140;
    struct Raw {
        uint4 q[4], s[2];
    };
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.s[0], scales + lane / 4 * 16);
        f(r.s[1], scales + (lane / 4 + 8) * 16);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) p.w[j] = subtract_bf16(nibble_pair(word, j) | 0x43004300u, 128.0f);
        return p;
    }
    static __device__ __forceinline__ uint2 words(const Raw& r, int b, int upper) {
        return nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
    }
};

struct Q5_K : ScalesAndMins {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ5_K);
    static constexpr int kBlocks = 8, kPieces = 7;
    static constexpr bool kMins = true, kSplit = false, kUnsigned = true;
    static constexpr int kOffset = 0, kOrder = 0x73625140;
    struct Raw {
        uint4 q[4], high, s[2];
    };
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.high, group + 2048 + lane * 16);
        f(r.s[0], scales + lane / 4 * 16);
        f(r.s[1], scales + (lane / 4 + 8) * 16);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper), bits = pick(r.high, 2 * upper + b / 4);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int at = 4 * (b & 3) + j;  // moved to bit 4
            const uint32_t fifth = moved(bits, at, 4) & 0x00100010u;
            p.w[j] = subtract_bf16(nibble_pair(word, j) | fifth | 0x43004300u, 128.0f);
        }
        return p;
    }
    static __device__ __forceinline__ uint2 words(const Raw& r, int b, int upper) {
        uint2 w = nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
        const uint32_t bits = pick(r.high, 2 * upper + b / 4);
        const int at = 4 * (b & 3);
        w.x |= (moved(bits, at, 4) & 0x00100010u) | (moved(bits, at + 2, 12) & 0x10001000u);
        w.y |= (moved(bits, at + 1, 4) & 0x00100010u) | (moved(bits, at + 3, 12) & 0x10001000u);
        return w;
    }
};

struct Q6_K {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ6_K);
    static constexpr int kBlocks = 8, kPieces = 9;
    static constexpr bool kMins = false, kSplit = true, kUnsigned = true;
    static constexpr int kOffset = 32, kOrder = 0x76543210;
    struct Raw {
        uint4 q[4], high[2], s[2];
        uint32_t d;
    };
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            f(r.high[i], group + 2048 + i * 512 + lane * 16);
            f(r.s[i], scales + (lane / 4 + 8 * i) * 16);
        }
        f(r.d, scales + 256 + lane / 4 * 4);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper), bits = pick(r.high[upper], b / 2);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int at = 8 * (b & 1) + 2 * j;  // moved to bit 4
            const uint32_t upper_bits = moved(bits, at, 4) & 0x00300030u;
            p.w[j] = subtract_bf16(nibble_pair(word, j) | upper_bits | 0x43004300u, 160.0f);
        }
        return p;
    }
    // The first 16 columns' bytes, the second's.
    static __device__ __forceinline__ uint2 words(const Raw& r, int b, int upper) {
        uint2 w = nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
        const uint32_t bits = pick(r.high[upper], b / 2);
        const int at = 8 * (b & 1);
        w.x |= (moved(bits, at, 4) & 0x00300030u) | (moved(bits, at + 4, 12) & 0x30003000u);
        w.y |= (moved(bits, at + 2, 4) & 0x00300030u) | (moved(bits, at + 6, 12) & 0x30003000u);
        return make_uint2(__byte_perm(w.x, w.y, 0x6420u), __byte_perm(w.x, w.y, 0x7531u));
    }
    // Of the block's first or second 16 columns: a signed byte.
    static __device__ __forceinline__ int block_scale(const Raw& r, int b, int second, int upper) {
        const int i = 2 * b + second;
        return static_cast<int>(pick(r.s[upper], i / 4) << (24 - 8 * (i & 3))) >> 24;
    }
    static __device__ __forceinline__ float group_scale(const Raw& r, int upper) {
        return upper ? high_f16(r.d) : low_f16(r.d);
    }
    static __device__ __forceinline__ float scale(const Raw& r, int b, int second, int upper) {
        return group_scale(r, upper) * static_cast<float>(block_scale(r, b, second, upper));
    }
};

template <class F>
inline constexpr int kFormatBytes = F::kLayout.quant_bytes + F::kLayout.scale_bytes;  // of a group

template <class F>
__device__ __forceinline__ typename F::Raw load_raw(const unsigned char* group, int lane) {
    typename F::Raw r;
    F::fetch(r, group, lane, FromMemory());
    return r;
}

// The eight values of lane `lane` in block b: rows g (upper = 0) or g + 8; columns as in quant_layout.h.
template <class F>
__device__ __forceinline__ void dequantize8(const typename F::Raw& raw, int b, int upper, float (&v)[8]) {
    const Pairs p = F::pairs(raw, b, upper);
    const float first = F::scale(raw, b, 0, upper), second = F::kSplit ? F::scale(raw, b, 1, upper) : first;
    float min = 0;
    if constexpr (F::kMins) min = F::min(raw, b, upper);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float scale = j < 2 ? first : second;
        v[2 * j] = scale * low_bf16(p.w[j]) - min;
        v[2 * j + 1] = scale * high_bf16(p.w[j]) - min;
    }
}

// The column of the i-th of those eight values within its block.
template <class F>
__device__ __forceinline__ int column_of(int t, int i) {
    return F::kSplit ? (i < 4 ? 4 * t + i : 16 + 4 * t + i - 4) : 8 * t + i;
}

}  // namespace samba::cuda
