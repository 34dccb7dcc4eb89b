// Decode: the ring is read once, in blocks of 64 rows by ring index, each a partial softmax. Blocks belong to segments
// fixed by their index alone; the blocks of a segment, then the segments, are combined in order. Threads take ranges of
// (run, kv head, segment). The partials of a head that is cut between threads go to memory and are combined after a
// barrier, with the same arithmetic as those of a head that one thread has read alone.
#include <cmath>
#include <numbers>

#include "kernels/cpu/attention_parts.h"

namespace samba {
namespace {

constexpr int64_t kSegmentsPerLevel = 64;

// The first 64 blocks are segments of their own, the next 128 blocks go in pairs, the next 256 in fours, …: a ring of
// any length has few segments. The block with which segment i starts:
int64_t segment_start(int64_t i) {
    int64_t level = i / kSegmentsPerLevel;
    return kSegmentsPerLevel * ((int64_t{1} << level) - 1) + ((i % kSegmentsPerLevel) << level);
}
// Segments that start before `block`.
int64_t segments_before(int64_t block) {
    int64_t i = 0;
    while (segment_start(i + kSegmentsPerLevel) < block) i += kSegmentsPerLevel;
    while (segment_start(i) < block) ++i;
    return i;
}

struct Place {  // of a share's border: the first segment after it
    size_t run = 0;
    int64_t head = 0, segment = 0;
};

// One item is one kv head of one run.
class Decode {
  public:
    Decode(Isa isa, const Step& s, const Qkv& in, const Ring& ring, View y)
        : ops_(op_kernels(isa)), s_(s), in_(in), ring_(ring), y_(y) {
        group_ = in.q.cols / in.k.cols;
        stride_ = kPartialHead + ring.head_dim;
        for (const Run& run : s.runs) {
            max_queries_ = std::max(max_queries_, run.n_rows * group_);
            max_segments_ = std::max(max_segments_, segments_before(blocks(run)));
            total_ += ring.n_kv_heads * blocks(run);
        }
    }

    // Where the share of a thread begins.
    Place border(int thread, int n_threads) const {
        int64_t left = total_ * thread / n_threads;
        for (size_t i = 0; i < s_.runs.size(); ++i) {
            int64_t n = blocks(s_.runs[i]);
            if (left < n * ring_.n_kv_heads) {
                int64_t segment = segments_before(left % n);
                bool whole = segment == segments_before(n);
                return {i, left / n + whole, whole ? 0 : segment};
            }
            left -= n * ring_.n_kv_heads;
        }
        return {s_.runs.size(), 0, 0};
    }

    // The number of the first border that cuts that item, or 0: which part of the shared memory is the item's.
    int cut(size_t run, int64_t head, int n_threads) const {
        for (int i = 1; i < n_threads; ++i) {
            Place b = border(i, n_threads);
            if (b.run == run && b.head == head && b.segment > 0) return i;
        }
        return 0;
    }
    bool any_cut(int n_threads) const {
        for (int i = 1; i < n_threads; ++i) {
            if (border(i, n_threads).segment > 0) return true;
        }
        return false;
    }

    int64_t own_floats() const { return 3 * max_queries_ * stride_; }
    int64_t cut_floats() const { return max_segments_ * max_queries_ * stride_; }

    void work(int thread, int n_threads, float* own, float* shared) const {
        Place from = border(thread, n_threads), to = border(thread + 1, n_threads);
        for (size_t i = from.run; i < s_.runs.size() && i <= to.run; ++i) {
            int64_t n = segments_before(blocks(s_.runs[i]));
            for (int64_t head = i == from.run ? from.head : 0; head < ring_.n_kv_heads; ++head) {
                bool is_last = i == to.run && head == to.head;
                int64_t first = i == from.run && head == from.head ? from.segment : 0;
                int64_t last = is_last ? to.segment : n;
                if (i == to.run && head > to.head) break;
                if (first == last) continue;
                bool whole = first == 0 && last == n;
                item(s_.runs[i], head, first, last, own,
                     whole ? nullptr : shared + (cut(i, head, n_threads) - 1) * cut_floats());
            }
        }
    }

    // The queries of the cut items, shared among the threads.
    void combine(int thread, int n_threads, float* own, const float* shared) const {
        for (int i = 1; i < n_threads; ++i) {
            Place b = border(i, n_threads);
            if (b.segment == 0 || cut(b.run, b.head, n_threads) != i) continue;
            const Run& run = s_.runs[b.run];
            int64_t n = run.n_rows * group_;
            for (int64_t query = thread; query < n; query += n_threads) {
                clear(own, 1);
                for (int64_t segment = 0; segment < segments_before(blocks(run)); ++segment) {
                    const float* partial = shared + (i - 1) * cut_floats() + (segment * n + query) * stride_;
                    ops_.fold(own, partial, ring_.head_dim);
                }
                finish(run, b.head, query, own);
            }
        }
    }

  private:
    // Blocks that hold rows after the step.
    int64_t blocks(const Run& run) const {
        return (std::min(run.position + run.n_rows, ring_.n_rows) + kKeyBlock - 1) / kKeyBlock;
    }
    void clear(float* partials, int64_t n) const {
        std::fill_n(partials, n * stride_, 0.0f);
        for (int64_t i = 0; i < n; ++i) partials[i * stride_] = kNoScore;
    }
    void finish(const Run& run, int64_t head, int64_t query, const float* partial) const {
        float* y = y_.f32(run.first_row + query / group_) + (head * group_ + query % group_) * ring_.head_dim;
        finish_head(ops_, ring_.type, partial + kPartialHead, 1, partial[1], ring_.head_dim, y);
    }

