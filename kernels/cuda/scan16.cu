// The selective scan of a prefill, 16 states a channel: one pass over a run's rows, the state in registers.
//
// Some of a block's warps scan, four lanes a channel with four states each. The others prepare the next tile of 32 rows
// for them (softplus, dt u) and finish the last one (skip, gate), so that neither waits for the other's latencies. A
// block takes 16 to 32 channels, so that the blocks of a long run fill the device once. The bound is one exponential a
// state and row. What a scanning warp takes beside them are its own instructions and what it reads of shared memory: a
// multiprocessor brings 128 bytes a clock to registers, also where lanes read the same ones.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/scan.cuh"

namespace samba::cuda {
namespace {

constexpr int kRows = 32;                   // of a tile
constexpr int kLanes = 4, kLaneStates = 4;  // lanes that scan a channel, states of each
constexpr int kStates = kLanes * kLaneStates;
constexpr int kPreparers = 8;  // threads a channel that prepare it: a row and four channels each
constexpr int kMinChannels = 16, kMaxChannels = 32;
constexpr int kApartChannels = 24;          // of a block whose preparing warps have a scheduler of their own
constexpr int kBcThreads = kRows * kLanes;  // prepare B and C too, for a lane of a row each
constexpr int kTiles = 2;                   // in shared memory: one is scanned, the other prepared
static_assert(kBcThreads <= kMinChannels * kPreparers);

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

// A tile in shared memory, B and C in their type.
template <class T>
struct ScanTile {
    static constexpr int kPieces = static_cast<int>(sizeof(T));  // of eight bytes: a lane's B, then its C
    float4 steps[kRows][18];                                     // dt, dt u of two channels, at pair_of(channel)
    float4 y[kRows][kMaxChannels];  // what the four lanes have summed over their states, at place_of(channel)
    uint2 bc[kRows][kPieces][kLanes];
};
template <class T>
__device__ __forceinline__ ScanTile<T>& tile_of(int which) {
    return dynamic_shared<ScanTile<T>>()[which];
}
// So that who writes and who reads meet all banks.
__device__ __forceinline__ int pair_of(int channel) { return channel / 2 % 2 * 10 + channel / 4; }
__device__ __forceinline__ int place_of(int channel) { return channel ^ (channel >> 3 & 3); }

// What the two parts of a block tell each other: two of its barriers for each tile. Who tells does not wait.
struct Parts {
    enum What { kPrepared = 1, kScanned = 1 + kTiles };
    int n_threads;
    __device__ __forceinline__ explicit Parts(int n_channels) : n_threads(n_channels * (kLanes + kPreparers)) {}
    __device__ __forceinline__ void wait_until(What what, int tile) const {
        asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(what + tile), "r"(n_threads) : "memory");
    }
    __device__ __forceinline__ void tell(What what, int tile) const {
        asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(what + tile), "r"(n_threads) : "memory");
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

// A preparing thread's share of the tiles: four channels of a row, and four states of B and C. For what a tile has
// beyond the run's rows and channels it takes others, of which nothing is written to memory.
template <class T>
class Preparer {
  public:
    struct Raw {  // of a tile to prepare
        Four<float> dt;
        Four<T> u, z, B, C;
    };
    struct Rest {  // of a tile that is scanned: y is (what has been scanned + skip) gate
        float skip[4], gate[4];
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
        bc_ = reinterpret_cast<const char*>(bc_of(0));
        y_ = static_cast<T*>(a.y) + (first_row_ + row_) * a.y_stride + channel;
        load_four(a.D + channel, D_);
#pragma unroll
        for (int i = 0; i < 4; i++) bias_[i] = a.dt_bias != nullptr ? a.dt_bias[channel + i] : 0.0f;
    }
    // The tile from row `first` on; tiles are asked for in order.
    __device__ __forceinline__ void load(int first, Raw& raw) {
        read(dt_, raw.dt), read(u_, raw.u), read(z_, raw.z);
        if (a_.vectors && thread_ < kBcThreads) read(bc_, raw.B), read(bc_ + kStates * sizeof(T), raw.C);
        const int next = first + kRows;
        if (next + row_ < n_rows_) dt_ += strides_.dt, u_ += strides_.u, z_ += strides_.z;
        if (next + bc_row_ < n_rows_) bc_ += strides_.bc;
    }
    __device__ __forceinline__ void prepare(int first, const Raw& raw, ScanTile<T>& tile, Rest& rest) const {
        float steps[8];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            steps[2 * i] = softplus_of(raw.dt[i] + bias_[i]);
            steps[2 * i + 1] = steps[2 * i] * raw.u[i];
            rest.skip[i] = D_[i] * raw.u[i];
            rest.gate[i] = silu(raw.z[i]);
        }
        tile.steps[row_][pair_of(local_)] = make_float4(steps[0], steps[1], steps[2], steps[3]);
        tile.steps[row_][pair_of(local_ + 2)] = make_float4(steps[4], steps[5], steps[6], steps[7]);
        if (thread_ >= kBcThreads) return;
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
    __device__ __forceinline__ void finish(int first, const ScanTile<T>& tile, const Rest& rest) {
        float y[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 sums = tile.y[row_][place_of(local_ + i)];
            y[i] = ((sums.x + sums.y) + (sums.z + sums.w) + rest.skip[i]) * rest.gate[i];
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
    __device__ __forceinline__ void put_bc(const Four<T>& B, const Four<T>& C, ScanTile<T>& tile) const {
        constexpr int kHalf = ScanTile<T>::kPieces / 2;
        uint2(&row)[ScanTile<T>::kPieces][kLanes] = tile.bc[bc_row_];
#pragma unroll
        for (int i = 0; i < kHalf; i++) {
            row[i][bc_lane_] = piece(B, i), row[kHalf + i][bc_lane_] = piece(C, i);
        }
    }
    static __device__ __forceinline__ uint2 piece(const Four<T>& v, int i) {
        return make_uint2(v.words[2 * i], v.words[2 * i + 1]);
    }
    const ScanArgs& a_;
    const TileStrides& strides_;
    int n_rows_, first_row_, thread_, row_, local_, bc_row_, bc_lane_;
    bool owned_;
    const char *dt_, *u_, *z_, *bc_;
    T* y_;
    float D_[4], bias_[4];
};

// While tile t is scanned, tile t - 1 is finished, tile t + 1 prepared, and tile t + 2 asked for: first, and into
// registers that nothing else is in, as its values would otherwise be waited for where they are moved.
template <class T>
__device__ __forceinline__ void prepare_tiles(const ScanArgs& a, const TileStrides& strides, const DeviceRun& run,
                                              int n_channels, int thread) {
    const Parts parts(n_channels);
    Preparer<T> own(a, strides, run, n_channels, thread);
    struct {
        typename Preparer<T>::Raw raw;
        typename Preparer<T>::Rest rest;
    } even, odd;
    own.load(0, even.raw);
    const auto turn = [&](auto& of, auto& next, int which, int row) {
        if (row < run.n_rows) own.load(row + kRows, next.raw);
        const int before = row - kTiles * kRows;
        if (before >= 0 && before < run.n_rows) {
            parts.wait_until(Parts::kScanned, which);
            own.finish(before, tile_of<T>(which), of.rest);
        }
        if (row < run.n_rows) {
            own.prepare(row, of.raw, tile_of<T>(which), of.rest);
            parts.tell(Parts::kPrepared, which);
        }
    };
    for (int row = 0; row < run.n_rows + kTiles * kRows; row += 2 * kRows) {
        turn(even, odd, 0, row);
        turn(odd, even, 1, row + kRows);
    }
}

// What a scanning lane needs of two rows.
template <class T>
struct TwoRows {
    float2 steps[2];
    uint32_t bc[2][2 * ScanTile<T>::kPieces];
    float decay[2][kLaneStates];

    __device__ __forceinline__ void load(int which, int first, int local, int lane) {
        const ScanTile<T>& tile = tile_of<T>(which);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            steps[j] = reinterpret_cast<const float2*>(&tile.steps[first + j][pair_of(local)])[local % 2];
#pragma unroll
            for (int i = 0; i < ScanTile<T>::kPieces; i++) {
                const uint2 piece = tile.bc[first + j][i][lane];
                bc[j][2 * i] = piece.x, bc[j][2 * i + 1] = piece.y;
            }
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
        float y = 0;
#pragma unroll
        for (int n = 0; n < kLaneStates; n++) {
            const float B = value_of<T>(bc[j], n), C = value_of<T>(bc[j], kLaneStates + n);
            state[n] = fmaf(decay[j][n], state[n], steps[j].y * B);
            y = n == 0 ? C * state[0] : fmaf(C, state[n], y);
        }
        return y;
    }
};

// A scanning lane: tile after tile, each when it has been prepared.
template <class T>
class Scanner {
  public:
    __device__ __forceinline__ Scanner(const ScanArgs& a, const DeviceRun& run, int n_channels)
        : parts_(n_channels),
          lane_(threadIdx.x % kLanes),
          local_(threadIdx.x / kLanes),
          channel_(blockIdx.x * n_channels + local_) {
        const int first = min(channel_, a.d_inner - 1) * kStates + lane_ * kLaneStates;
        load_four(plane_after(a.state, run.slot, run.position - 1) + first, state_);
        load_four(a.A + first, A_);
#pragma unroll
        for (int n = 0; n < kLaneStates; n++) A_[n] *= kLog2e;
        parts_.wait_until(Parts::kPrepared, 0);
        now_.load(0, 0, local_, lane_), after_.load(0, 2, local_, lane_);
        now_.make_decays(A_);
    }
    // Another tile follows, whose first rows are asked for before this one's end.
    __device__ __forceinline__ void scan(int which) {
        constexpr int kGroups = kRows / 2;
        TwoRows<T> rows[3] = {now_, after_};
        const auto group = [&](auto index) {
            constexpr int g = decltype(index)::value, next = (g + 2) % kGroups;
            if (next == 0) parts_.wait_until(Parts::kPrepared, which ^ 1);
            rows[(g + 2) % 3].load(next == g + 2 ? which : which ^ 1, next * 2, local_, lane_);
            rows[(g + 1) % 3].make_decays(A_);
            const float y0 = rows[g % 3].next(0, state_), y1 = rows[g % 3].next(1, state_);
            y_of(which, g * 2) = y0, y_of(which, g * 2 + 1) = y1;
        };
        [&]<int... g>(std::integer_sequence<int, g...>) { (group(std::integral_constant<int, g>()), ...); }
        (std::make_integer_sequence<int, kGroups>());
        now_ = rows[kGroups % 3], after_ = rows[(kGroups + 1) % 3];
        parts_.tell(Parts::kScanned, which);
    }
    // One of the last tiles, from row `first_row` on: the state is written after each row of the planes.
    __device__ __forceinline__ void scan_planes(const ScanArgs& a, const DeviceRun& run, int which, int first_row) {
#pragma unroll 1
        for (int first = 0; first < kRows; first += 2) {
            TwoRows<T> rows;
            rows.load(which, first, local_, lane_);
            rows.make_decays(A_);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                y_of(which, first + j) = rows.next(j, state_);
                const int t = first_row + first + j;
                if (t < run.n_rows && t >= run.n_rows - a.state.n_planes && channel_ < a.d_inner) {
                    float* plane = plane_after(a.state, run.slot, run.position + t);
                    store_four(plane + channel_ * kStates + lane_ * kLaneStates, state_);
                }
            }
        }
        if (first_row + kRows < run.n_rows) parts_.wait_until(Parts::kPrepared, which ^ 1);
        parts_.tell(Parts::kScanned, which);
    }

  private:
    __device__ __forceinline__ float& y_of(int which, int row) const {
        return reinterpret_cast<float*>(&tile_of<T>(which).y[row][place_of(local_)])[lane_];
    }
    Parts parts_;
    int lane_, local_, channel_;
    float A_[kLaneStates], state_[kLaneStates];
    TwoRows<T> now_, after_;
};

// preparer: which of the preparing threads this one is, or negative.
template <class T>
__device__ __forceinline__ void scan16(const ScanArgs& a, const TileStrides& strides, int n_channels, int preparer) {
    grid_dependents();
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.y];
    if (preparer >= 0) return prepare_tiles<T>(a, strides, run, n_channels, preparer);
    Scanner<T> scanner(a, run, n_channels);
    int row = 0, which = 0;
    for (; row + kRows <= run.n_rows - a.state.n_planes; row += kRows, which ^= 1) scanner.scan(which);
    for (; row < run.n_rows; row += kRows, which ^= 1) scanner.scan_planes(a, run, which, row);
}

// So few registers that two blocks of 24 channels fit beside each other, where shared memory has room for two.
template <class T>
__global__ void __maxnreg__(112)
    scan16_kernel(const __grid_constant__ ScanArgs a, const __grid_constant__ TileStrides strides, int n_channels) {
    scan16<T>(a, strides, n_channels, static_cast<int>(threadIdx.x) - n_channels * kLanes);
}

// The same for blocks that have a multiprocessor each, and three scanning warps for its four schedulers, to which warps
// go in turn: the fourth has all of the preparing, every fourth warp; those in between have nothing to do.
template <class T>
__global__ void __maxnreg__(80)
    scan16_apart_kernel(const __grid_constant__ ScanArgs a, const __grid_constant__ TileStrides strides) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    if (warp > 3 && warp % 4 != 3) return;
    scan16<T>(a, strides, kApartChannels, warp % 4 == 3 ? warp / 4 * 32 + lane : -1);
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
    const int n = channels_of(gpu, a.d_inner, n_runs);
    const dim3 grid((a.d_inner + n - 1) / n, n_runs);
    with_type(type, [&](auto t) {
        using T = decltype(t);
        const auto stride = [](int64_t of, size_t bytes) {
            return static_cast<int>(of * kRows * static_cast<int>(bytes));
        };
        const TileStrides strides{stride(a.dt_stride, 4), stride(a.u_stride, sizeof(T)), stride(a.z_stride, sizeof(T)),
                                  stride(a.dbc_stride, sizeof(T)), stride(a.y_stride, sizeof(T))};
        const size_t shared = evenly_spread(gpu, grid, kTiles * sizeof(ScanTile<T>));
        if constexpr (sizeof(T) == 2) {  // f32 needs more registers
            if (n == kApartChannels && static_cast<int>(grid.x * grid.y) <= gpu.n_multiprocessors) {
                const int warps = kApartChannels * kPreparers / 32 * 4;
                return launch(gpu, grid, dim3(warps * 32), shared, scan16_apart_kernel<T>, a, strides);
            }
        }
        launch(gpu, grid, dim3(n * (kLanes + kPreparers)), shared, scan16_kernel<T>, a, strides, n);
    });
}

}  // namespace samba::cuda
