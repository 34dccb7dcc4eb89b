// For each head of q and k: norm, rotation; q, k and v rounded to the ring's type. A warp a head; where there is
// nothing but the rotation of 16-bit values, a thread eight pairs.
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

constexpr int kRotateThreads = 256;

template <class T>
__global__ void __launch_bounds__(kRotateThreads) rotate_kernel(const __grid_constant__ Args a, T* qk) {
    grid_dependents();
    grid_wait();
    const int parts = a.rope_half / 8, per_row = (a.n_heads + a.n_kv_heads) * parts;
    const int i = blockIdx.x * kRotateThreads + threadIdx.x, row = i / per_row;
    if (row >= a.n_rows) return;
    const int head = i % per_row / parts, first = i % parts * 8;
    T* x = qk + row * a.stride + head * a.head_dim + first;
    float low[8], high[8], c[8], s[8];
    load8(x, low);
    load8(x + a.rope_half, high);
    load8(a.cos + row * a.rope_stride + first, c);
    load8(a.sin + row * a.rope_stride + first, s);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float v = low[j];
        low[j] = v * c[j] - high[j] * s[j];
        high[j] = high[j] * c[j] + v * s[j];
    }
    store8(x, low);
    store8(x + a.rope_half, high);
}

// Whether rotate_kernel can do it: no norms, no values that are kept in f32, k's columns after those of q.
bool only_rotates(const Args& a, const Qkv& qkv) {
    const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
    const size_t width = static_cast<size_t>(a.n_heads) * a.head_dim * 2;
    return a.q_norm == nullptr && a.k_norm == nullptr && a.rope_half > 0 && a.rope_half % 8 == 0 &&
           qkv.q.type != DType::kF32 && aligned(qkv.q.data) && a.stride % 8 == 0 && a.head_dim % 8 == 0 &&
           aligned(a.cos) && aligned(a.sin) && a.rope_stride % 4 == 0 &&
           static_cast<const char*>(qkv.q.data) + width == qkv.k.data;
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
    a.n_rows = static_cast<int>(qkv.q.rows);
    with_type(qkv.q.type, [&](auto t) {
        using T = decltype(t);
        if (only_rotates(a, qkv)) {
            const int64_t threads = int64_t{a.n_rows} * (a.n_heads + a.n_kv_heads) * (a.rope_half / 8);
            const dim3 blocks(static_cast<unsigned>((threads + kRotateThreads - 1) / kRotateThreads));
            return launch(gpu, blocks, dim3(kRotateThreads), 0, rotate_kernel<T>, a, static_cast<T*>(qkv.q.data));
        }
        const dim3 grid(qkv.q.rows, (w.n_heads + 2 * w.n_kv_heads + kWarps - 1) / kWarps);
        launch(gpu, grid, dim3(kWarps * 32), 0, head_norm_rope_kernel<T>, a, static_cast<T*>(qkv.q.data),
               static_cast<T*>(qkv.k.data), static_cast<T*>(qkv.v.data));
    });
}

}  // namespace samba::cuda
