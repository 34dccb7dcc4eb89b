// Prefill: tiles of 64 queries (rows times the heads that share a kv head) pass over blocks of 64 absolute positions
// with a running softmax. Keys before the step come from the ring, the step's own from its activations; these are
// appended at the end, since they may overwrite rows that the step's first tokens still see.
#include <cmath>
#include <cstring>
#include <numbers>

#include "kernels/cpu/attention_parts.h"

namespace samba {
namespace {

constexpr int kTilesAtOnce = 4;  // that share one widening of a block of keys

// Memory of one tile: q and acc (head_dim, kQueryTile), and three vectors of kQueryTile.
struct Tile {
    float *q, *acc, *max, *sum;
    int64_t first_query, n_queries;  // of the run's rows times group
    int64_t first_position, last_position;
};

class Prefill {
  public:
    Prefill(Isa isa, const Step& s, const Qkv& in, const Ring& ring, View y)
        : ops_(op_kernels(isa)), s_(s), in_(in), ring_(ring), y_(y) {
        group_ = in.q.cols / in.k.cols;
        for (const Run& run : s.runs) n_tiles_ += tiles(run) * ring.n_kv_heads;
    }

    int64_t n_tiles() const { return n_tiles_; }
    int64_t floats() const {
        int64_t block = int64_t{kKeyBlock} * ring_.head_dim;
        return kTilesAtOnce * tile_floats() + 2 * block + (kKeyBlock + 2) * kQueryTile;
    }

    void work(Range share, float* memory) const {
        int64_t base = 0;
        for (const Run& run : s_.runs) {
            int64_t per_head = tiles(run);
            for (int64_t head = 0; head < ring_.n_kv_heads; ++head, base += per_head) {
                int64_t last = std::min(share.last - base, per_head);
                for (int64_t i = std::max<int64_t>(0, share.first - base); i < last; i += kTilesAtOnce) {
                    attend(run, head, i, static_cast<int>(std::min<int64_t>(kTilesAtOnce, last - i)), memory);
                }
            }
        }
    }

    // A Q8_0 ring rounds twice: rows of the step must look as they will in the ring.
    void round_rows(Range rows) const {
        char blocks[row_bytes(DType::kQ8_0, 256)];
        for (int64_t i = rows.first; i < rows.last; ++i) {
            for (int64_t head = 0; head < 2 * ring_.n_kv_heads; ++head) {
                float* x = (head % 2 ? in_.v : in_.k).f32(i) + head / 2 * ring_.head_dim;
                ops_.narrow(DType::kQ8_0, x, ring_.head_dim, blocks);
                ops_.widen(DType::kQ8_0, blocks, ring_.head_dim, x);
            }
        }
    }

    void append(Range rows) const {
        for (const Run& run : s_.runs) {
            int64_t oldest = std::max<int64_t>(0, run.n_rows - ring_.n_rows);
            int64_t first = std::max(rows.first - run.first_row, oldest);
            int64_t last = std::min<int64_t>(rows.last - run.first_row, run.n_rows);
            for (int64_t head = 0; head < ring_.n_kv_heads; ++head) {
                for (int64_t t = first; t < last; ++t) append_row(ops_, run, in_, ring_, head, t);
            }
        }
    }

  private:
    int64_t tiles(const Run& run) const { return (run.n_rows * group_ + kQueryTile - 1) / kQueryTile; }
    int64_t tile_floats() const { return (2 * ring_.head_dim + 2) * int64_t{kQueryTile}; }

    Tile load(const Run& run, int64_t head, int64_t index, float* memory) const {
        Tile tile;
        tile.q = memory;
        tile.acc = tile.q + ring_.head_dim * kQueryTile;
        tile.max = tile.acc + ring_.head_dim * kQueryTile;
        tile.sum = tile.max + kQueryTile;
        tile.first_query = index * kQueryTile;
        tile.n_queries = std::min<int64_t>(kQueryTile, run.n_rows * group_ - tile.first_query);
        tile.first_position = run.position + tile.first_query / group_;
        tile.last_position = run.position + (tile.first_query + tile.n_queries - 1) / group_;
        std::memset(memory, 0, static_cast<size_t>(tile_floats()) * sizeof(float));
        std::fill_n(tile.max, kQueryTile, kNoScore);
        auto scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(ring_.head_dim)));
        for (int64_t i = 0; i < tile.n_queries; ++i) {
            int64_t query = tile.first_query + i;
            const float* q =
                in_.q.f32(run.first_row + query / group_) + (head * group_ + query % group_) * ring_.head_dim;
            for (int64_t d = 0; d < ring_.head_dim; ++d) tile.q[d * kQueryTile + i] = q[d] * scale;
        }
        return tile;
    }

