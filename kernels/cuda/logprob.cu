// Log-probabilities of given tokens, a block a row, so that the host need not read the logits.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sample_parts.cuh"

namespace samba::cuda {
namespace {

struct Args {
    const float* logits;
    int64_t stride;
    int vocab;
    Targets targets;
    float* logprobs;
};

__global__ void __launch_bounds__(kSampleThreads) logprob_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    const SampleShared s(dynamic_shared());
    const float* x = a.logits + blockIdx.x * a.stride;
    const float best = block_max(s, a.vocab, [&](int i) { return x[i]; });
    const double sum = block_sum(s, a.vocab, [&](int i) { return static_cast<double>(__expf(x[i] - best)); });
    if (threadIdx.x > 0) return;
    a.logprobs[blockIdx.x] = static_cast<float>(x[a.targets.id[blockIdx.x]] - (best + log(sum)));
}

}  // namespace

void target_logprobs(const Gpu& gpu, View logits, const Targets& targets, float* logprobs) {
    const Args a{logits.f32(), logits.stride, static_cast<int>(logits.cols), targets, logprobs};
    launch(gpu, dim3(logits.rows), dim3(kSampleThreads), SampleShared::kBytes, logprob_kernel, a);
}

}  // namespace samba::cuda
