// Sliding-window attention of a prefill on tensor cores: 16-bit ring, head_dim 64, 128 or 256.
//
// A block takes one head of a tile of queries, 16 rows a warp, and walks over the visible keys in blocks of 64 absolute
// positions, from the window's floor on: keys from before the run lie in the ring, the others in the step. Keys and
// values are copied to shared memory in the background, two blocks deep where there is room; their 16-byte pieces are
// swizzled so that the reads of a matrix hit all banks. Scores and sums are f32, the weights of the product with V
// 16-bit.
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
    int group;
    float scale;
    void* y;
    int64_t y_stride;
    DType y_type;
};

template <class T>
struct Ops;
template <>
struct Ops<half> {
    static __device__ __forceinline__ uint32_t pack(float a, float b) { return pack_f16(a, b); }
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        mma_f16(c, a[0], a[1], a[2], a[3], b0, b1);
    }
};
template <>
struct Ops<bfloat> {
    static __device__ __forceinline__ uint32_t pack(float a, float b) { return pack_bf16(a, b); }
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        mma_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
    }
};

// The 16-byte piece `chunk` of row `row` of a tile in shared memory.
template <int kDim>
__device__ __forceinline__ int swizzled(int row, int chunk) {
    return row * kDim + (chunk ^ (row & 7)) * 8;
}

template <class T, int kDim, int kWarps, int kStages>
struct Shape {
    static constexpr int kThreads = kWarps * 32, kRows = kWarps * 16;
    static constexpr bool kSharedQ = kDim > 128;  // too many for registers
    static constexpr int kTileValues = kKeyBlock * kDim;
    static constexpr size_t kBytes = sizeof(T) * (2 * kStages * kTileValues + (kSharedQ ? kRows * kDim : 0));
};

// Copies blocks of keys and values: of positions from before the run from the ring, of others from the step; zeros
// outside oldest … newest. A thread copies the same piece of every kRowStep-th row.
template <class T, int kDim, int kThreads>
class BlockCopier {
    static constexpr int kChunks = kDim / 8, kRowStep = kThreads / kChunks;
    static_assert(kKeyBlock % kRowStep == 0);

  public:
    __device__ __forceinline__ BlockCopier(const Args& a, const DeviceRun& run, int kv_head, int64_t oldest,
                                           int64_t newest)
        : a_(a), run_(run), kv_head_(kv_head), oldest_(oldest), newest_(newest) {}

    __device__ __forceinline__ void copy(int64_t first, T* keys, T* values) const {
        const int64_t own = first - run_.position;
        const bool whole = first >= oldest_ && first + kKeyBlock - 1 <= newest_;
        if (whole && own >= 0) {
            return copy_rows(((run_.first_row + own + row()) * a_.stride + kv_head_ * kDim) * 2, a_.stride * 2,
                             static_cast<const char*>(a_.k), static_cast<const char*>(a_.v), keys, values);
        }
        const int base = a_.ring.row_of(first), n_rows = static_cast<int>(a_.ring.n_rows);
        if (whole && own + kKeyBlock <= 0 && base + kKeyBlock <= n_rows) {
            return copy_rows(a_.ring.offset(run_.slot, kv_head_, base + row()), a_.ring.row_bytes, a_.ring.k, a_.ring.v,
                             keys, values);
        }
#pragma unroll 1
        for (int r = row(); r < kKeyBlock; r += kRowStep) {
            const int64_t position = first + r;
            const char *k = static_cast<const char*>(a_.k), *v = static_cast<const char*>(a_.v);
            const bool valid = position >= oldest_ && position <= newest_;
            if (valid && own + r >= 0) {
                const int64_t at = ((run_.first_row + own + r) * a_.stride + kv_head_ * kDim) * 2 + chunk() * 16;
                k += at, v += at;
            } else if (valid) {
                const int at = base + r < n_rows ? base + r : (base + r) % n_rows;
                const int64_t offset = a_.ring.offset(run_.slot, kv_head_, at) + chunk() * 16;
                k = a_.ring.k + offset, v = a_.ring.v + offset;
            }
            cp_async<16>(keys + swizzled<kDim>(r, chunk()), k, valid);
            cp_async<16>(values + swizzled<kDim>(r, chunk()), v, valid);
        }
    }

