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
    template <class T>
    __device__ __forceinline__ void operator()(T& to, const void* from) const {
        to = *static_cast<const T*>(from);
    }
};
inline constexpr int kPieceBytes = 512;  // of all lanes
struct ToShared {
    unsigned char* at;  // the lane's place in the first piece
    __device__ __forceinline__ void operator()(uint4&, const void* from, bool valid = true) {
        cp_async<16>(at, from, valid);
        at += kPieceBytes;
    }
    template <class T>
    __device__ __forceinline__ void operator()(T&, const void* from) {
        constexpr int kBytes = sizeof(T) < 4 ? 4 : sizeof(T);  // of two bytes the whole word
        cp_async<kBytes>(at, static_cast<const unsigned char*>(from) - reinterpret_cast<uintptr_t>(from) % kBytes);
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
    __device__ __forceinline__ void operator()(T& to, const void* from, bool = true) {
        to = *reinterpret_cast<const T*>(at + (sizeof(T) < 4 ? reinterpret_cast<uintptr_t>(from) % 4 : 0));
        at += kPieceBytes;
    }
};

// Of two blocks, or (with kSplit) of their halves.
template <class Scale>
struct LaneScales {
    Scale v[4];
};

// Each format has
//   fetch(raw, group, lane, f): calls f for the pieces of a lane's share, at most kPieces; of a Raw, with the scales of
//     all blocks in rows g and g + 8, or of a LaneRaw, with those of the lane's own blocks, 2t and 2t + 1 (of four
//     blocks 2 (t mod 2) and the next)
//   pairs(raw, b, upper): the lane's values of block b, rows g or g + 8 (upper), as bf16, their offset subtracted
//   words(raw, b, upper): the same as bytes with the offset kOffset, byte i is the value that digit i of kOrder names
//   scale, min: of a block (with kSplit of its first or second 16 columns); they are block_scale x group_scale, and for
//     the products the minima as bf16 pairs (two_mins) x group_min
//   lane_scales: block_scale of the lane's own blocks
//   kNibbles: a word's nibbles are all there is to eight values

// What the types share that have an f16 scale for each of a group's four blocks. kQuants: pieces of quants.
template <DType kType, int kQuants>
struct FourBlocks {
    static constexpr QuantLayout kLayout = quant_layout(kType);
    static constexpr int kBlocks = 4, kPieces = kQuants + 1;
    static constexpr bool kMins = false, kSplit = false;
    template <class Scales>
    struct RawOf {
        uint4 q[kQuants];
        Scales s;
    };
    using Raw = RawOf<uint4>;
    using LaneRaw = RawOf<uint2>;
    template <class R, class Fetch>
    static __device__ __forceinline__ void fetch(R& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < kQuants; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.s, scales + lane / 4 * 16 + (sizeof(r.s) == 8 ? lane % 2 * 8 : 0));
    }
    static __device__ __forceinline__ float scale(const Raw& r, int b, int, int upper) {
        const float2 d = floats_of_f16(pick(r.s, b));
        return upper ? d.y : d.x;
    }
    static __device__ __forceinline__ float block_scale(const Raw& r, int b, int, int upper) {
        return scale(r, b, 0, upper);
    }
    static __device__ __forceinline__ LaneScales<float> lane_scales(const LaneRaw& r, int upper) {
        const float2 d = floats_of_f16(r.s.x), e = floats_of_f16(r.s.y);
        return {{upper ? d.y : d.x, upper ? e.y : e.x}};
    }
    template <class R>
    static __device__ __forceinline__ float group_scale(const R&, int) {
        return 1.0f;
    }
};

struct Q8_0 : FourBlocks<DType::kQ8_0, 4> {
    static constexpr bool kUnsigned = false, kNibbles = false;
    static constexpr int kOffset = 0, kOrder = 0x75643120;
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        return upper ? bytes_to_bf16(r.q[b].y, r.q[b].w) : bytes_to_bf16(r.q[b].x, r.q[b].z);
    }
    template <class R>
    static __device__ __forceinline__ uint2 words(const R& r, int b, int upper) {
        return upper ? make_uint2(r.q[b].y, r.q[b].w) : make_uint2(r.q[b].x, r.q[b].z);
    }
};

