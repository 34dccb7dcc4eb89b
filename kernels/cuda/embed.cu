// The first op of a step: rows of the embedding table, the tokens' places in the slots' histories, the angles of the
// rotary tables; the step's runs are copied for the ops that follow, and advanced for the step after it.
#include "kernels/cuda/early_run.cuh"
#include "kernels/cuda/formats.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/weight.h"

namespace samba::cuda {
namespace {

constexpr int kRowsPerBlock = 8;
constexpr int kRowThreads = 256, kRopeThreads = 64;  // of a block: the first ones bring the row, the others angles

// table[token] -> x, by the first threads of the block.
template <class F>
__device__ void quantized_row(const DeviceWeight& w, int token, float* x) {
    constexpr int kColumns = F::kBlocks * 32;
    const int n_groups = (w.cols + kColumns - 1) / kColumns;
    const int upper = token % kTile / 8, g = token % 8;
    for (int i = threadIdx.x; i < n_groups * 4; i += kRowThreads) {
        const int group = i / 4, t = i % 4;
        const int64_t at = static_cast<int64_t>(token / kTile) * n_groups + group;
        const auto raw = load_raw<F>(w.data + at * kFormatBytes<F>, g * 4 + t);
#pragma unroll
        for (int b = 0; b < F::kBlocks; b++) {
            float v[8];
            if (upper) {
                dequantize8<F>(raw, b, 1, v);
            } else {
                dequantize8<F>(raw, b, 0, v);
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const int column = group * kColumns + 32 * b + column_of<F>(t, j);
                if (column < w.cols) x[column] = v[j];
            }
        }
    }
}

template <class T>
__device__ void plain_row(const DeviceWeight& w, int64_t stride, int token, float* x) {
    const T* from = reinterpret_cast<const T*>(w.data) + token * stride;
#pragma unroll 8
    for (int i = threadIdx.x; i < w.cols; i += kRowThreads) x[i] = to_float(from[i]);
}

__device__ void table_row(DType type, const DeviceWeight& w, int token, float* x) {
    switch (type) {
        case DType::kF32:
            return plain_row<float>(w, w.cols, token, x);
        case DType::kF16:
            return plain_row<half>(w, padded_columns(w.cols), token, x);
        case DType::kBF16:
            return plain_row<bfloat>(w, padded_columns(w.cols), token, x);
        case DType::kQ8_0:
            return quantized_row<Q8_0>(w, token, x);
        case DType::kQ4_0:
            return quantized_row<Q4_0>(w, token, x);
        case DType::kQ4_K:
            return quantized_row<Q4_K>(w, token, x);
        case DType::kQ5_K:
            return quantized_row<Q5_K>(w, token, x);
        case DType::kQ6_K:
            return quantized_row<Q6_K>(w, token, x);
    }
}

// cos and sin of position · frequency: the product wraps at whole turns, so that it is exact at any position. By the
// threads behind those of the table's row.
__device__ void rope_row(const EmbedArgs& a, int64_t position, int row) {
    for (int r = 0; r < a.n_ropes; r++) {
        const RopeOut& rope = a.ropes[r];
        for (int i = threadIdx.x - kRowThreads; i < rope.half; i += kRopeThreads) {
            const auto turn = static_cast<int64_t>(static_cast<uint64_t>(position) * rope.turns[i]);
            double sine, cosine;
            sincospi(static_cast<double>(turn) * 0x1p-63, &sine, &cosine);
            rope.cos[row * rope.stride + i] = static_cast<float>(cosine);
            rope.sin[row * rope.stride + i] = static_cast<float>(sine);
        }
    }
}

__global__ void __launch_bounds__(kRowThreads + kRopeThreads, 1)
    embed_kernel(const __grid_constant__ EmbedArgs a, DType type, const __grid_constant__ DeviceWeight w, float* x,
                 int64_t x_stride) {
    grid_dependents();
    // The token to go on with comes beside the table, and is right if that still names the slot that was read early.
    const int early_slot = load_run(a.tables.next + blockIdx.y).slot;
    grid_wait();
    const DeviceRun run = load_run(a.tables.next + blockIdx.y);
    const int32_t early_token = __ldcg(a.tables.sampled + early_slot);
    const uint64_t count = __ldcg(&a.tables.count->next);  // beside them: it is wanted last
    const int first = blockIdx.x * kRowsPerBlock;
    for (int r = first; r < min(first + kRowsPerBlock, run.n_rows); r++) {
        const int row = run.first_row + r;
        const int64_t position = run.position + r;
        int token = early_token;
        if (!run.from_sample) token = a.tables.tokens[row];
        if (run.from_sample && run.slot != early_slot) token = a.tables.sampled[run.slot];
        if (threadIdx.x < kRowThreads) {
            table_row(type, w, token, x + row * x_stride);
        } else {
            rope_row(a, position, row);
        }
        if (threadIdx.x == 0) a.tables.history[run.slot * kHistory + position % kHistory] = token;
    }
    if (blockIdx.x != 0) return;
    __syncthreads();  // all have read the run
    if (threadIdx.x != 0) return;
    a.tables.now[blockIdx.y] = run;
    if (a.decode) a.tables.next[blockIdx.y].position = run.position + run.n_rows;
    if (blockIdx.y == 0) *a.tables.count = {count + 1, count};
}

}  // namespace

void embed(const Gpu& gpu, const EmbedArgs& args, const StepShape& step, const Weight& table, View x) {
    const dim3 grid((step.max_run_rows + kRowsPerBlock - 1) / kRowsPerBlock, step.n_runs);
    launch(gpu, grid, dim3(kRowThreads + kRopeThreads), 0, embed_kernel, args, table.parts.front().type,
           device_weight(table, 0), x.f32(), x.stride);
}

}  // namespace samba::cuda