  private:
    static __device__ __forceinline__ int row() { return threadIdx.x / kChunks; }
    static __device__ __forceinline__ int chunk() { return threadIdx.x % kChunks; }
    // offset: of the thread's first row; its rows are row_bytes kRowStep apart.
    __device__ __forceinline__ void copy_rows(int64_t offset, int64_t row_bytes, const char* k, const char* v, T* keys,
                                              T* values) const {
        k += offset + chunk() * 16, v += offset + chunk() * 16;
#pragma unroll
        for (int r = 0; r < kKeyBlock; r += kRowStep) {
            const int to = swizzled<kDim>(row() + r, chunk());
            cp_async<16>(keys + to, k);
            cp_async<16>(values + to, v);
            k += kRowStep * row_bytes, v += kRowStep * row_bytes;
        }
    }

    const Args& a_;
    const DeviceRun& run_;
    int kv_head_;
    int64_t oldest_, newest_;
};

// scores (16 rows, 64 keys) of a warp: 8 tiles of 8 keys.
template <class T, int kDim, bool kSharedQ>
__device__ __forceinline__ void multiply_keys(const T* keys, const uint32_t (*q)[4], const T* shared_q, int lane,
                                              float (&s)[8][4]) {
#pragma unroll
    for (int n = 0; n < 8; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (int step = 0; step < kDim / 16; step++) {
        uint32_t a[4];
        if constexpr (kSharedQ) {
            ldmatrix_x4(a, shared_q + swizzled<kDim>(lane % 16, 2 * step + lane / 16));
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = q[step][i];
        }
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t b[4];
            ldmatrix_x4(b, keys + swizzled<kDim>(pair * 16 + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
            Ops<T>::mma(s[2 * pair], a, b[0], b[1]);
            Ops<T>::mma(s[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

// out (16 rows, kDim) += weights (16, 64) values (64, kDim)
template <class T, int kDim>
__device__ __forceinline__ void multiply_values(const T* values, const float (&p)[8][4], int lane,
                                                float (&out)[kDim / 8][4]) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        const uint32_t a[4] = {
            Ops<T>::pack(p[2 * step][0], p[2 * step][1]), Ops<T>::pack(p[2 * step][2], p[2 * step][3]),
            Ops<T>::pack(p[2 * step + 1][0], p[2 * step + 1][1]), Ops<T>::pack(p[2 * step + 1][2], p[2 * step + 1][3])};
#pragma unroll
        for (int pair = 0; pair < kDim / 16; pair++) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, values + swizzled<kDim>(step * 16 + lane % 16, 2 * pair + lane / 16));
            Ops<T>::mma(out[2 * pair], a, b[0], b[1]);
            Ops<T>::mma(out[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

// The running softmax of a lane's two rows, g and g + 8.
struct Softmax {
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

    // Scores become weights; change: what earlier sums are worth now.
    __device__ __forceinline__ void update(float (&s)[8][4], float scale, float (&change)[2]) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float m = max[r];
#pragma unroll
            for (int n = 0; n < 8; n++) m = fmaxf(m, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
            const float base = m == -INFINITY ? 0.0f : m * scale;
            change[r] = exp2_fast(fmaf(max[r], scale, -base));
            float total = 0;
#pragma unroll
            for (int n = 0; n < 8; n++) {
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    s[n][i] = exp2_fast(fmaf(s[n][i], scale, -base));
                    total += s[n][i];
                }
            }
            sum[r] = fmaf(sum[r], change[r], total);
            max[r] = m;
        }
    }

    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
        }
    }
};

// Scores of keys that a row does not see: back[r] = row's position less the block's first.
__device__ __forceinline__ void mask(float (&s)[8][4], int64_t first_row_back, int lane, int64_t window) {
#pragma unroll
    for (int n = 0; n < 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t back = first_row_back + lane / 4 + (i >= 2 ? 8 : 0) - (n * 8 + 2 * (lane & 3) + (i & 1));
            if (back < 0 || (window != 0 && back >= window)) s[n][i] = -INFINITY;
        }
    }
}

// The warp's 16 rows of q as mma takes them; rows beyond the run's end are clamped.
template <class T, int kDim>
__device__ __forceinline__ void load_queries(const T* q, int64_t stride, int n_rows, int lane, uint32_t (*to)[4]) {
    const T* low = q + min(lane / 4, n_rows - 1) * stride + 2 * (lane & 3);
    const T* high = q + min(lane / 4 + 8, n_rows - 1) * stride + 2 * (lane & 3);
#pragma unroll
    for (int step = 0; step < kDim / 16; step++) {
        to[step][0] = *reinterpret_cast<const uint32_t*>(low + 16 * step);
        to[step][1] = *reinterpret_cast<const uint32_t*>(high + 16 * step);
        to[step][2] = *reinterpret_cast<const uint32_t*>(low + 16 * step + 8);
        to[step][3] = *reinterpret_cast<const uint32_t*>(high + 16 * step + 8);
    }
}

template <int kDim>
__device__ __forceinline__ void store_rows(const Args& a, const float (&out)[kDim / 8][4], const Softmax& softmax,
                                           int64_t row, int column, int n_rows, int lane) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int local = lane / 4 + 8 * r;
        if (local >= n_rows) continue;
        const float scale = 1.0f / softmax.sum[r];
        const int64_t at = (row + local) * a.y_stride + column + 2 * (lane & 3);
#pragma unroll
        for (int n = 0; n < kDim / 8; n++) {
            const float x = out[n][2 * r] * scale, y = out[n][2 * r + 1] * scale;
            if (a.y_type == DType::kBF16) {
                *reinterpret_cast<uint32_t*>(static_cast<bfloat*>(a.y) + at + 8 * n) = pack_bf16(x, y);
            } else {
                store_as(a.y_type, a.y, at + 8 * n, x);
                store_as(a.y_type, a.y, at + 8 * n + 1, y);
            }
        }
    }
}

// kBlocks: of a multiprocessor.
template <class T, int kDim, int kWarps, int kStages, int kBlocks>
__global__ void __launch_bounds__(kWarps * 32, kBlocks) prefill_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = Shape<T, kDim, kWarps, kStages>;
    constexpr int kParts = kTileRows / S::kRows;  // blocks of a tile
    T* keys = dynamic_shared<T>();
    T* values = keys + kStages * S::kTileValues;
    T* shared_q = values + kStages * S::kTileValues;
    const Tile tile = a.tiles[blockIdx.x / kParts];
    const DeviceRun run = a.runs[tile.run];
    const int first_row = tile.first + static_cast<int>(blockIdx.x % kParts) * S::kRows;
    if (first_row >= run.n_rows) return;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32, head = blockIdx.y, kv_head = head / a.group;
    const int n_rows = run.n_rows - first_row - warp * 16;  // of the warp; may be none
    const int64_t position = run.position + first_row;
    const int64_t newest = min(position + S::kRows, run.position + run.n_rows) - 1;
    const int64_t oldest = a.ring.window == 0 ? 0 : max(int64_t{0}, position - a.ring.window + 1);
    const int64_t own_first = position + warp * 16;  // of the warp's rows
    const int64_t own_oldest = a.ring.window == 0 ? 0 : own_first - a.ring.window + 1;

    const T* q = static_cast<const T*>(a.q) + (run.first_row + first_row + warp * 16) * a.stride + head * kDim;
    uint32_t own_q[S::kSharedQ ? 1 : kDim / 16][4];
    T* warp_q = shared_q + warp * 16 * kDim;
    if constexpr (S::kSharedQ) {
        for (int i = lane; i < 16 * kDim / 8; i += 32) {
            const int row = i / (kDim / 8), chunk = i % (kDim / 8);
            cp_async<16>(warp_q + swizzled<kDim>(row, chunk),
                         row < n_rows ? q + row * a.stride + chunk * 8 : q - warp * 16 * a.stride, row < n_rows);
        }
    } else if (n_rows > 0) {
        load_queries<T, kDim>(q, a.stride, n_rows, lane, own_q);
    }
    Softmax softmax;
    float out[kDim / 8][4] = {};
    const int64_t first_block = oldest / kKeyBlock * kKeyBlock;
    const BlockCopier<T, kDim, S::kThreads> copier(a, run, kv_head, oldest, newest);
    const auto place = [&](int64_t block) {
        return kStages == 1 ? 0 : static_cast<int>(block / kKeyBlock & 1) * S::kTileValues;
    };
    const auto copy = [&](int64_t block) {
        if (block <= newest) copier.copy(block, keys + place(block), values + place(block));
    };
    copy(first_block);
    cp_async_commit();
    for (int64_t block = first_block; block <= newest; block += kKeyBlock) {
        if (kStages > 1) copy(block + kKeyBlock);
        cp_async_commit();
        kStages > 1 ? cp_async_wait<1>() : cp_async_wait<0>();
        __syncthreads();
        // Visible to any of the warp's rows.
        if (n_rows > 0 && block <= own_first + 15 && block + kKeyBlock > own_oldest) {
            float s[8][4], change[2];
            multiply_keys<T, kDim, S::kSharedQ>(keys + place(block), own_q, warp_q, lane, s);
            if (block + kKeyBlock - 1 > own_first || block < own_oldest + 15) {
                mask(s, own_first - block, lane, a.ring.window);
            }
            softmax.update(s, a.scale, change);
#pragma unroll
            for (int n = 0; n < kDim / 8; n++) {
                out[n][0] *= change[0], out[n][1] *= change[0], out[n][2] *= change[1], out[n][3] *= change[1];
            }
            multiply_values<T, kDim>(values + place(block), s, lane, out);
        }
        __syncthreads();
        if (kStages == 1) copy(block + kKeyBlock);
    }
    softmax.finish();
    if (n_rows > 0) {
        store_rows<kDim>(a, out, softmax, run.first_row + first_row + warp * 16, head * kDim, n_rows, lane);
    }
}