struct Q4_0 : FourBlocks<DType::kQ4_0, 2> {
    static constexpr bool kUnsigned = true, kNibbles = true;
    static constexpr int kOffset = 8, kOrder = 0x73625140;
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) p.w[j] = subtract_bf16(nibble_pair(word, j) | 0x43004300u, 136.0f);
        return p;
    }
    template <class R>
    static __device__ __forceinline__ uint2 words(const R& r, int b, int upper) {
        return nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
    }
};

__device__ __forceinline__ int byte_of(uint32_t word, int i) {
    return static_cast<int>(__byte_perm(word, 0, 0x4440u | static_cast<uint32_t>(i)));
}

// Scales and minima of the types that have both: six bits each, four and four in 48 bits (quant_layout.h).
__device__ __forceinline__ uint32_t four_scales(uint32_t word) { return word & 0x3f3f3f3fu; }
__device__ __forceinline__ uint32_t four_mins(uint32_t word, uint32_t nibbles) {
    return ((nibbles | nibbles << 12) & 0x0f0f0f0fu) | (word >> 2 & 0x30303030u);
}

// What the whole group has of them for rows g and g + 8, and what of it belongs to the lane's blocks, 2t and 2t + 1.
struct KScales {
    uint4 word, rest;  // rest: the nibbles, d and dmin of row g, of row g + 8

    template <class Fetch>
    __device__ __forceinline__ void fetch(const unsigned char* scales, int lane, Fetch& f) {
        f(word, scales + lane / 4 * 16);
        f(rest, scales + 128 + lane / 4 * 16);
    }
    __device__ __forceinline__ uint32_t mins(int t) const {
        const uint32_t two = t < 2 ? rest.x : rest.y;
        return four_mins(pick(word, t), t & 1 ? two >> 16 : two & 0xffffu);
    }
    __device__ __forceinline__ uint2 factors() const { return make_uint2(rest.z, rest.w); }
};
struct KLaneScales {
    uint32_t word;
    uint16_t nibbles;
    uint2 d;

    template <class Fetch>
    __device__ __forceinline__ void fetch(const unsigned char* scales, int lane, Fetch& f) {
        f(word, scales + lane * 4);
        f(nibbles, scales + 128 + lane / 4 * 16 + lane % 4 * 2);
        f(d, scales + 128 + lane / 4 * 16 + 8);
    }
    __device__ __forceinline__ uint32_t mins(int) const { return four_mins(word, nibbles); }
    __device__ __forceinline__ uint2 factors() const { return d; }
};

struct ScalesAndMins {
    template <class Raw>
    static __device__ __forceinline__ int block_scale(const Raw& r, int b, int, int upper) {
        return byte_of(four_scales(pick(r.s.word, b / 2)), b % 2 + 2 * upper);
    }
    template <class Raw>
    static __device__ __forceinline__ LaneScales<int> lane_scales(const Raw& r, int upper) {
        const uint32_t four = four_scales(r.s.word);
        return {{byte_of(four, 2 * upper), byte_of(four, 2 * upper + 1)}};
    }
    template <class Raw>
    static __device__ __forceinline__ float group_scale(const Raw& r, int upper) {
        return low_f16(upper ? r.s.factors().y : r.s.factors().x);
    }
    template <class Raw>
    static __device__ __forceinline__ float group_min(const Raw& r, int upper) {
        return high_f16(upper ? r.s.factors().y : r.s.factors().x);
    }
    // Of blocks 2t and 2t + 1, in the halves of a word, as bf16.
    template <class Raw>
    static __device__ __forceinline__ uint32_t two_mins(const Raw& r, int t, int upper) {
        return subtract_bf16(__byte_perm(r.s.mins(t), 0x43434343u, upper ? 0x4342u : 0x4140u), 128.0f);
    }
    template <class Raw>
    static __device__ __forceinline__ float scale(const Raw& r, int b, int, int upper) {
        return group_scale(r, upper) * static_cast<float>(block_scale(r, b, 0, upper));
    }
    template <class Raw>
    static __device__ __forceinline__ float min(const Raw& r, int b, int upper) {
        return group_min(r, upper) * static_cast<float>(byte_of(r.s.mins(b / 2), b % 2 + 2 * upper));
    }
};

