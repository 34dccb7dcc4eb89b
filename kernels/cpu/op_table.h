// The ops of the instruction set that the including file is compiled for.
#pragma once
#include "kernels/cpu/op_attention_kernel.h"
#include "kernels/cpu/op_decay_kernel.h"
#include "kernels/cpu/op_mamba_kernel.h"
#include "kernels/cpu/op_mega_kernel.h"
#include "kernels/cpu/op_row_kernel.h"

namespace samba {
namespace {

constexpr OpKernels kTable = {
    .rmsnorm = rmsnorm_kernel,
    .silu_mul = silu_mul_kernel,
    .head = head_kernel,
    .round = round_kernel,
    .narrow = narrow_kernel,
    .widen = widen_kernel,
    .max = max_kernel,
    .sum_exp = sum_exp_kernel,
    .conv = conv_kernel,
    .conv_one = conv_one_kernel,
    .scan = scan_kernel,
    .gate_decay = gate_decay_kernel,
    .decay_scan = decay_scan_kernel,
    .silu = silu_kernel,
    .gated_residual = gated_residual_kernel,
    .chunk_scores = chunk_scores_kernel,
    .softmax = softmax_kernel,
    .chunk_values = chunk_values_kernel,
    .decode = decode_kernel,
    .fold = fold_kernel,
    .prefill = prefill_kernel,
};

}  // namespace
}  // namespace samba
