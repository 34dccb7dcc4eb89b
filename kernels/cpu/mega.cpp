// Mega: its keys and queries, and attention within chunks. The rows of a run go through the ring in segments of up to
// 64 within one chunk: what they overwrite is older than any row that they see, or that going back would.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {
namespace {

constexpr int kSegment = kRingSlack;

struct Segment {
    const Qkv& in;
    const ChunkRing& ring;
    View y;
    float scale;
    int slot, first_row, n_rows;  // of the step
    int64_t position;             // of the first row
    int64_t first_key;            // the chunk's first position
    float* scores;                // (n_rows, score_stride)
    int64_t score_stride;

    int64_t n_keys() const { return position - first_key + n_rows; }  // that the last row sees
    char* key(int64_t at) const {
        return ring.k + slot * ring.slot_stride + static_cast<size_t>(at % ring.n_rows) * ring.key_bytes();
    }
    char* value(int64_t at) const {
        return ring.v + slot * ring.slot_stride + static_cast<size_t>(at % ring.n_rows) * ring.value_bytes();
    }
};

void append(const OpKernels& ops, const Segment& g, Range rows) {
    for (int64_t r = rows.first; r < rows.last; ++r) {
        ops.narrow(g.ring.type, g.in.k.f32(g.first_row + r), g.ring.key_dim, g.key(g.position + r));
        ops.narrow(g.ring.type, g.in.v.f32(g.first_row + r), g.ring.value_dim, g.value(g.position + r));
    }
}

// The scores of keys `blocks` · kKeyBlock.
void score(const OpKernels& ops, const Segment& g, Range blocks) {
    alignas(64) float keys[kKeyBlock * kMaxKeyDim];
    for (int64_t block = blocks.first; block < blocks.last; ++block) {
        int64_t first = block * kKeyBlock;
        int n = static_cast<int>(std::min<int64_t>(kKeyBlock, g.n_keys() - first));
        for (int i = 0; i < n; ++i) {
            ops.widen(g.ring.type, g.key(g.first_key + first + i), g.ring.key_dim, keys + i * g.ring.key_dim);
        }
        ops.chunk_scores({g.in.q.f32(g.first_row), g.in.q.stride, keys, g.n_rows, n, g.ring.key_dim, g.scale,
                          g.scores + first, g.score_stride});
    }
}

// Columns `tiles` · kChunkCols of the output; the values are summed in the order of their positions.
void attend(const OpKernels& ops, const Segment& g, Range tiles) {
    alignas(64) float values[kKeyBlock * kChunkCols], acc[kSegment * kChunkCols], row[kChunkCols];
    size_t value_bytes = static_cast<size_t>(info(g.ring.type).block_bytes);
    for (int64_t tile = tiles.first; tile < tiles.last; ++tile) {
        int64_t col = tile * kChunkCols, n_cols = std::min<int64_t>(kChunkCols, g.ring.value_dim - col);
        std::fill(acc, acc + g.n_rows * kChunkCols, 0.0f);
        std::fill(std::begin(values), std::end(values), 0.0f);
        for (int64_t first = 0; first < g.n_keys(); first += kKeyBlock) {
            int n = static_cast<int>(std::min<int64_t>(kKeyBlock, g.n_keys() - first));
            for (int i = 0; i < n; ++i) {
                const char* from = g.value(g.first_key + first + i) + static_cast<size_t>(col) * value_bytes;
                ops.widen(g.ring.type, from, n_cols, values + i * kChunkCols);
            }
            int64_t seen = g.position - g.first_key + 1 - first;
            ops.chunk_values({g.scores + first, g.score_stride, values, g.n_rows, n, seen, acc});
        }
        for (int r = 0; r < g.n_rows; ++r) {
            std::copy_n(acc + r * kChunkCols, n_cols, row);
            ops.round(g.ring.type, row, n_cols);
            std::copy_n(row, n_cols, g.y.f32(g.first_row + r) + col);
        }
    }
}

}  // namespace

