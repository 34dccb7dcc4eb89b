// The rotary embedding of positions without end, and what else happens to a head of q, k or v before attention.
#include <cmath>
#include <numbers>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {

RopeFrequencies::RopeFrequencies(int dimension, double base) : dim(dimension), theta(base) {
    for (int i = 0; i < dim / 2; ++i) {
        long double turn =
            std::pow(static_cast<long double>(theta), -2.0L * i / dim) / (2 * std::numbers::pi_v<long double>);
        turn -= std::floor(turn);  // theta below 1 gives more than a turn a position
        turns.push_back(static_cast<uint64_t>(std::ldexp(turn, 64)));
    }
}

void rope_row(const RopeFrequencies& f, int64_t position, float* cos, float* sin) {
    for (size_t i = 0; i < f.turns.size(); ++i) {
        auto turn = static_cast<int64_t>(static_cast<uint64_t>(position) * f.turns[i]);  // -1/2 … 1/2 turn in 2^-64
        double angle = static_cast<double>(turn) * (0x1p-63 * std::numbers::pi);
        cos[i] = static_cast<float>(std::cos(angle));
        sin[i] = static_cast<float>(std::sin(angle));
    }
}

void rope_rows(const Step& s, const RopeFrequencies& f, const RopeTable& table, Range rows) {
    for (const Run& run : s.runs) {
        int64_t first = std::max<int64_t>(rows.first, run.first_row);
        int64_t last = std::min<int64_t>(rows.last, run.first_row + run.n_rows);
        for (int64_t i = first; i < last; ++i) {
            rope_row(f, run.position + i - run.first_row, table.cos.f32(i), table.sin.f32(i));
        }
    }
}

void head_norm_rope(Isa isa, const QkvWeights& w, const RopeTable* rope, DType type, const Qkv& qkv, Range items) {
    const OpKernels& ops = op_kernels(isa);
    if (type == DType::kQ8_0) type = DType::kF16;
    int n_heads = w.n_heads + 2 * w.n_kv_heads;
    for (int64_t item = items.first; item < items.last; ++item) {
        int64_t row = item / n_heads, head = item % n_heads;
        bool is_q = head < w.n_heads, is_k = !is_q && head < w.n_heads + w.n_kv_heads;
        const View& part = is_q ? qkv.q : is_k ? qkv.k : qkv.v;
        int64_t index = is_q ? head : (head - w.n_heads) % w.n_kv_heads;
        HeadArgs a;
        a.x = part.f32(row) + index * w.head_dim;
        a.head_dim = w.head_dim;
        if (is_q || is_k) {
            const Norm& norm = is_q ? w.q_norm : w.k_norm;
            if (!norm.weight.empty()) a.norm = norm.weight.f32();
            a.eps = norm.eps;
            if (rope) {
                a.cos = rope->cos.f32(row);
                a.sin = rope->sin.f32(row);
                a.dim = rope->dim;
            }
            ops.head(a);
        }
        ops.round(type, a.x, w.head_dim);
    }
}

void head_norm_rope(ThreadPool& pool, const QkvWeights& w, const RopeTable* rope, DType type, const Qkv& qkv) {
    int64_t items = qkv.q.rows * (w.n_heads + 2 * w.n_kv_heads);
    pool.run([&](int thread, int n) { head_norm_rope(pool.isa(), w, rope, type, qkv, share(items, thread, n)); });
}

}  // namespace samba
