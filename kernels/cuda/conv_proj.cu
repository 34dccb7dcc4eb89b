// u = silu(conv(u)), in place, and dbc = W_x u of a few rows (decode), in one kernel: W_x has few rows, so that its
// product alone would keep ten blocks busy, each with all of the columns; here every block has some columns of all of
// the rows.
//
// One cluster of up to 16 blocks for eight rows. A block owns a slice of channels: it brings its columns of W_x to
// shared memory while the kernel before ends, convolves its channels (nobody else reads or writes them) and keeps the
// rounded values as the activations of its product. A warp multiplies a tile of 16 rows of W_x with the block's columns
// and sends the sums to the block of the cluster that adds up this tile, in the order of the slices. A block reads
// nothing of another's shared memory, and ends when all that is sent to it has come: so none needs to wait until the
// others have ended.
//
// A row's bits do not depend on the others: see matvec.cuh; slices are the same for any number of rows.
#include <type_traits>

#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/early_run.cuh"
#include "kernels/cuda/matvec_int8.cuh"
#include "kernels/cuda/matvec_rows.cuh"
#include "kernels/cuda/planes.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kWidth = kConvProjWidth, kBefore = kWidth - 1;
constexpr int kTileSums = kTile * kConvProjRows;
constexpr int kMostBlocks = 2 * kPortableCluster;
using Bf16 = Bf16Product<kConvProjRows>;
constexpr size_t kStatic = 1 << 10;  // of shared memory: what the kernel declares itself

struct Args {
    DeviceWeight w;
    int n_groups, n_tiles, size_bits;            // the cluster has 1 << size_bits blocks
    int values_at, received_at, activations_at;  // in shared memory, behind the weights
    int value_stride;
    const DeviceRun* runs;
    int n_runs, n_rows;
    PlaneState state;
    bfloat* u;
    int64_t u_stride;
    void* y;
    int64_t y_stride;
    DType y_type;
    const float* bias;  // or null
    // Asked for first, and in the same 64 bytes as what is wanted last, which come with it.
    const float *taps, *conv_bias;  // conv_bias: or null
};

// The rows of a cluster.
struct Rows {
    int first, n;
};

// Of a group of weights in shared memory.
template <class P>
inline constexpr int kSharedBytes = place_bytes<P>(true);

// A block's columns of W_x.
template <class P>
struct Slice {
    int first_group, n_groups, first, n_columns;

    __device__ __forceinline__ Slice(const Args& a, int rank)
        : first_group(rank * a.n_groups >> a.size_bits),
          n_groups(((rank + 1) * a.n_groups >> a.size_bits) - first_group),
          first(first_group * P::kColumns),
          n_columns(max(min(n_groups * P::kColumns, a.w.cols - first), 0)) {}

    // Where a tile's first group lies.
    __device__ __forceinline__ unsigned char* tile(unsigned char* shared, int tile) const {
        return shared + tile * n_groups * kSharedBytes<P>;
    }
    // A warp copies the tiles that it will multiply itself; where they do not lie in whole groups, a lane its share.
    __device__ __forceinline__ void fetch(const Args& a, unsigned char* shared, uint64_t* of_warp) const {
        const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
        if constexpr (P::kBulk) {
            if (lane != 0) return;
            const int n = (a.n_tiles - warp + kWarps - 1) / kWarps, bytes = n_groups * P::kBytes;
            init_copies(of_warp);
            arrive_and_expect(of_warp, n * bytes);
#pragma unroll 1
            for (int t = warp; t < a.n_tiles && bytes > 0; t += kWarps) {
                copy_bulk<false>(tile(shared, t), P::source(a.w, a.n_groups, t, first_group), bytes, of_warp);
            }
        } else {
#pragma unroll 1
            for (int t = warp; t < a.n_tiles; t += kWarps) {
                unsigned char* to = tile(shared, t) + lane * 16;
#pragma unroll 1
                for (int g = 0; g < n_groups; g++, to += kSharedBytes<P>) {
                    typename P::Raw none;
                    P::fetch(none, P::source(a.w, a.n_groups, t, first_group + g), ToShared{to});
                }
            }
            cp_async_commit();
        }
    }
    __device__ __forceinline__ void wait(uint64_t* of_warp) const {
        if constexpr (P::kBulk) {
            __syncwarp();
            wait_for_copies(of_warp, 0);
        } else {
            cp_async_wait<0>();
        }
    }
    static __device__ __forceinline__ void load(typename P::Raw& raw, const unsigned char* group) {
        const int lane = threadIdx.x & 31;
        if constexpr (P::kBulk) {
            P::load(raw, group, lane);
        } else {
            P::fetch(raw, typename P::Source(), FromShared{group + lane * 16});
        }
    }
};