template <class T, int kDim, int kWarps, int kStages, int kBlocks>
void launch_prefill(const Gpu& gpu, const StepShape& step, const Args& a, int n_heads) {
    using S = Shape<T, kDim, kWarps, kStages>;
    launch(gpu, dim3(step.n_tiles * (kTileRows / S::kRows), n_heads), dim3(S::kThreads), S::kBytes,
           prefill_kernel<T, kDim, kWarps, kStages, kBlocks>, a);
}

template <class T>
void launch_dim(const Gpu& gpu, const StepShape& step, const Args& a, int n_heads, int head_dim) {
    if (head_dim == 64) return launch_prefill<T, 64, 8, 2, 2>(gpu, step, a, n_heads);
    if (head_dim == 128) return launch_prefill<T, 128, 8, 2, 1>(gpu, step, a, n_heads);
    using Large = Shape<T, 256, 8, 2>;
    if (Large::kBytes <= gpu.max_shared) return launch_prefill<T, 256, 8, 2, 1>(gpu, step, a, n_heads);
    launch_prefill<T, 256, 4, 1, 1>(gpu, step, a, n_heads);
}

}  // namespace

void attention_prefill(const Gpu& gpu, const StepShape& step, const Tables& tables, const Qkv& in, const Ring& ring,
                       View y) {
    Args a = {};
    a.runs = tables.now, a.tiles = tables.tiles;
    a.q = in.q.data, a.k = in.k.data, a.v = in.v.data, a.stride = in.q.stride;
    a.ring = ring_args(ring);
    const int n_heads = static_cast<int>(in.q.cols) / ring.head_dim;
    a.group = n_heads / ring.n_kv_heads;
    a.scale = attention_scale(ring.head_dim);
    a.y = y.data, a.y_stride = y.stride, a.y_type = y.type;
    ring.type == DType::kF16 ? launch_dim<half>(gpu, step, a, n_heads, ring.head_dim)
                             : launch_dim<bfloat>(gpu, step, a, n_heads, ring.head_dim);
}

}  // namespace samba::cuda
