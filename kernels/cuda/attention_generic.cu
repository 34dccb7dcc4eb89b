// Prefill attention by FMA in f32, for what the tensor-core path does not take: f32 and q8_0 rings, any head_dim. And
// the ring's update after a prefill.
#include "kernels/cuda/attention_core.cuh"
#include "kernels/cuda/launch.cuh"

namespace samba::cuda {
namespace {

struct Args {
    const DeviceRun* runs;
    const Tile* tiles;
    const void *q, *k, *v;
    int64_t stride;  // of q, k and v
    RingArgs ring;
    int n_heads, group, head_dim;
    bool one_buffer, round_f16, round_bf16;
    float scale;
    void* y;
    int64_t y_stride;
    DType y_type;
};

// Keys or values of positions first … first + 63 to shared memory: from the ring what came before the run, the others
// from the step. Rows outside oldest … newest become zeros.
template <class R, class Q>
__device__ void load_positions(const Args& a, const DeviceRun& run, int kv_head, int64_t first, int64_t oldest,
                               int64_t newest, const void* own, const char* ring, typename R::Value* to, int stride) {
    const int parts = a.head_dim / 8;
    for (int i = threadIdx.x; i < kKeyBlock * parts; i += kCoreThreads) {
        const int row = i / parts, column = i % parts * 8;
        const int64_t position = first + row;
        auto* out = to + row * stride + column;
        if (position < oldest || position > newest) {
#pragma unroll
            for (int j = 0; j < 8; j++) out[j] = from_float<typename R::Value>(0.0f);
        } else if (position >= run.position) {
            const int64_t own_row = run.first_row + (position - run.position);
            R::store(static_cast<const Q*>(own) + own_row * a.stride + kv_head * a.head_dim, column,
                     static_cast<char*>(nullptr), out);
        } else {
            R::load(ring + a.ring.offset(run.slot, kv_head, a.ring.row_of(position)), column, out);
        }
    }
}

constexpr int kParts = kTileRows / kCoreQueries;  // blocks of a tile

template <class R, class Q, int kDims>
__global__ void __launch_bounds__(kCoreThreads) generic_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = typename R::Value;
    const AttentionShared<S> s(dynamic_shared(), a.head_dim, a.one_buffer);
    const Tile tile = a.tiles[blockIdx.x / kParts];
    const DeviceRun run = a.runs[tile.run];
    const int head = blockIdx.y, kv_head = head / a.group;
    const int first_row = tile.first + static_cast<int>(blockIdx.x % kParts) * kCoreQueries;
    if (first_row >= run.n_rows) return;
    const int n_queries = min(kCoreQueries, run.n_rows - first_row);
    for (int i = threadIdx.x; i < kCoreQueries * a.head_dim; i += kCoreThreads) {
        const int64_t row = run.first_row + first_row + min(i / a.head_dim, n_queries - 1);
        s.q[i] = to_float(static_cast<const Q*>(a.q)[row * a.stride + head * a.head_dim + i % a.head_dim]);
    }
    if (threadIdx.x < kCoreQueries) s.max[threadIdx.x] = kNoKey, s.sum[threadIdx.x] = 0.0f;
    float acc[kDims][8] = {};
    const int64_t first_query = run.position + first_row, newest = first_query + n_queries - 1;
    const int64_t oldest = a.ring.window == 0 ? 0 : max(int64_t{0}, first_query - a.ring.window + 1);
    for (int64_t block = oldest / kKeyBlock * kKeyBlock; block <= newest; block += kKeyBlock) {
        __syncthreads();
        load_positions<R, Q>(a, run, kv_head, block, oldest, newest, a.k, a.ring.k, s.k, s.stride);
        if (!a.one_buffer) load_positions<R, Q>(a, run, kv_head, block, oldest, newest, a.v, a.ring.v, s.v, s.stride);
        __syncthreads();
        attention_scores(s, a.head_dim, a.scale, [&](int q, int key) {
            const int64_t back = first_query + q - (block + key);
            return back >= 0 && (a.ring.window == 0 || back < a.ring.window);
        });
        __syncthreads();
        if (a.one_buffer) load_positions<R, Q>(a, run, kv_head, block, oldest, newest, a.v, a.ring.v, s.v, s.stride);
        attention_soften(s);
        __syncthreads();
        attention_weigh<S, kDims>(s, a.head_dim, acc);
    }
    for (int q = 0; q < n_queries; q++) {
#pragma unroll
        for (int i = 0; i < kDims; i++) {
            const int d = threadIdx.x + kCoreThreads * i;
            if (d >= a.head_dim) continue;
            float v = acc[i][q] / s.sum[q];
            if (a.round_f16) v = to_float(from_float<half>(v));
            if (a.round_bf16) v = to_float(from_float<bfloat>(v));
            store_as(a.y_type, a.y, (run.first_row + first_row + q) * a.y_stride + head * a.head_dim + d, v);
        }
    }
}

// Rows of the run that no later row of it overwrites, into the ring.
template <class R, class Q>
__global__ void __launch_bounds__(kCoreThreads) append_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const Tile tile = a.tiles[blockIdx.x];
    const DeviceRun run = a.runs[tile.run];
    const int kv_head = blockIdx.y, parts = a.head_dim / 8;
    for (int i = threadIdx.x; i < kTileRows * parts; i += kCoreThreads) {
        const int row = tile.first + i / parts, column = i % parts * 8;
        if (row >= run.n_rows || row < run.n_rows - a.ring.n_rows) continue;
        const int64_t own = (run.first_row + row) * a.stride + kv_head * a.head_dim;
        const int64_t at = a.ring.offset(run.slot, kv_head, a.ring.row_of(run.position + row));
        alignas(16) typename R::Value unused[8];
        R::store(static_cast<const Q*>(a.k) + own, column, a.ring.k + at, unused);
        R::store(static_cast<const Q*>(a.v) + own, column, a.ring.v + at, unused);
    }
}