// What is constant of a channel.
struct Channel {
    float taps[kWidth], bias;

    __device__ __forceinline__ Channel(const Args& a, int c, bool there) {
        if (!there) return;
        const float4 v = *reinterpret_cast<const float4*>(a.taps + kWidth * c);
        taps[0] = v.x, taps[1] = v.y, taps[2] = v.z, taps[3] = v.w;
        bias = a.conv_bias != nullptr ? a.conv_bias[c] : 0.0f;
    }
};

// Where in the planes a row's state before it is, or kNone where the row before it belongs to the same run; where the
// state after it goes, or kNone where no plane keeps it.
constexpr int64_t kNone = -1;
struct RowPlanes {
    int64_t from, to;
};
__device__ __forceinline__ void find_planes(const Args& a, const Rows& rows, RowPlanes* planes) {
    if (threadIdx.x >= a.n_runs) return;
    const DeviceRun run = a.runs[threadIdx.x];
    int64_t from = plane_after(a.state, run.slot, run.position - 1) - a.state.base;
    for (int t = 0; t < run.n_rows; t++, from = kNone) {
        const bool kept = t >= run.n_rows - a.state.n_planes;
        const int64_t to = plane_after(a.state, run.slot, run.position + t) - a.state.base;
        const int row = run.first_row + t - rows.first;
        if (row >= 0 && row < rows.n) planes[row] = {from, kept ? to : kNone};
    }
}

// The convolution of channel c over the rows, whose loads are all under way before the first is used; `value`: the
// channel's place in the activations.
template <int kRows>
__device__ __forceinline__ void convolve(const Args& a, const Rows& rows, const RowPlanes* planes,
                                         const Channel& channel, int c, bfloat* value) {
    bfloat raw[kRows], *u = a.u + rows.first * a.u_stride + c;
    ConvWindow<kWidth> before[kRows], window;
#pragma unroll
    for (int r = 0; r < kRows; r++) {
        if (r >= rows.n) break;
        raw[r] = u[r * a.u_stride];
        if (planes[r].from != kNone) before[r].load(a.state.base + planes[r].from + c * kBefore, kBefore, 1);
    }
#pragma unroll
    for (int r = 0; r < kRows; r++) {
        if (r >= rows.n) break;
        if (planes[r].from != kNone) window = before[r];
        const auto v = from_float<bfloat>(window.step(channel.taps, channel.bias, kBefore, to_float(raw[r])));
        u[r * a.u_stride] = v;
        value[r * a.value_stride] = v;
        if (planes[r].to != kNone) window.store(a.state.base + planes[r].to + c * kBefore, kBefore);
    }
}

// The slice's values as a product reads them: a matvec's activations, of fewer columns.
__device__ __forceinline__ MatvecArgs slice_args(const Args& a, int n_rows, int n_columns, unsigned char* shared) {
    MatvecArgs own = {};
    own.w.cols = n_columns;
    own.n_rows = n_rows;
    own.x = shared + a.values_at;
    own.x_stride = a.value_stride;
    return own;
}

