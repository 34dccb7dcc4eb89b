// Conversions between f32 and the 16-bit types, alone and eight at a time.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/error.h"

namespace samba::cuda {

inline constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

using half = __half;
using bfloat = __nv_bfloat16;

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(half v) { return __half2float(v); }
__device__ __forceinline__ float to_float(bfloat v) { return __bfloat162float(v); }

template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
    return v;
}
template <>
__device__ __forceinline__ half from_float<half>(float v) {
    return __float2half_rn(v);
}
template <>
__device__ __forceinline__ bfloat from_float<bfloat>(float v) {
    return __float2bfloat16_rn(v);
}

// The words of two bf16, of two f16.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float2 floats_of_f16(uint32_t pair) {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}
__device__ __forceinline__ float low_f16(uint32_t pair) { return floats_of_f16(pair).x; }
__device__ __forceinline__ float high_f16(uint32_t pair) { return floats_of_f16(pair).y; }

// Eight neighbouring values; the address is a multiple of 16 bytes.
__device__ __forceinline__ void load8(const float* p, float (&v)[8]) {
    const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ __forceinline__ void load8(const bfloat* p, float (&v)[8]) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const uint32_t w[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) v[2 * i] = low_bf16(w[i]), v[2 * i + 1] = high_bf16(w[i]);
}
__device__ __forceinline__ void load8(const half* p, float (&v)[8]) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const uint32_t w[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 f = floats_of_f16(w[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
}
__device__ __forceinline__ void store8(float* p, const float (&v)[8]) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store8(bfloat* p, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}
__device__ __forceinline__ void store8(half* p, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(p) =
        make_uint4(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]), pack_f16(v[4], v[5]), pack_f16(v[6], v[7]));
}

// Writes a value to an array whose type is known at run time.
__device__ __forceinline__ void store_as(DType type, void* base, int64_t i, float v) {
    if (type == DType::kF32) {
        static_cast<float*>(base)[i] = v;
    } else if (type == DType::kBF16) {
        static_cast<bfloat*>(base)[i] = from_float<bfloat>(v);
    } else {
        static_cast<half*>(base)[i] = from_float<half>(v);
    }
}
__device__ __forceinline__ float load_as(DType type, const void* base, int64_t i) {
    if (type == DType::kF32) return static_cast<const float*>(base)[i];
    if (type == DType::kBF16) return to_float(static_cast<const bfloat*>(base)[i]);
    return to_float(static_cast<const half*>(base)[i]);
}

// silu(x) = x / (1 + exp(-x)), the division to two units in the last place
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

// Sum and maximum over the 32 lanes, the same order in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

// Calls f with a value of the C++ type that `type` names.
template <class F>
void with_type(DType type, F&& f) {
    switch (type) {
        case DType::kF32:
            return f(float{});
        case DType::kF16:
            return f(half{});
        case DType::kBF16:
            return f(bfloat{});
        default:
            throw Error(std::string("cuda: activations cannot have the type ") + info(type).name);
    }
}

}  // namespace samba::cuda
