// The sums of decode attention's blocks made one: a block a row and head, in an order that depends on the number of
// splits and the head's size alone.
#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 256;

struct Args {  // at most 48 bytes: what comes with the kernel's first look at them
    const float* partial;
    const float2* stats;
    void* y;
    int n_heads, y_stride;
    uint32_t columns_inverse;
    uint16_t head_dim;
    uint8_t n_splits, n_ways, y_type;
    bool round_f16, round_bf16;  // of results kept in f32
};
static_assert(sizeof(Args) <= 48);

// The weights of the splits, by one warp; s0, s1: maximum and sum of the lane's, none beyond the last one.
__device__ __forceinline__ void weigh_splits(const float2& s0, const float2& s1, float* weights) {
    const int lane = threadIdx.x & 31;
    const float max = warp_max(fmaxf(s0.x, s1.x));
    const float w0 = s0.x == kNoKey ? 0.0f : exp2_fast(s0.x - max), w1 = s1.x == kNoKey ? 0.0f : exp2_fast(s1.x - max);
    const float total = warp_sum(w0 * s0.y + w1 * s1.y), scale = total > 0 ? __fdividef(1.0f, total) : 0.0f;
    weights[lane] = w0 * scale, weights[lane + 32] = w1 * scale;
}

// kLoads: splits of a thread: way, way + n_ways, …
template <int kLoads>
__global__ void __launch_bounds__(kThreads) combine_kernel(const __grid_constant__ Args a) {
    __shared__ float weights[kMaxSplits];
    __shared__ float4 parts[kThreads];
    grid_dependents();
    const int columns = a.head_dim / 4, n_ways = a.n_ways, n_splits = a.n_splits;
    const int way = quotient(threadIdx.x, a.columns_inverse), column = threadIdx.x - way * columns;
    const int64_t first = (static_cast<int64_t>(blockIdx.y) * a.n_heads + blockIdx.x) * n_splits;
    const auto* from = reinterpret_cast<const float4*>(a.partial) + first * columns + way * columns + column;
    const float2* stats = a.stats + first + (threadIdx.x & 31);
    int left = way < n_ways ? n_splits - way : 0, step = n_ways * columns;  // of the thread's splits, to the next one
    int weighed = threadIdx.x < 32 ? n_splits - static_cast<int>(threadIdx.x) : 0;  // by the lane, and after it
    keep(left), keep(step), keep(weighed);
    if (gridDim.y == 1) {  // so that both are computed now; of many rows it is much to fetch
        if (left > 0) touch(from);
        if (weighed > 0) touch(stats);
    }
    grid_wait();
    float2 s0 = make_float2(kNoKey, 0.0f), s1 = s0;
    if (weighed > 0) s0 = __ldcg(stats);
    if (weighed > 32) s1 = __ldcg(stats + 32);
    float4 v[kLoads];  // all of them under way at once
#pragma unroll
    for (int j = 0; j < kLoads; j++) {
        v[j] = j * n_ways < left ? __ldcg(from + j * step) : make_float4(0, 0, 0, 0);
    }
    if (threadIdx.x < 32) weigh_splits(s0, s1, weights);
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
    store_as(static_cast<DType>(a.y_type), a.y,
             static_cast<int64_t>(blockIdx.y) * a.y_stride + blockIdx.x * a.head_dim + d, y);
}

}  // namespace

void attention_combine(const Gpu& gpu, const AttentionSums& sums, DType ring_type, View y) {
    static_assert(kMaxHeadDim <= kThreads && kMaxSplits <= kThreads / (kMaxHeadDim / 4) * 16);
    const bool f32 = y.type == DType::kF32, f16 = ring_type == DType::kF16 || ring_type == DType::kQ8_0;
    const View rows = y.slice(sums.first_row, sums.n_rows);
    const int columns = sums.head_dim / 4, n_ways = kThreads / columns, loads = (sums.n_splits + n_ways - 1) / n_ways;
    const Args a{sums.partial,
                 sums.stats,
                 rows.data,
                 sums.n_heads,
                 static_cast<int>(y.stride),
                 inverse_of(columns),
                 static_cast<uint16_t>(sums.head_dim),
                 static_cast<uint8_t>(sums.n_splits),
                 static_cast<uint8_t>(n_ways),
                 static_cast<uint8_t>(y.type),
                 f32 && f16,
                 f32 && ring_type == DType::kBF16};
    const auto kernel = loads <= 2   ? combine_kernel<2>
                        : loads <= 4 ? combine_kernel<4>
                        : loads <= 9 ? combine_kernel<9>
                                     : combine_kernel<16>;
    const dim3 grid(sums.n_heads, sums.n_rows);
    launch(gpu, grid, dim3(kThreads), evenly_spread(gpu, grid, 0), kernel, a);
}

}  // namespace samba::cuda