// A tile's rows times the slice. An mma waits for the sums of the one before it: where it is most of the work, groups
// take turns on two sums.
template <class P>
__device__ __forceinline__ void multiply(const Slice<P>& slice, const typename P::Activations& x,
                                         const unsigned char* weights, float (&sum)[4]) {
    constexpr int kChains = std::is_base_of_v<RowsProduct<kConvProjRows>, P> ? 2 : 1;
    typename P::Sum sums[kChains] = {};
    const auto add = [&](int group, typename P::Sum& to) {
        typename P::Raw raw;
        slice.load(raw, weights + group * kSharedBytes<P>);
        P::add(raw, x, P::columns(x, group), group, to);
    };
    int group = 0;
#pragma unroll 1
    for (; group + kChains <= slice.n_groups; group += kChains) {
#pragma unroll
        for (int i = 0; i < kChains; i++) add(group + i, sums[i]);
    }
    if constexpr (kChains > 1) {
        if (group < slice.n_groups) add(group, sums[0]);
    }
    float of_chain[1][4];
    P::total(sums[0], of_chain);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = of_chain[0][i];
    if constexpr (kChains > 1) {
        P::total(sums[1], of_chain);
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] += of_chain[0][i];
    }
}

// The block's tiles of dbc. received (tile of the block, slice, 32 lanes, 4): the sums as an mma leaves them.
__device__ __forceinline__ void write_sums(const Args& a, const Rows& rows, int rank, int n_slots,
                                           const float* received) {
    const int size = 1 << a.size_bits;
#pragma unroll 1
    for (int o = threadIdx.x; o < n_slots * kTileSums; o += kThreads) {
        const int slot = o / kTileSums, lane = o / 4 % 32, row = lane / 4 + o % 4 / 2 * 8, r = lane % 4 * 2 + o % 2;
        const int n = ((slot << a.size_bits) + rank) * kTile + row;
        if (r >= rows.n || n >= a.w.rows) continue;
        const float* from = received + slot * size * kTileSums + o % kTileSums;
        float v = 0;
#pragma unroll
        for (int s = 0; s < kMostBlocks; s++) v += s < size ? from[s * kTileSums] : 0.0f;
        store_as(a.y_type, a.y, (rows.first + r) * a.y_stride + n, a.bias != nullptr ? v + a.bias[n] : v);
    }
}

// A thread's channel of a single row. Everything that is there before the kernel's wait is read and made before it, and
// what nobody in the block waits for is written at the end.
struct OneChannel {
    int c;
    bool there;
    bfloat *u, v;
    float* plane;
    ConvWindow<kWidth> window = {};

    // The kernel's wait is in here: between what is there before and u.
    template <class P>
    __device__ __forceinline__ OneChannel(const Args& a, const Slice<P>& slice)
        : c(slice.first + threadIdx.x), there(static_cast<int>(threadIdx.x) < slice.n_columns) {
        const DeviceRun early = load_run(a.runs);
        const Channel channel(a, c, there);
        u = a.u + (there ? c : 0);
        find(a, early);
        touch(u), touch(plane);
        grid_wait();
        const float now = to_float(*u);
        const DeviceRun run = load_run(a.runs);
        if (!same_place(run, early)) find(a, run);
        v = from_float<bfloat>(there ? window.step(channel.taps, channel.bias, kBefore, now) : 0.0f);
    }
    __device__ __forceinline__ void store() const {
        if (!there) return;
        *u = v;
        window.store(plane, kBefore);
    }

  private:
    // The state that the convolution reads, past L1, and where it goes.
    __device__ __forceinline__ void find(const Args& a, const DeviceRun& run) {
        const int at = there ? c * kBefore : 0;
        const float* from = plane_after(a.state, run.slot, run.position - 1) + at;
#pragma unroll
        for (int j = 0; j < kBefore; j++) window.v[j] = __ldcg(from + j);
        plane = plane_after(a.state, run.slot, run.position) + at;
    }
};

