// u = silu(conv(u)), in place, and the last width - 1 raw rows as the state.
//
// Decode: a thread a channel, over the run's few rows. Prefill: a thread a channel of a tile of rows; what the rows
// before each tile held is put aside first, since those rows are overwritten.
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/planes.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

constexpr int kThreads = 128;

struct Args {
    const DeviceRun* runs;
    const Tile* tiles;
    const float *taps, *bias;
    int width, channels;
    int64_t stride;  // of u
    PlaneState state;
    float* edges;
};

// A channel's taps in registers.
template <int W>
struct Taps {
    float v[W > 0 ? W : kMaxConvWidth];
    __device__ __forceinline__ Taps(const Args& a, int c) {
#pragma unroll
        for (int j = 0; j < (W > 0 ? W : kMaxConvWidth); j++) v[j] = j < a.width ? a.taps[c * a.width + j] : 0.0f;
    }
};

template <class T, int W>
__global__ void __launch_bounds__(kThreads) conv_decode_kernel(const __grid_constant__ Args a, T* u) {
    grid_dependents();
    const int c = blockIdx.x * kThreads + threadIdx.x;
    grid_wait();
    if (c >= a.channels) return;
    const DeviceRun run = a.runs[blockIdx.y];
    const int before = W > 0 ? W - 1 : a.width - 1;
    const Taps<W> taps(a, c);
    const float bias = a.bias != nullptr ? a.bias[c] : 0.0f;
    ConvWindow<W> window;
    window.load(plane_after(a.state, run.slot, run.position - 1) + c * before, before, 1);
    for (int t = 0; t < run.n_rows; t++) {
        T* at = u + (run.first_row + t) * a.stride + c;
        *at = from_float<T>(window.step(taps.v, bias, before, to_float(*at)));
        if (t >= run.n_rows - a.state.n_planes) {
            window.store(plane_after(a.state, run.slot, run.position + t) + c * before, before);
        }
    }
}

// edges[tile] (width - 1, channels): the raw rows before the tile, from the state or from u.
template <class T>
__global__ void __launch_bounds__(kThreads) conv_edges_kernel(const __grid_constant__ Args a, const T* u) {
    grid_dependents();
    grid_wait();
    const int c = blockIdx.x * kThreads + threadIdx.x, before = a.width - 1;
    if (c >= a.channels) return;
    const Tile tile = a.tiles[blockIdx.y];
    const DeviceRun run = a.runs[tile.run];
    for (int j = 0; j < before; j++) {
        const int row = tile.first - before + j;  // a tile holds more rows than any convolution
        const float v = row >= 0 ? to_float(u[(run.first_row + row) * a.stride + c])
                                 : plane_after(a.state, run.slot, run.position - 1)[c * before + before + row];
        a.edges[(static_cast<int64_t>(blockIdx.y) * before + j) * a.channels + c] = v;
    }
}

template <class T, int W>
__global__ void __launch_bounds__(kThreads) conv_prefill_kernel(const __grid_constant__ Args a, T* u) {
    grid_dependents();
    grid_wait();
    const int c = blockIdx.x * kThreads + threadIdx.x;
    if (c >= a.channels) return;
    const Tile tile = a.tiles[blockIdx.y];
    const DeviceRun run = a.runs[tile.run];
    const int before = W > 0 ? W - 1 : a.width - 1;
    const Taps<W> taps(a, c);
    const float bias = a.bias != nullptr ? a.bias[c] : 0.0f;
    ConvWindow<W> window;
    window.load(a.edges + static_cast<int64_t>(blockIdx.y) * before * a.channels + c, before, a.channels);
    const int end = min(tile.first + kTileRows, run.n_rows);
    constexpr int kAhead = 16;
    for (int t = tile.first; t < end; t += kAhead) {
        T* at = u + (run.first_row + t) * a.stride + c;
        T raw[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            if (t + i < end) raw[i] = at[i * a.stride];
        }
#pragma unroll
        for (int i = 0; i < kAhead; i++) {
            if (t + i >= end) break;
            at[i * a.stride] = from_float<T>(window.step(taps.v, bias, before, to_float(raw[i])));
            if (t + i >= run.n_rows - a.state.n_planes) {
                window.store(plane_after(a.state, run.slot, run.position + t + i) + c * before, before);
            }
        }
    }
}

template <class T, int W>
void launch_conv(const Gpu& gpu, const StepShape& step, const Args& a, T* u) {
    const unsigned blocks = (a.channels + kThreads - 1) / kThreads;
    if (step.decode) {
        launch(gpu, dim3(blocks, step.n_runs), dim3(kThreads), 0, conv_decode_kernel<T, W>, a, u);
    } else {
        launch(gpu, dim3(blocks, step.n_tiles), dim3(kThreads), 0, conv_edges_kernel<T>, a, u);
        launch(gpu, dim3(blocks, step.n_tiles), dim3(kThreads), 0, conv_prefill_kernel<T, W>, a, u);
    }
}

}  // namespace

void conv_silu(const Gpu& gpu, const StepShape& step, const Tables& tables, View u, const Conv& conv, PlaneState state,
               float* edges) {
    const Args a{tables.now,  tables.tiles, conv.taps.f32(),
                 conv.bias(), conv.width(), static_cast<int>(u.cols),
                 u.stride,    state,        edges};
    with_type(u.type, [&](auto t) {
        using T = decltype(t);
        auto* data = static_cast<T*>(u.data);
        conv.width() == 4 ? launch_conv<T, 4>(gpu, step, a, data) : launch_conv<T, 0>(gpu, step, a, data);
    });
}

}  // namespace samba::cuda
