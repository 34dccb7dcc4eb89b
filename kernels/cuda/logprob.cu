// Log-probabilities of given tokens, a block a row, so that the host need not read the logits.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/values.cuh"

namespace samba::cuda {
namespace {

struct Args {
    const float* logits;
    int64_t stride;
    int vocab;
    Targets targets;
    float* logprobs;
};

constexpr int kThreads = 1024, kWarps = kThreads / 32;
static_assert(kWarps == 32);  // as many as lanes

__global__ void __launch_bounds__(kThreads) logprob_kernel(const __grid_constant__ Args a) {
    __shared__ float maxima[kWarps];
    __shared__ double sums[kWarps];
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    grid_dependents();
    grid_wait();
    const float* x = a.logits + blockIdx.x * a.stride;
    float best = -INFINITY;
#pragma unroll 8
    for (int i = threadIdx.x; i < a.vocab; i += kThreads) best = fmaxf(best, x[i]);
    best = warp_max(best);
    if (lane == 0) maxima[warp] = best;
    __syncthreads();
    best = warp_max(maxima[lane]);
    double sum = 0;
#pragma unroll 8
    for (int i = threadIdx.x; i < a.vocab; i += kThreads) sum += static_cast<double>(__expf(x[i] - best));
    sum = warp_sum(sum);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (warp > 0) return;
    sum = warp_sum(sums[lane]);
    if (lane > 0) return;
    a.logprobs[blockIdx.x] = static_cast<float>(x[a.targets.id[blockIdx.x]] - (best + log(sum)));
}

}  // namespace

void target_logprobs(const Gpu& gpu, View logits, const Targets& targets, float* logprobs) {
    const Args a{logits.f32(), logits.stride, static_cast<int>(logits.cols), targets, logprobs};
    launch(gpu, dim3(logits.rows), dim3(kThreads), 0, logprob_kernel, a);
}

}  // namespace samba::cuda