    // k and v of positions first … last - 1, all in one block, at their places in it.
    void load_keys(const Run& run, int64_t head, int64_t first, int64_t last, float* k, float* v) const {
        int64_t dim = ring_.head_dim;
        for (int64_t p = first; p < last;) {
            int64_t at = p % kKeyBlock * dim, n = 1;
            if (p < run.position) {
                int64_t row = p % ring_.n_rows;
                n = std::min({last - p, run.position - p, ring_.n_rows - row});
                ops_.widen(ring_.type, ring_k(ring_, run.slot, head, row), n * dim, k + at);
                ops_.widen(ring_.type, ring_v(ring_, run.slot, head, row), n * dim, v + at);
            } else {
                int64_t row = run.first_row + p - run.position;
                auto bytes = static_cast<size_t>(dim) * sizeof(float);
                std::memcpy(k + at, in_.k.f32(row) + head * dim, bytes);
                std::memcpy(v + at, in_.v.f32(row) + head * dim, bytes);
            }
            p += n;
        }
    }

    void attend(const Run& run, int64_t head, int64_t first_tile, int n, float* memory) const {
        Tile tiles[kTilesAtOnce];
        for (int i = 0; i < n; ++i) tiles[i] = load(run, head, first_tile + i, memory + i * tile_floats());
        float* k = memory + kTilesAtOnce * tile_floats();
        float* v = k + int64_t{kKeyBlock} * ring_.head_dim;
        float* rest = v + int64_t{kKeyBlock} * ring_.head_dim;
        int64_t begin = first_seen(ring_, tiles[0].first_position), end = tiles[n - 1].last_position + 1;
        for (int64_t block = begin / kKeyBlock * kKeyBlock; block < end; block += kKeyBlock) {
            load_keys(run, head, std::max(block, begin), std::min(block + kKeyBlock, end), k, v);
            for (int i = 0; i < n; ++i) step(tiles[i], run, block, k, v, rest);
        }
        for (int i = 0; i < n; ++i) finish(tiles[i], run, head);
    }

    // One block of keys for one tile.
    void step(const Tile& tile, const Run& run, int64_t block, const float* k, const float* v, float* memory) const {
        int64_t first = std::max<int64_t>(0, first_seen(ring_, tile.first_position) - block);
        int64_t last = std::min<int64_t>(kKeyBlock, tile.last_position + 1 - block);
        if (first >= last) return;
        float *lo = memory + kKeyBlock * kQueryTile, *hi = lo + kQueryTile;
        PrefillArgs a;
        a.masked = first_seen(ring_, tile.last_position) > block + first || tile.first_position < block + last - 1;
        for (int64_t i = 0; i < kQueryTile && a.masked; ++i) {  // lanes without a query see nothing
            int64_t position = run.position + (tile.first_query + i) / group_;
            lo[i] = i < tile.n_queries ? static_cast<float>(first_seen(ring_, position) - block) : 1.0f;
            hi[i] = i < tile.n_queries ? static_cast<float>(position - block) : 0.0f;
        }
        a.k = k;
        a.v = v;
        a.head_dim = ring_.head_dim;
        a.n_queries = static_cast<int>(tile.n_queries);
        a.first_key = static_cast<int>(first);
        a.last_key = static_cast<int>(last);
        a.first_seen = lo;
        a.last_seen = hi;
        a.q = tile.q;
        a.acc = tile.acc;
        a.max = tile.max;
        a.sum = tile.sum;
        a.p = memory;
        ops_.prefill(a);
    }

    void finish(const Tile& tile, const Run& run, int64_t head) const {
        for (int64_t i = 0; i < tile.n_queries; ++i) {
            int64_t query = tile.first_query + i;
            float* y = y_.f32(run.first_row + query / group_) + (head * group_ + query % group_) * ring_.head_dim;
            finish_head(ops_, ring_.type, tile.acc + i, kQueryTile, tile.sum[i], ring_.head_dim, y);
        }
    }

    const OpKernels& ops_;
    const Step& s_;
    const Qkv& in_;
    const Ring& ring_;
    View y_;
    int64_t group_ = 0, n_tiles_ = 0;
};

}  // namespace

void attention_prefill(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring,
                       View y) {
    Prefill prefill(pool.isa(), s, in, ring, y);
    float* memory = scratch.floats(static_cast<size_t>(prefill.floats() * pool.size()));
    pool.run([&](int thread, int n) {
        if (ring.type == DType::kQ8_0) {
            prefill.round_rows(share(in.k.rows, thread, n));
            pool.barrier();
        }
        prefill.work(share(prefill.n_tiles(), thread, n), memory + thread * prefill.floats());
        pool.barrier();
        prefill.append(share(in.k.rows, thread, n));
    });
}

}  // namespace samba
