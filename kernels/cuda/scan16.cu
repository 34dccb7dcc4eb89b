// The selective scan of a prefill, 16 states a channel: one pass over a run's rows, the state in registers.
//
// Some of a block's warps scan, four lanes a channel with four states each. The others prepare the next tiles for them
// (softplus, dt u, B as floats) and finish the last one (skip, gate), so that neither waits for the other's latencies.
// A block takes 16 to 48 channels, so that the blocks of a long run fill the device once. The bound is one exponential
// a state and row. What a scanning warp takes beside them are its own instructions, what it reads of shared memory (a
// multiprocessor brings 128 bytes a clock to registers, also where lanes read the same ones), and waits: the assembler
// counts what is under way by six counters, and waits for all that one counts.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kLanes = 4, kLaneStates = 4;  // lanes that scan a channel, states of each
constexpr int kStates = kLanes * kLaneStates;
constexpr int kTailRows = 4;                         // so many of a run's last rows are scanned at a time
constexpr int kMinChannels = 16, kMaxChannels = 32;  // of a block whose parts share its schedulers

// How a block works. kMost: channels that it has room for; kRows: of a tile, which are scanned without a loop;
// kTiles: in shared memory; kHalf, kStride: see pair_of().
struct Beside {
    static constexpr int kMost = kMaxChannels, kRows = 32, kTiles = 2, kHalf = 10, kStride = 18;
};
// The preparing warps have a scheduler of their own, or most of them.
template <int kChannels>
struct Apart;
template <>
struct Apart<24> {
    static constexpr int kMost = 24, kRows = 48, kTiles = 4, kHalf = 6, kStride = 14;
};
template <>
struct Apart<48> {
    static constexpr int kMost = 48, kRows = 24, kTiles = 4, kHalf = 12, kStride = 28;
};
template <class L>
constexpr int kPreparersOfChannel = L::kRows / 4;  // threads: a row and four channels each
template <class L>
constexpr bool kFits = L::kHalf >= L::kMost / 4 && L::kStride >= L::kHalf + L::kMost / 4 && L::kRows % kTailRows == 0 &&
                       L::kTiles % 2 == 0 && 2 * L::kTiles < 16;
static_assert(kFits<Beside> && kFits<Apart<24>> && kFits<Apart<48>>);
static_assert(4 * kLanes <= kMinChannels);  // a row's B and C have as many threads as they have lanes

template <class T>
__device__ __forceinline__ float value_of(const uint32_t* words, int i) {
    if constexpr (std::is_same_v<T, float>) return __uint_as_float(words[i]);
    if constexpr (std::is_same_v<T, half>) return i & 1 ? high_f16(words[i / 2]) : low_f16(words[i / 2]);
    return i & 1 ? high_bf16(words[i / 2]) : low_bf16(words[i / 2]);
}

// Four neighbouring values as they lie in memory.
template <class T>
struct alignas(4 * sizeof(T)) Four {
    uint32_t words[sizeof(T)];
    __device__ __forceinline__ float operator[](int i) const { return value_of<T>(words, i); }
};
__device__ __forceinline__ void store_four(float* p, const float (&v)[4]) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
}
__device__ __forceinline__ void store_four(bfloat* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]));
}
__device__ __forceinline__ void store_four(half* p, const float (&v)[4]) {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]));
}

// A tile in shared memory.
template <class T, class L>
struct ScanTile {
    float4 steps[L::kRows][L::kStride];  // dt, dt u of two channels, at pair_of(channel)
    float4 y[L::kRows][L::kMost];        // what the four lanes have summed over their states, at place_of(channel)
    float4 B[L::kRows][kLanes];
    Four<T> C[L::kRows][kLanes];
    struct alignas(8 * sizeof(T)) Own {
        Four<T> u, z;
    } own[L::kRows * L::kMost / 4];  // what a preparing thread will finish the tile with
};
template <class T, class L>
constexpr size_t kTileBytes = L::kTiles * sizeof(ScanTile<T, L>);  // of a block
template <class T, class L>
__device__ __forceinline__ ScanTile<T, L>& tile_of(int which) {
    return dynamic_shared<ScanTile<T, L>>()[which];
}
template <class L>
__device__ __forceinline__ int next_tile(int which) {
    return which + 1 == L::kTiles ? 0 : which + 1;
}
// So that who writes and who reads meet all banks.
template <class L>
__device__ __forceinline__ int pair_of(int channel) {
    return channel / 2 % 2 * L::kHalf + channel / 4;
}
__device__ __forceinline__ int place_of(int channel) { return channel ^ (channel >> 3 & 3); }