void chunk_attention(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const ChunkRing& ring,
                     float scale, View y) {
    const OpKernels& ops = op_kernels(pool.isa());
    int64_t stride = (ring.chunk + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
    float* scores = scratch.floats(static_cast<size_t>(kSegment * stride));
    pool.run([&](int thread, int n) {
        for (const Run& run : s.runs) {
            for (int64_t t = 0; t < run.n_rows;) {
                int64_t position = run.position + t, in_chunk = position % ring.chunk;
                auto rows = static_cast<int>(std::min<int64_t>({kSegment, run.n_rows - t, ring.chunk - in_chunk}));
                Segment g{in,     ring,     y,
                          scale,  run.slot, static_cast<int>(run.first_row + t),
                          rows,   position, position - in_chunk,
                          scores, stride};
                append(ops, g, share(rows, thread, n));
                pool.barrier();
                score(ops, g, share((g.n_keys() + kKeyBlock - 1) / kKeyBlock, thread, n));
                pool.barrier();
                Range mine = share(rows, thread, n);
                for (int64_t r = mine.first; r < mine.last; ++r) ops.softmax(scores + r * stride, in_chunk + r + 1);
                pool.barrier();
                attend(ops, g, share((ring.value_dim + kChunkCols - 1) / kChunkCols, thread, n));
                pool.barrier();
                t += rows;
            }
        }
    });
}

void mega_keys(ThreadPool& pool, View z, const MegaKeys& w, const RopeTable& rope, DType type, View q, View k) {
    const OpKernels& ops = op_kernels(pool.isa());
    int64_t dim = z.cols;
    float root = std::sqrt(static_cast<float>(dim));
    pool.run([&](int thread, int n) {
        Range rows = share(z.rows, thread, n);
        for (int64_t t = rows.first; t < rows.last; ++t) {
            ops.silu(z.f32(t), dim);
            for (int side = 0; side < 2; ++side) {
                float* to = (side ? k : q).f32(t);
                const float *scale = w.scale.f32() + side * dim, *shift = w.shift.f32() + side * dim;
                const float* bias = (side ? w.bias_k : w.bias_q).f32();
                for (int64_t i = 0; i < dim; ++i) {
                    to[i] = z.f32(t)[i] * scale[i] + shift[i];
                    to[dim + i] = side ? bias[i] : bias[i] * root;
                }
                HeadArgs turn;
                turn.x = to + dim;
                turn.head_dim = turn.dim = static_cast<int>(dim);
                turn.cos = rope.cos.f32(t);
                turn.sin = rope.sin.f32(t);
                ops.head(turn);
                ops.round(type, to, 2 * dim);
            }
        }
    });
}

void silu(ThreadPool& pool, View y) {
    pool.run([&](int thread, int n) {
        Range cols = share(y.cols, thread, n, kChannelTile);
        for (int64_t t = 0; t < y.rows; ++t) op_kernels(pool.isa()).silu(y.f32(t) + cols.first, cols.size());
    });
}

void mul_silu(ThreadPool& pool, View y, View gate) {
    pool.run([&](int thread, int n) {
        Range cols = share(y.cols, thread, n, kChannelTile);
        for (int64_t t = 0; t < y.rows; ++t) {
            float* to = y.f32(t) + cols.first;
            silu_mul_row(pool.isa(), gate.f32(t) + cols.first, to, cols.size(), to);
        }
    });
}

void gated_residual(ThreadPool& pool, View u, View h0, View h, View x) {
    pool.run([&](int thread, int n) {
        Range cols = share(x.cols, thread, n, kChannelTile);
        for (int64_t t = 0; t < x.rows; ++t) {
            int64_t c = cols.first;
            op_kernels(pool.isa()).gated_residual(u.f32(t) + c, h0.f32(t) + c, h.f32(t) + c, cols.size(), x.f32(t) + c);
        }
    });
}

}  // namespace samba