Args args_of(const Tables& tables, const Qkv& in, const Ring& ring, View y) {
    Args a = {};
    a.runs = tables.now, a.tiles = tables.tiles;
    a.q = in.q.data, a.k = in.k.data, a.v = in.v.data, a.stride = in.q.stride;
    a.ring = ring_args(ring);
    a.head_dim = ring.head_dim;
    a.n_heads = static_cast<int>(in.q.cols) / ring.head_dim;
    a.group = a.n_heads / ring.n_kv_heads;
    a.scale = attention_scale(ring.head_dim);
    a.y = y.data, a.y_stride = y.stride, a.y_type = y.type;
    const bool f32 = y.type == DType::kF32;
    a.round_f16 = f32 && (ring.type == DType::kF16 || ring.type == DType::kQ8_0);
    a.round_bf16 = f32 && ring.type == DType::kBF16;
    return a;
}

}  // namespace

void attention_generic(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring,
                       View y) {
    Args a = args_of(tables, in, ring, y);
    with_ring(ring.type, [&](auto format) {
        using R = decltype(format);
        using S = AttentionShared<typename R::Value>;
        a.one_buffer = S::bytes(a.head_dim, false) > kPortableShared;
        with_type(in.q.type, [&](auto t) {
            using Q = decltype(t);
            const auto kernel = a.head_dim <= kCoreThreads ? generic_kernel<R, Q, 1> : generic_kernel<R, Q, 2>;
            launch(gpu, dim3(step.n_tiles * kParts, a.n_heads), dim3(kCoreThreads), S::bytes(a.head_dim, a.one_buffer),
                   kernel, a);
        });
    });
}

void append_to_ring(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring) {
    const Args a = args_of(tables, in, ring, View());
    with_ring(ring.type, [&](auto format) {
        with_type(in.q.type, [&](auto t) {
            launch(gpu, dim3(step.n_tiles, ring.n_kv_heads), dim3(kCoreThreads), 0,
                   append_kernel<decltype(format), decltype(t)>, a);
        });
    });
}

}  // namespace samba::cuda