// What the two parts of a block tell each other: two of its barriers for each tile. Who tells does not wait.
template <class L>
struct Parts {
    int n_threads;
    __device__ __forceinline__ explicit Parts(int n_channels)
        : n_threads(n_channels * (kLanes + kPreparersOfChannel<L>)) {}
    __device__ __forceinline__ void wait_for_prepared(int tile) const { sync(1 + tile); }
    __device__ __forceinline__ void tell_prepared(int tile) const { arrive(1 + tile); }
    __device__ __forceinline__ void wait_for_scanned(int tile) const { sync(1 + L::kTiles + tile); }
    __device__ __forceinline__ void tell_scanned(int tile) const { arrive(1 + L::kTiles + tile); }

  private:
    __device__ __forceinline__ void sync(int barrier) const {
        asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
    }
    __device__ __forceinline__ void arrive(int barrier) const {
        asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
    }
};

// Bytes from a row of a tile to that of the next one.
struct TileStrides {
    int dt, u, z, bc, y;
};

// softplus(x) = max(x, 0) + log(1 + e), e = exp(-|x|): of small steps, too, all digits (the polynomial: 2.4e-7). It
// takes fewer instructions than scan.cuh's, which is for few rows: that one makes ways of either size and picks one.
__device__ __forceinline__ float softplus_of(float x) {
    const float e = exp2_fast(fabsf(x) * -kLog2e);
    float log = fmaf(e, -0.0085391989f, 0.044089597f);
    log = fmaf(e, log, -0.10768166f);
    log = fmaf(e, log, 0.17745239f);
    log = fmaf(e, log, -0.24495462f);
    log = fmaf(e, log, 0.33275479f);
    log = fmaf(e, log, -0.49997404f);
    log = fmaf(e, log, 0.99999982f);
    return fmaf(e, log, fmaxf(x, 0.0f));
}

// What has been loaded is there from here on. Otherwise it is waited for where it is used, each time anew, and with it
// what has been asked for since and is counted by the same counter.
__device__ __forceinline__ void settle(float (&v)[4]) {
    uint32_t zero;  // of which the assembler does not know that it is
    asm volatile("mov.u32 %0, %%tid.y;" : "=r"(zero));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t bits = __float_as_uint(v[i]);
        asm volatile("xor.b32 %0, %0, %1;" : "+r"(bits) : "r"(zero));
        v[i] = __uint_as_float(bits);
    }
}