// A single row's values become the product's activations where they are: of 8-bit ones a warp makes a block.
template <class P>
__device__ __forceinline__ void put_one(const Args& a, const Rows& rows, const Slice<P>& slice, const OneChannel& one,
                                        RowPlanes* planes, bfloat* values, const MatvecArgs& own,
                                        typename P::Activations& x) {
    const int n_blocks = slice.n_groups * P::kColumns / 32, block = threadIdx.x / 32, column = threadIdx.x & 31;
    if constexpr (P::Activations::kAlwaysStaged) {
        if (n_blocks <= kWarps) {
            if (block < n_blocks) x.put_column(block, column, to_float(one.v));
            return __syncthreads();
        }
    }
    if (one.there) values[threadIdx.x] = one.v;
    if (slice.n_columns > kThreads) {
        find_planes(a, rows, planes);
        __syncthreads();
#pragma unroll 1
        for (int c = threadIdx.x + kThreads; c < slice.n_columns; c += kThreads) {
            convolve<1>(a, rows, planes, Channel(a, slice.first + c, true), slice.first + c, values + c);
        }
    }
    __syncthreads();
    x.bring_plain(own);
}

template <class P, int kRows>
__global__ void __launch_bounds__(kThreads, 1) conv_proj_kernel(const __grid_constant__ Args a) {
    if (!kNine) return;
    __shared__ RowPlanes planes[kConvProjRows];
    __shared__ uint64_t counter, of_warps[kWarps];
    grid_dependents();
    const int size = 1 << a.size_bits, rank = blockIdx.x & (size - 1), lane = threadIdx.x & 31;
    const int first = kRows == 1 ? 0 : (blockIdx.x >> a.size_bits) * kRows;
    const Rows rows = {first, kRows == 1 ? 1 : min(a.n_rows - first, kRows)};
    const int n_slots = (a.n_tiles - rank + size - 1) >> a.size_bits;
    // A lane has the sums of rows 2t and 2t + 1, t = lane mod 4.
    const bool sends = 2 * (lane & 3) < rows.n;
    if (threadIdx.x == 0) expect_bytes(&counter, n_slots * size * 8 * ((rows.n + 1) / 2) * sizeof(float4));
    cluster_arrive();
    unsigned char* shared = dynamic_shared();
    auto* values = reinterpret_cast<bfloat*>(shared + a.values_at);
    auto* received = reinterpret_cast<float*>(shared + a.received_at);
    const Slice<P> slice(a, rank);
    uint64_t* of_warp = of_warps + threadIdx.x / 32;
    slice.fetch(a, shared, of_warp);
    const auto multiply_tiles = [&](const typename P::Activations& x) {
        slice.wait(of_warp);
        cluster_wait();
#pragma unroll 1
        for (int tile = threadIdx.x / 32; tile < a.n_tiles; tile += kWarps) {
            float sum[4];
            multiply<P>(slice, x, slice.tile(shared, tile), sum);
            const int slot = tile >> a.size_bits;
            if (sends) send(tile & (size - 1), received + (slot * size + rank) * kTileSums + lane * 4, &counter, sum);
        }
    };
    const MatvecArgs own = slice_args(a, rows.n, slice.n_columns, shared);
    if constexpr (kRows == 1) {
        typename P::Activations x(own, shared + a.activations_at);
        const OneChannel one(a, slice);
        put_one<P>(a, rows, slice, one, planes, values, own, x);
        multiply_tiles(x);
        one.store();
    } else {
        int c = threadIdx.x;
        Channel channel(a, slice.first + c, c < slice.n_columns);
        grid_wait();
        find_planes(a, rows, planes);
        __syncthreads();
#pragma unroll 1
        for (; c < slice.n_columns; c += kThreads) {
            if (c >= kThreads) channel = Channel(a, slice.first + c, true);
            convolve<kRows>(a, rows, planes, channel, slice.first + c, values + c);
        }
        __syncthreads();
        typename P::Activations x(own, shared + a.activations_at);
        x.bring_plain(own);
        multiply_tiles(x);
    }
    wait_for_bytes(&counter);
    write_sums(a, rows, rank, n_slots, received);
}

