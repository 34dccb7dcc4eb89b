// For each head of q and k: norm, rotation; q, k and v rounded to the ring's type. A warp a head.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kWarps = 4;

struct Args {
    const float *q_norm, *k_norm, *cos, *sin;
    float q_eps, k_eps;
    int64_t rope_stride, stride;
    int rope_half, n_heads, n_kv_heads, head_dim, n_rows;
    bool round_f16, round_bf16;  // of values kept in f32
};

__device__ __forceinline__ float rounded(const Args& a, float v) {
    if (a.round_f16) return to_float(from_float<half>(v));
    return a.round_bf16 ? to_float(from_float<bfloat>(v)) : v;
}

template <class T>
__global__ void __launch_bounds__(kWarps * 32) head_norm_rope_kernel(const __grid_constant__ Args a, T* q, T* k, T* v) {
    grid_dependents();
    grid_wait();
    const int lane = threadIdx.x & 31, head = blockIdx.y * kWarps + threadIdx.x / 32;
    const int64_t row = blockIdx.x;
    if (head >= a.n_heads + 2 * a.n_kv_heads) return;
    const bool is_q = head < a.n_heads, is_v = head >= a.n_heads + a.n_kv_heads;
    T* x = is_q   ? q + head * a.head_dim
           : is_v ? v + (head - a.n_heads - a.n_kv_heads) * a.head_dim
                  : k + (head - a.n_heads) * a.head_dim;
    x += row * a.stride;
    const float* norm = is_v ? nullptr : is_q ? a.q_norm : a.k_norm;
    float scale = 1.0f;
    if (norm != nullptr) {
        float sum = 0;
        for (int i = lane; i < a.head_dim; i += 32) sum = fmaf(to_float(x[i]), to_float(x[i]), sum);
        scale = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(a.head_dim) + (is_q ? a.q_eps : a.k_eps));
    }
    auto value = [&](int i) { return norm != nullptr ? to_float(x[i]) * scale * norm[i] : to_float(x[i]); };
    const int half_dim = is_v ? 0 : a.rope_half;
    for (int i = lane; i < half_dim; i += 32) {
        const float c = a.cos[row * a.rope_stride + i], s = a.sin[row * a.rope_stride + i];
        const float first = value(i), second = value(i + half_dim);
        x[i] = from_float<T>(rounded(a, first * c - second * s));
        x[i + half_dim] = from_float<T>(rounded(a, second * c + first * s));
    }
    for (int i = 2 * half_dim + lane; i < a.head_dim; i += 32) x[i] = from_float<T>(rounded(a, value(i)));
}

}  // namespace

void head_norm_rope(const Gpu& gpu, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv) {
    Args a = {};
    if (!w.q_norm.weight.empty()) a.q_norm = w.q_norm.weight.f32(), a.q_eps = w.q_norm.eps;
    if (!w.k_norm.weight.empty()) a.k_norm = w.k_norm.weight.f32(), a.k_eps = w.k_norm.eps;
    if (rope != nullptr) {
        a.cos = rope->cos.f32(), a.sin = rope->sin.f32();
        a.rope_stride = rope->cos.stride, a.rope_half = rope->dim / 2;
    }
    a.stride = qkv.q.stride;
    a.n_heads = w.n_heads, a.n_kv_heads = w.n_kv_heads, a.head_dim = w.head_dim;
    a.round_f16 = qkv.q.type == DType::kF32 && (type == DType::kF16 || type == DType::kQ8_0);
    a.round_bf16 = qkv.q.type == DType::kF32 && type == DType::kBF16;
    with_type(qkv.q.type, [&](auto t) {
        using T = decltype(t);
        const dim3 grid(qkv.q.rows, (w.n_heads + 2 * w.n_kv_heads + kWarps - 1) / kWarps);
        launch(gpu, grid, dim3(kWarps * 32), 0, head_norm_rope_kernel<T>, a, static_cast<T*>(qkv.q.data),
               static_cast<T*>(qkv.k.data), static_cast<T*>(qkv.v.data));
    });
}

}  // namespace samba::cuda