// A preparing thread's share of the tiles: four channels of a row, and four states of B and C. For what a tile has
// beyond the run's rows and channels it takes others, of which nothing is written to memory.
template <class T, class L>
class Preparer {
  public:
    struct Raw {
        Four<float> dt;
        typename ScanTile<T, L>::Own own;
        Four<T> B, C;
    };
    __device__ __forceinline__ Preparer(const ScanArgs& a, const TileStrides& strides, const DeviceRun& run,
                                        int n_channels, int thread)
        : a_(a),
          strides_(strides),
          n_rows_(run.n_rows),
          first_row_(run.first_row),
          thread_(thread),
          row_(thread_ / (n_channels / 4)),
          local_(thread_ % (n_channels / 4) * 4),
          bc_row_(thread_ / kLanes),
          bc_lane_(thread_ % kLanes),
          owned_(static_cast<int>(blockIdx.x) * n_channels + local_ < a.d_inner) {
        const int channel = min(static_cast<int>(blockIdx.x) * n_channels + local_, a.d_inner - 4);
        const int64_t row = first_row_ + min(row_, n_rows_ - 1);
        dt_ = bytes_at(a.dt, row, a.dt_stride, channel);
        u_ = bytes_at(static_cast<const T*>(a.u), row, a.u_stride, channel);
        z_ = bytes_at(static_cast<const T*>(a.z), row, a.z_stride, channel);
        bc_ = a.vectors ? reinterpret_cast<const char*>(bc_of(0)) : z_;  // all threads read it: no branch
        y_ = static_cast<T*>(a.y) + (first_row_ + row_) * a.y_stride + channel;
        load_four(a.D + channel, D_);
        if (a.dt_bias != nullptr) load_four(a.dt_bias + channel, bias_);
        settle(D_), settle(bias_);
    }
    // The run's first tile, and those behind it one after another, that from row `first` on.
    __device__ __forceinline__ void load(Raw& raw) const {
        read(dt_, raw.dt), read(u_, raw.own.u), read(z_, raw.own.z);
        read(bc_, raw.B), read(bc_ + (a_.vectors ? kStates * sizeof(T) : 0), raw.C);
    }
    __device__ __forceinline__ void load_next(int first, Raw& raw) {
        if (first + row_ < n_rows_) dt_ += strides_.dt, u_ += strides_.u, z_ += strides_.z;
        if (first + bc_row_ < n_rows_) bc_ += strides_.bc;
        load(raw);
    }
    __device__ __forceinline__ void prepare(int first, const Raw& raw, ScanTile<T, L>& tile) const {
        float steps[8];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            steps[2 * i] = softplus_of(raw.dt[i] + bias_[i]);
            steps[2 * i + 1] = steps[2 * i] * raw.own.u[i];
        }
        tile.own[thread_] = raw.own;
        tile.steps[row_][pair_of<L>(local_)] = make_float4(steps[0], steps[1], steps[2], steps[3]);
        tile.steps[row_][pair_of<L>(local_ + 2)] = make_float4(steps[4], steps[5], steps[6], steps[7]);
        if (bc_row_ >= L::kRows) return;
        if (a_.vectors) return put_bc(raw.B, raw.C, tile);
        Four<T> B, C;
        const T* bc = bc_of(first);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            reinterpret_cast<T*>(B.words)[i] = bc[i];
            reinterpret_cast<T*>(C.words)[i] = bc[kStates + i];
        }
        put_bc(B, C, tile);
    }
    // The tile from row `first` on has been scanned.
    __device__ __forceinline__ void finish(int first, const ScanTile<T, L>& tile) {
        float y[4];
        const auto own = tile.own[thread_];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 sums = tile.y[row_][place_of(local_ + i)];
            y[i] = ((sums.x + sums.y) + (sums.z + sums.w) + D_[i] * own.u[i]) * silu(own.z[i]);
        }
        if (owned_ && first + row_ < n_rows_) store_four(y_, y);
        y_ = reinterpret_cast<T*>(reinterpret_cast<char*>(y_) + strides_.y);
    }

  private:
    template <class V>
    static __device__ __forceinline__ const char* bytes_at(const V* base, int64_t row, int64_t stride, int channel) {
        return reinterpret_cast<const char*>(base + row * stride + channel);
    }
    template <class F>
    static __device__ __forceinline__ void read(const char* from, F& to) {
        to = *reinterpret_cast<const F*>(from);
    }
    __device__ __forceinline__ const T* bc_of(int first) const {
        const int64_t row = first_row_ + min(first + bc_row_, n_rows_ - 1);
        return static_cast<const T*>(a_.dbc) + row * a_.dbc_stride + a_.dt_rank + bc_lane_ * kLaneStates;
    }
    __device__ __forceinline__ void put_bc(const Four<T>& B, const Four<T>& C, ScanTile<T, L>& tile) const {
        tile.B[bc_row_][bc_lane_] = make_float4(B[0], B[1], B[2], B[3]);
        tile.C[bc_row_][bc_lane_] = C;
    }
    const ScanArgs& a_;
    const TileStrides& strides_;
    int n_rows_, first_row_, thread_, row_, local_, bc_row_, bc_lane_;
    bool owned_;
    const char *dt_, *u_, *z_, *bc_;
    T* y_;
    float D_[4], bias_[4] = {};
};

