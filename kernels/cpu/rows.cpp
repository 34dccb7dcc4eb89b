// Row-wise ops: norms, gates, look-ups.
#include <cstring>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"
#include "kernels/quant.h"

namespace samba {

void rmsnorm_row(Isa isa, const float* x, const float* weight, float eps, int64_t n, float* y) {
    op_kernels(isa).rmsnorm(x, weight, eps, n, y);
}

void silu_mul_row(Isa isa, const float* gate, const float* up, int64_t n, float* h) {
    op_kernels(isa).silu_mul(gate, up, n, h);
}

void rmsnorm(Isa isa, View x, const Norm& norm, View y, Range rows) {
    for (int64_t i = rows.first; i < rows.last; ++i) {
        rmsnorm_row(isa, x.f32(i), norm.weight.f32(), norm.eps, x.cols, y.f32(i));
    }
}

void rmsnorm(ThreadPool& pool, View x, const Norm& norm, View y) {
    pool.run([&](int thread, int n) { rmsnorm(pool.isa(), x, norm, y, share(x.rows, thread, n)); });
}

void silu_mul(ThreadPool& pool, View gate_up, View h) {
    pool.run([&](int thread, int n) {  // few rows: cut by columns, many: by rows
        bool by_rows = h.rows >= 4 * n;
        Range rows = by_rows ? share(h.rows, thread, n) : Range{0, h.rows};
        Range cols = by_rows ? Range{0, h.cols} : share(h.cols, thread, n, kChannelTile);
        for (int64_t i = rows.first; i < rows.last; ++i) {
            const float* gate = gate_up.f32(i) + cols.first;
            silu_mul_row(pool.isa(), gate, gate + h.cols, cols.size(), h.f32(i) + cols.first);
        }
    });
}

void gather_rows(View x, std::span<const int> rows, View y) {
    for (size_t i = 0; i < rows.size(); ++i) {
        std::memcpy(y.f32(static_cast<int64_t>(i)), x.f32(rows[i]), static_cast<size_t>(x.cols) * sizeof(float));
    }
}

void embed_row(const Weight& table, int32_t token, float* x) {
    int64_t row = token;
    const Weight::Part* part = table.parts.data();
    while (row >= part->rows) row -= part++->rows;
    const char* data =
        static_cast<const char*>(part->data) + static_cast<size_t>(row) * row_bytes(part->type, table.cols);
    dequantize_row(part->type, data, x, table.cols);
}

}  // namespace samba
