#include <cstdint>

#include "kernels/cpu/attention_parts.h"

namespace samba {

float* AttentionScratch::floats(size_t n) {
    constexpr size_t kAlign = 64 / sizeof(float);
    if (n > size_) {
        memory_.reset();
        memory_ = std::make_unique<float[]>(n + kAlign);
        size_ = n;
    }
    auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (64 - address % 64) % 64 / sizeof(float);
}

void append_row(const OpKernels& ops, const Run& run, const Qkv& in, const Ring& ring, int64_t head, int64_t t) {
    int64_t row = (run.position + t) % ring.n_rows;
    const View* from[2] = {&in.k, &in.v};
    char* to[2] = {ring_k(ring, run.slot, head, row), ring_v(ring, run.slot, head, row)};
    for (int i = 0; i < 2; ++i) {
        const float* x = from[i]->f32(run.first_row + t) + head * ring.head_dim;
        ops.narrow(ring.type, x, ring.head_dim, to[i]);
    }
}

void finish_head(const OpKernels& ops, DType type, const float* acc, int64_t stride, float sum, int head_dim,
                 float* y) {
    float r = 1.0f / sum;
    for (int i = 0; i < head_dim; ++i) y[i] = acc[i * stride] * r + 0.0f;  // no -0: masked keys may flip its sign
    ops.round(type == DType::kQ8_0 ? DType::kF16 : type, y, head_dim);
}

void attention(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring, View y) {
    if (s.kind == StepKind::kDecode) {
        attention_decode(pool, scratch, s, in, ring, y);
    } else {
        attention_prefill(pool, scratch, s, in, ring, y);
    }
}

}  // namespace samba