// Tiles are prepared as far ahead as there are places for them. The next one is asked for first, and into registers
// that nothing else is in, as its values would otherwise be waited for where they are moved.
template <class T, class L>
__device__ __forceinline__ void prepare_tiles(const ScanArgs& a, const TileStrides& strides, const DeviceRun& run,
                                              int n_channels, int thread) {
    const Parts<L> parts(n_channels);
    Preparer<T, L> own(a, strides, run, n_channels, thread);
    typename Preparer<T, L>::Raw even, odd;
    own.load(even);
    const auto turn = [&](auto& raw, auto& next, int which, int row) {
        if (row < run.n_rows) own.load_next(row + L::kRows, next);
        const int before = row - L::kTiles * L::kRows;
        if (before >= 0 && before < run.n_rows) {
            parts.wait_for_scanned(which);
            own.finish(before, tile_of<T, L>(which));
        }
        if (row < run.n_rows) {
            own.prepare(row, raw, tile_of<T, L>(which));
            parts.tell_prepared(which);
        }
    };
    for (int row = 0; row < run.n_rows + L::kTiles * L::kRows; row += L::kTiles * L::kRows) {
#pragma unroll
        for (int i = 0; i < L::kTiles; i += 2) {
            turn(even, odd, i, row + i * L::kRows);
            turn(odd, even, i + 1, row + (i + 1) * L::kRows);
        }
    }
}

// What a scanning lane needs of two rows.
template <class T, class L>
struct TwoRows {
    float2 steps[2];
    float4 B[2];
    Four<T> C[2];
    float decay[2][kLaneStates];

    __device__ __forceinline__ void load(int which, int first, int local, int lane) {
        const ScanTile<T, L>& tile = tile_of<T, L>(which);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            steps[j] = reinterpret_cast<const float2*>(&tile.steps[first + j][pair_of<L>(local)])[local % 2];
            B[j] = tile.B[first + j][lane], C[j] = tile.C[first + j][lane];
        }
    }
    // Volatile: otherwise the compiler puts them off until they are needed, and waits for each.
    __device__ __forceinline__ void make_decays(const float (&A)[kLaneStates]) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int n = 0; n < kLaneStates; n++) {
                asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(decay[j][n]) : "f"(steps[j].x * A[n]));
            }
        }
    }
    // Row j: the next states, and what they add to y.
    __device__ __forceinline__ float next(int j, float (&state)[kLaneStates]) const {
        const float inputs[kLaneStates] = {B[j].x, B[j].y, B[j].z, B[j].w};
        float y = 0;
#pragma unroll
        for (int n = 0; n < kLaneStates; n++) {
            state[n] = fmaf(decay[j][n], state[n], steps[j].y * inputs[n]);
            y = n == 0 ? C[j][n] * state[0] : fmaf(C[j][n], state[n], y);
        }
        return y;
    }
};