    // Segments first … last - 1 of an item; into `shared` when other threads have the others.
    void item(const Run& run, int64_t head, int64_t first, int64_t last, float* own, float* shared) const {
        int64_t n = run.n_rows * group_;
        float *total = own, *partial = own + n * stride_, *block = own + 2 * n * stride_;
        clear(total, n);
        for (int64_t i = first; i < last; ++i) {
            float* out = shared ? shared + i * n * stride_ : partial;
            segment(run, head, segment_start(i), segment_start(i + 1), out, block);
            for (int64_t query = 0; query < n && !shared; ++query) {
                ops_.fold(total + query * stride_, partial + query * stride_, ring_.head_dim);
            }
        }
        for (int64_t query = 0; query < n && !shared; ++query) finish(run, head, query, total + query * stride_);
    }

    void segment(const Run& run, int64_t head, int64_t first, int64_t last, float* out, float* block) const {
        int64_t begin = first * kKeyBlock, end = std::min(last * kKeyBlock, ring_.n_rows);
        for (int64_t t = 0; t < run.n_rows; ++t) {  // who reads a row of the ring also writes it
            int64_t row = (run.position + t) % ring_.n_rows;
            if (row >= begin && row < end) append_row(ops_, run, in_, ring_, head, t);
        }
        bool one_block = end - begin <= kKeyBlock;
        clear(out, run.n_rows * group_);
        for (int64_t row = begin; row < end; row += kKeyBlock) {
            for (int64_t t = 0, next; t < run.n_rows; t = next) {  // rows that see the same keys together
                Range keys = seen(run.position + t, row, std::min(row + kKeyBlock, end));
                for (next = t + 1; next < run.n_rows; ++next) {
                    Range other = seen(run.position + next, row, std::min(row + kKeyBlock, end));
                    if (other.first != keys.first || other.last != keys.last) break;
                }
                if (keys.size() <= 0) continue;
                float* partials = out + t * group_ * stride_;
                score(run, head, t, next - t, keys, one_block ? partials : block);
                for (int64_t i = 0; i < (next - t) * group_ && !one_block; ++i) {
                    ops_.fold(partials + i * stride_, block + i * stride_, ring_.head_dim);
                }
            }
        }
    }

    // The rows of the ring's rows first … last - 1 that the token of `position` sees: one range, since the rows that it
    // does not see are together and more than a block.
    Range seen(int64_t position, int64_t first, int64_t last) const {
        int64_t n = position + 1 - first_seen(ring_, position), end = position % ring_.n_rows + 1, begin = end - n;
        if (begin >= 0) return {std::max(first, begin), std::min(last, end)};
        begin += ring_.n_rows;  // rows 0 … end - 1 and begin … n_rows - 1
        if (first < end) return {first, last <= begin ? std::min(last, end) : last};
        return {std::max(first, begin), last};
    }

    // Rows t … t + n_rows - 1 of a run with keys that all of them see.
    void score(const Run& run, int64_t head, int64_t t, int64_t n_rows, Range keys, float* out) const {
        constexpr int kAtOnce = 64;
        const float* q[kAtOnce];
        DecodeArgs a;
        a.k = ring_k(ring_, run.slot, head, keys.first);
        a.v = ring_v(ring_, run.slot, head, keys.first);
        a.type = ring_.type;
        a.row_bytes = static_cast<int64_t>(ring_.row_bytes());
        a.n_keys = static_cast<int>(keys.size());
        a.q = q;
        a.head_dim = ring_.head_dim;
        a.scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(ring_.head_dim)));
        for (int64_t first = 0; first < n_rows * group_; first += kAtOnce) {
            a.n_queries = static_cast<int>(std::min<int64_t>(kAtOnce, n_rows * group_ - first));
            for (int64_t i = first; i < first + a.n_queries; ++i) {
                q[i - first] =
                    in_.q.f32(run.first_row + t + i / group_) + (head * group_ + i % group_) * ring_.head_dim;
            }
            a.out = out + first * stride_;
            ops_.decode(a);
        }
    }

    const OpKernels& ops_;
    const Step& s_;
    const Qkv& in_;
    const Ring& ring_;
    View y_;
    int64_t group_ = 0, stride_ = 0, max_queries_ = 0, max_segments_ = 0, total_ = 0;
};

}  // namespace

void attention_decode(ThreadPool& pool, AttentionScratch& scratch, const Step& s, const Qkv& in, const Ring& ring,
                      View y) {
    Decode decode(pool.isa(), s, in, ring, y);
    int n_threads = pool.size();
    int64_t own = (decode.own_floats() + 15) / 16 * 16;
    float* memory = scratch.floats(static_cast<size_t>(n_threads * own + (n_threads - 1) * decode.cut_floats()));
    float* shared = memory + n_threads * own;
    bool any_cut = decode.any_cut(n_threads);
    pool.run([&](int thread, int n) {
        decode.work(thread, n, memory + thread * own, shared);
        if (!any_cut) return;
        pool.barrier();
        decode.combine(thread, n, memory + thread * own, shared);
    });
}

}  // namespace samba
