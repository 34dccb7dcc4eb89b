// The sums of decode attention's blocks made one: a block a row and head, in an order that depends on the number of
// splits and the head's size alone.
#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256;

struct Args {  // 48 bytes: what comes with the kernel's first look at them
    const float* partial;
    const float2* stats;
    void* y;
    int n_heads, head_dim, n_splits, y_stride;
    DType y_type;
    bool round_f16, round_bf16;  // of results kept in f32
};
static_assert(sizeof(Args) == 48);

// The weights of the splits, by one warp.
__device__ __forceinline__ void weigh_splits(const float2* stats, int n_splits, float* weights) {
    const int lane = threadIdx.x & 31;
    const float2 none = make_float2(kNoKey, 0.0f);
    const float2 s0 = lane < n_splits ? stats[lane] : none, s1 = lane + 32 < n_splits ? stats[lane + 32] : none;
    const float max = warp_max(fmaxf(s0.x, s1.x));
    const float w0 = s0.x == kNoKey ? 0.0f : exp2_fast(s0.x - max), w1 = s1.x == kNoKey ? 0.0f : exp2_fast(s1.x - max);
    const float total = warp_sum(w0 * s0.y + w1 * s1.y), scale = total > 0 ? 1.0f / total : 0.0f;
    weights[lane] = w0 * scale, weights[lane + 32] = w1 * scale;
}

// kLoads: splits of a thread: way, way + n_ways, …
template <int kLoads>
__global__ void __launch_bounds__(kThreads) combine_kernel(const __grid_constant__ Args a) {
    __shared__ float weights[kMaxSplits];
    __shared__ float4 parts[kThreads];
    grid_dependents();
    const int columns = a.head_dim / 4, n_ways = kThreads / columns, n_splits = a.n_splits;
    const int way = threadIdx.x / columns, column = threadIdx.x % columns;
    const int64_t first = (static_cast<int64_t>(blockIdx.y) * a.n_heads + blockIdx.x) * n_splits;
    const auto* from = reinterpret_cast<const float4*>(a.partial) + first * columns + column;
    grid_wait();
    float4 v[kLoads];  // all of them under way at once
#pragma unroll
    for (int j = 0; j < kLoads; j++) {
        const int split = way + j * n_ways;
        v[j] = way < n_ways && split < n_splits ? from[split * columns] : make_float4(0, 0, 0, 0);
    }
    if (threadIdx.x < 32) weigh_splits(a.stats + first, n_splits, weights);
    __syncthreads();
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < kLoads; j++) {
        const float w = weights[min(way + j * n_ways, kMaxSplits - 1)];
        sum.x = fmaf(w, v[j].x, sum.x), sum.y = fmaf(w, v[j].y, sum.y);
        sum.z = fmaf(w, v[j].z, sum.z), sum.w = fmaf(w, v[j].w, sum.w);
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (static_cast<int>(threadIdx.x) >= a.head_dim) return;
    const int d = threadIdx.x;
    float y = 0;
    for (int w = 0; w < n_ways; w++) y += reinterpret_cast<const float*>(parts + w * columns)[d];
    if (a.round_f16) y = to_float(from_float<half>(y));
    if (a.round_bf16) y = to_float(from_float<bfloat>(y));
    store_as(a.y_type, a.y, static_cast<int64_t>(blockIdx.y) * a.y_stride + blockIdx.x * a.head_dim + d, y);
}

}  // namespace

void attention_combine(const Gpu& gpu, const AttentionSums& sums, DType ring_type, View y) {
    static_assert(kMaxHeadDim <= kThreads && kMaxSplits <= kThreads / (kMaxHeadDim / 4) * 16);
    const bool f32 = y.type == DType::kF32, f16 = ring_type == DType::kF16 || ring_type == DType::kQ8_0;
    const View rows = y.slice(sums.first_row, sums.n_rows);
    const Args a{sums.partial,
                 sums.stats,
                 rows.data,
                 sums.n_heads,
                 sums.head_dim,
                 sums.n_splits,
                 static_cast<int>(y.stride),
                 y.type,
                 f32 && f16,
                 f32 && ring_type == DType::kBF16};
    const int n_ways = kThreads / (sums.head_dim / 4), loads = (sums.n_splits + n_ways - 1) / n_ways;
    const auto kernel = loads <= 2   ? combine_kernel<2>
                        : loads <= 4 ? combine_kernel<4>
                        : loads <= 9 ? combine_kernel<9>
                                     : combine_kernel<16>;
    const dim3 grid(sums.n_heads, sums.n_rows);
    launch(gpu, grid, dim3(kThreads), evenly_spread(gpu, grid, 0), kernel, a);
}

}  // namespace samba::cuda