// A scanning lane: tile after tile, each when it has been prepared.
template <class T, class L>
class Scanner {
  public:
    __device__ __forceinline__ Scanner(const ScanArgs& a, const DeviceRun& run, int n_channels, int thread)
        : parts_(n_channels),
          lane_(thread % kLanes),
          local_(thread / kLanes),
          channel_(blockIdx.x * n_channels + local_) {
        const int first = min(channel_, a.d_inner - 1) * kStates + lane_ * kLaneStates;
        load_four(a.A + first, A_);
#pragma unroll
        for (int n = 0; n < kLaneStates; n++) A_[n] *= kLog2e;
        load_four(plane_after(a.state, run.slot, run.position - 1) + first, state_);
        settle(state_);
        parts_.wait_for_prepared(0);
        now_.load(0, 0, local_, lane_), after_.load(0, 2, local_, lane_);
        now_.make_decays(A_);
    }
    // Whole tiles that rows follow, of which the first ones are asked for before a tile's end.
    __device__ __forceinline__ void scan(int n_rows) {
#pragma unroll 1
        for (; row_ + L::kRows <= n_rows; row_ += L::kRows) {
            constexpr int kPairs = L::kRows / 2;
            const int next_which = next_tile<L>(which_);
            TwoRows<T, L> rows[3] = {now_, after_};
            const auto pair = [&](auto index) {
                constexpr int p = decltype(index)::value, next = (p + 2) % kPairs;
                if (next == 0) parts_.wait_for_prepared(next_which);
                rows[(p + 2) % 3].load(next == p + 2 ? which_ : next_which, next * 2, local_, lane_);
                rows[(p + 1) % 3].make_decays(A_);
                const float y0 = rows[p % 3].next(0, state_), y1 = rows[p % 3].next(1, state_);
                y_of(p * 2) = y0, y_of(p * 2 + 1) = y1;
            };
            [&]<int... p>(std::integer_sequence<int, p...>) { (pair(std::integral_constant<int, p>()), ...); }
            (std::make_integer_sequence<int, kPairs>());
            now_ = rows[kPairs % 3], after_ = rows[(kPairs + 1) % 3];
            parts_.tell_scanned(which_);
            which_ = next_which;
        }
    }
    // The last rows: the state is written after each row of the planes.
    __device__ __forceinline__ void scan_planes(const ScanArgs& a, const DeviceRun& run) {
#pragma unroll 1
        for (int first = 0; row_ < run.n_rows; row_ += kTailRows, first += kTailRows) {
            if (first == L::kRows) {
                parts_.tell_scanned(which_);
                which_ = next_tile<L>(which_), first = 0;
                parts_.wait_for_prepared(which_);
            }
            TwoRows<T, L> rows[kTailRows / 2];
#pragma unroll
            for (int i = 0; i < kTailRows / 2; i++) rows[i].load(which_, first + 2 * i, local_, lane_);
#pragma unroll
            for (int i = 0; i < kTailRows / 2; i++) rows[i].make_decays(A_);
#pragma unroll
            for (int j = 0; j < kTailRows; j++) {
                y_of(first + j) = rows[j / 2].next(j % 2, state_);
                const int t = row_ + j;
                if (t < run.n_rows && t >= run.n_rows - a.state.n_planes && channel_ < a.d_inner) {
                    float* plane = plane_after(a.state, run.slot, run.position + t);
                    store_four(plane + channel_ * kStates + lane_ * kLaneStates, state_);
                }
            }
        }
        parts_.tell_scanned(which_);
    }

  private:
    __device__ __forceinline__ float& y_of(int row) const {
        return reinterpret_cast<float*>(&tile_of<T, L>(which_).y[row][place_of(local_)])[lane_];
    }
    Parts<L> parts_;
    int lane_, local_, channel_;
    int row_ = 0, which_ = 0;  // the next row of the run, its tile
    float A_[kLaneStates], state_[kLaneStates];
    TwoRows<T, L> now_, after_;
};

// preparer: which of the preparing threads this one is, or negative: then it is a scanning one, `scanner`.
template <class T, class L>
__device__ __forceinline__ void scan16(const ScanArgs& a, const TileStrides& strides, int n_channels, int scanner,
                                       int preparer) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    if (preparer >= 0) return prepare_tiles<T, L>(a, strides, run, n_channels, preparer);
    Scanner<T, L> lane(a, run, n_channels, scanner);
    lane.scan(run.n_rows - a.state.n_planes);
    lane.scan_planes(a, run);
}