struct Q4_K : ScalesAndMins {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ4_K);
    static constexpr int kBlocks = 8, kPieces = 7;
    static constexpr bool kMins = true, kSplit = false, kUnsigned = true, kNibbles = true;
    static constexpr int kOffset = 0, kOrder = 0x73625140;
    template <class Scales>
    struct RawOf {
        uint4 q[4];
        Scales s;
    };
    using Raw = RawOf<KScales>;
    using LaneRaw = RawOf<KLaneScales>;
    template <class R, class Fetch>
    static __device__ __forceinline__ void fetch(R& r, const unsigned char* group, int lane, Fetch f) {
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
        r.s.fetch(group + kLayout.quant_bytes, lane, f);
    }
    static __device__ __forceinline__ Pairs pairs(const Raw& r, int b, int upper) {
        const uint32_t word = pick(r.q[b / 2], 2 * (b & 1) + upper);
        Pairs p;
#pragma unroll
        for (int j = 0; j < 4; j++) p.w[j] = subtract_bf16(nibble_pair(word, j) | 0x43004300u, 128.0f);
        return p;
    }
    template <class R>
    static __device__ __forceinline__ uint2 words(const R& r, int b, int upper) {
        return nibbles(pick(r.q[b / 2], 2 * (b & 1) + upper));
    }
};

struct Q5_K : ScalesAndMins {
    static constexpr QuantLayout kLayout = quant_layout(DType::kQ5_K);
    static constexpr int kBlocks = 8, kPieces = 8;
    static constexpr bool kMins = true, kSplit = false, kUnsigned = true, kNibbles = false;
    static constexpr int kOffset = 0, kOrder = 0x73625140;
    template <class Scales>
    struct RawOf {
        uint4 q[4], high;
        Scales s;
    };
    using Raw = RawOf<KScales>;
    using LaneRaw = RawOf<KLaneScales>;
    template <class R, class Fetch>
    static __device__ __forceinline__ void fetch(R& r, const unsigned char* group, int lane, Fetch f) {
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
        f(r.high, group + 2048 + lane * 16);
        r.s.fetch(group + kLayout.quant_bytes, lane, f);
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
    template <class R>
    static __device__ __forceinline__ uint2 words(const R& r, int b, int upper) {
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
    static constexpr bool kMins = false, kSplit = true, kUnsigned = true, kNibbles = false;
    static constexpr int kOffset = 32, kOrder = 0x76543210;
    template <class Scales>
    struct RawOf {
        uint4 q[4], high[2];
        Scales s[2];
        uint32_t d;
    };
    using Raw = RawOf<uint4>;
    using LaneRaw = RawOf<uint32_t>;
    template <class R, class Fetch>
    static __device__ __forceinline__ void fetch(R& r, const unsigned char* group, int lane, Fetch f) {
        const unsigned char* scales = group + kLayout.quant_bytes;
#pragma unroll
        for (int b = 0; b < 4; b++) f(r.q[b], group + b * 512 + lane * 16);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            f(r.high[i], group + 2048 + i * 512 + lane * 16);
            f(r.s[i], scales + (lane / 4 + 8 * i) * 16 + (sizeof(r.s[i]) == 4 ? lane % 4 * 4 : 0));
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
    template <class R>
    static __device__ __forceinline__ uint2 words(const R& r, int b, int upper) {
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
    static __device__ __forceinline__ LaneScales<int> lane_scales(const LaneRaw& r, int upper) {
        const auto four = static_cast<int>(r.s[upper]);
        return {{four << 24 >> 24, four << 16 >> 24, four << 8 >> 24, four >> 24}};
    }
    template <class R>
    static __device__ __forceinline__ float group_scale(const R& r, int upper) {
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