// Clusters of the fewest blocks that have a group each, or of as many as the device can launch.
template <class One, class Few>
bool start(const Gpu& gpu, Args a) {
    a.n_groups = (a.w.cols + One::kColumns - 1) / One::kColumns;
    a.n_tiles = (a.w.rows + kTile - 1) / kTile;
    while (1 << a.size_bits < std::min(a.n_groups, gpu.max_cluster)) a.size_bits++;
    const int size = 1 << a.size_bits, groups = (a.n_groups + size - 1) / size, columns = groups * One::kColumns;
    a.value_stride = Bf16::Activations::stride(columns);
    const size_t weights = static_cast<size_t>(a.n_tiles) * groups * kSharedBytes<One>;
    const size_t values = Bf16::Activations::bytes(columns, kConvProjRows);
    const size_t received = static_cast<size_t>((a.n_tiles + size - 1) / size * size) * kTileSums * sizeof(float);
    const size_t staged = Few::Activations::kAlwaysStaged ? Few::Activations::bytes(columns, kConvProjRows) : 0;
    const size_t shared = weights + values + received + staged;  // room for all rows: see kernels.h
    if (gpu.max_cluster == 0 || shared + kStatic > gpu.max_shared) return false;
    a.values_at = static_cast<int>(weights);
    a.received_at = static_cast<int>(weights + values);
    a.activations_at = static_cast<int>(weights + values + received);
    const auto kernel = a.n_rows == 1 ? conv_proj_kernel<One, 1> : conv_proj_kernel<Few, kConvProjRows>;
    const int clusters = (a.n_rows + kConvProjRows - 1) / kConvProjRows;
    launch_clusters(gpu, size, dim3(size * clusters), dim3(kThreads), shared, kernel, a);
    return true;
}
template <class F>
bool start_int8(const Gpu& gpu, const Args& a) {
    return start<Int8RowProduct<F>, Int8Product<F, kConvProjRows>>(gpu, a);
}

}  // namespace

bool conv_proj(const Gpu& gpu, const StepShape& step, const Tables& tables, View u, const Conv& conv,
               const Weight& x_proj, PlaneState state, View dbc) {
    Args a = {};
    a.w = device_weight(x_proj, 0);
    a.runs = tables.now, a.n_runs = step.n_runs, a.n_rows = step.n_rows;
    a.taps = conv.taps.f32(), a.conv_bias = conv.bias();
    a.state = state;
    a.u = static_cast<bfloat*>(u.data), a.u_stride = u.stride;
    a.y = dbc.data, a.y_stride = dbc.stride, a.y_type = dbc.type;
    a.bias = x_proj.bias;
    switch (x_proj.parts.front().type) {
        case DType::kBF16:
            return start<Bf16, Bf16>(gpu, a);
        case DType::kF16:
            return start<F16Product<kConvProjRows>, F16Product<kConvProjRows>>(gpu, a);
        case DType::kQ8_0:
            return start_int8<Q8_0>(gpu, a);
        case DType::kQ4_0:
            return start_int8<Q4_0>(gpu, a);
        case DType::kQ4_K:
            return start_int8<Q4_K>(gpu, a);
        case DType::kQ5_K:
            return start_int8<Q5_K>(gpu, a);
        case DType::kQ6_K:
            return start_int8<Q6_K>(gpu, a);
        default:
            return false;
    }
}

// Asked with as much shared memory as a block may have: so the answer holds for every weight.
int active_clusters(const Gpu& gpu, int size) {
    if (!gpu.nine) return 0;  // compiled for older devices the kernel is empty
    const auto kernel = conv_proj_kernel<Bf16, kConvProjRows>;
    const size_t shared = gpu.max_shared - kStatic;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "a kernel's clusters");
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(size);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int n = 0;
    if (cudaOccupancyMaxActiveClusters(&n, kernel, &config) == cudaSuccess) return n;
    cudaGetLastError();  // a size that the device does not know
    return 0;
}

int largest_cluster(const Gpu& gpu) {
    for (const int size : {kMostBlocks, kPortableCluster}) {
        if (active_clusters(gpu, size) > 0) return size;
    }
    return 0;
}

}  // namespace samba::cuda