// So few registers that two blocks of up to 24 channels fit beside each other.
template <class T>
__global__ void __maxnreg__(112)
    scan16_kernel(const __grid_constant__ ScanArgs a, const __grid_constant__ TileStrides strides, int n_channels) {
    const int thread = static_cast<int>(threadIdx.x);
    scan16<T, Beside>(a, strides, n_channels, thread, thread - n_channels * kLanes);
}

// The same for blocks that have a multiprocessor each, with scanning warps for three of its four schedulers, to which
// warps go in turn: the fourth has six preparing warps, the others the rest. Those in between have nothing to do.
constexpr int kWarpsApart = 24;
template <class T, int kChannels>
__global__ void __maxnreg__(80)
    scan16_apart_kernel(const __grid_constant__ ScanArgs a, const __grid_constant__ TileStrides strides) {
    using L = Apart<kChannels>;
    constexpr int kScanning = kChannels * kLanes / 32, kPreparing = kChannels * kPreparersOfChannel<L> / 32;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int other = warp / 4 * 3 + warp % 4;  // of the first three schedulers
    int scanner = -1, preparer = -1;
    if (warp % 4 == 3) {
        preparer = warp / 4;
    } else if (other < kScanning) {
        scanner = other;
    } else {
        preparer = kWarpsApart / 4 + other - kScanning;
    }
    if (preparer >= kPreparing) return;
    scan16<T, L>(a, strides, kChannels, scanner * 32 + lane, preparer < 0 ? -1 : preparer * 32 + lane);
}

// Channels of a block, a multiple of 8: as many as let the blocks of all runs fill the device a whole number of times.
int channels_of(const Gpu& gpu, int d_inner, int n_runs) {
    for (int waves = 1;; waves++) {
        const int blocks = std::max(1, gpu.n_multiprocessors * waves / n_runs);
        const int n = ((d_inner + blocks - 1) / blocks + 7) / 8 * 8;
        if (n <= kMaxChannels) return std::max(n, kMinChannels);
    }
}

}  // namespace

void scan16_prefill(const Gpu& gpu, const ScanArgs& a, DType type, int n_runs) {
    const auto blocks = [&](int channels) { return (a.d_inner + channels - 1) / channels; };
    const auto at_once = [&](int channels) { return blocks(channels) * n_runs <= gpu.n_multiprocessors; };
    with_type(type, [&](auto t) {
        using T = decltype(t);
        const auto start = [&]<class L, class... A>(L, int channels, int threads, auto kernel, A... more) {
            const auto stride = [](int64_t of, size_t bytes) {
                return static_cast<int>(of * L::kRows * static_cast<int>(bytes));
            };
            const TileStrides strides{stride(a.dt_stride, 4), stride(a.u_stride, sizeof(T)),
                                      stride(a.z_stride, sizeof(T)), a.vectors ? stride(a.dbc_stride, sizeof(T)) : 0,
                                      stride(a.y_stride, sizeof(T))};
            const dim3 grid(blocks(channels), n_runs);
            const size_t shared = evenly_spread(gpu, grid, kTileBytes<T, L>);
            launch(gpu, grid, dim3(threads), shared, kernel, a, strides, more...);
        };
        const int n = channels_of(gpu, a.d_inner, n_runs);
        if constexpr (sizeof(T) == 2) {  // f32 needs more registers
            // Where a block may have some 150 KB of shared memory: compute capability 8.0, 9.0.
            const auto apart = [&]<int kChannels>(std::integral_constant<int, kChannels>) {
                using L = Apart<kChannels>;
                if (!at_once(kChannels) || gpu.max_shared < kTileBytes<T, L>) return false;
                start(L(), kChannels, kWarpsApart * 32, scan16_apart_kernel<T, kChannels>);
                return true;
            };
            if (n == 24 && apart(std::integral_constant<int, 24>())) return;
            if (!at_once(kMaxChannels) && apart(std::integral_constant<int, 48>())) return;
        }
        start(Beside(), n, n * (kLanes + kPreparersOfChannel<Beside>), scan16_kernel<T>, n);
    });
}

}  // namespace samba::cuda
