// Products y = W x (+ bias) of weights in their file type with rows of f32 activations.
//
// The weight's type, the kind of step and the instruction set fix what a product reads (RowFormat) and the order of its
// sums; a row has the same bits in any company of rows and with any number of threads.
//   kF32   weights widened to f32, f32 sums over the columns in the lanes of a vector: F32, F16; BF16 in decode steps
//   kBf16  activations rounded to bf16, where the CPU multiplies bf16: BF16 in prefill steps; with AMX the quantised
//          types too, whose weights are rounded to bf16 (its tiles multiply 4 times as many bf16 as VNNI does bytes,
//          and products of bytes would still need their scales, one for 32)
//   kInt8  activations of 8 bits with one f32 scale per 32; exact integer dots of each block (32 values; 16 in Q6_K),
//          scaled and summed in f32 in the order of the blocks: all quantised types, without AMX with the same bits in
//          both kinds of step
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/step.h"
#include "kernels/view.h"

namespace samba {

enum class RowFormat { kF32, kBf16, kInt8 };
RowFormat row_format(DType weight, StepKind kind, Isa isa);

// Rows of activations as products of one format read them; how `converted` is laid out stands in matmul_kernels.h.
struct ActRows {
    StepKind kind = StepKind::kDecode;
    RowFormat format = RowFormat::kF32;
    int64_t rows = 0, cols = 0;
    int64_t group = 1;           // rows are converted in groups of so many
    const float* f32 = nullptr;  // kF32: the rows, `stride` values from row to row
    int64_t stride = 0;
    std::byte* converted = nullptr;  // kBf16, kInt8
};
// Shares of a weight's rows are best cut at multiples of this: share(w.rows, thread, n_threads, kTile).
inline constexpr int64_t kTile = 16;

// The products of one backend: its threads, and the work memory of a product.
class Matmul {
  public:
    explicit Matmul(ThreadPool& pool) : pool_(pool) {}
    // Room for products of up to max_rows rows of max_cols columns, and for normed rows of norm_cols.
    void reserve(int64_t max_rows, int64_t max_cols, int64_t norm_cols);

    // y = W x (+ bias), or with `add` y += W x (+ bias); with a norm, of rmsnorm(x).
    void product(StepKind kind, View x, const Norm* norm, const Weight& w, View y, bool add = false);

    // For fused stages, inside a ThreadPool::run. Whether all parts of w read one format; then every thread of the run
    // calls rows(): x (with a norm, rmsnorm(x)) in that format, ready for multiply() of whatever rows of w it wants.
    // The memory of the rows `first` of w, which it wants first, is asked for meanwhile.
    bool uniform(StepKind kind, const Weight& w) const;
    ActRows rows(StepKind kind, View x, const Norm* norm, const Weight& w, Range first, int thread,
                 int n_threads) const {
        ask_for(w, first);
        return rows(kind, row_format(w.parts.front().type, kind, pool_.isa()), x, norm, thread, n_threads);
    }

    // Asks for the memory of the first of those rows of w.
    static void ask_for(const Weight& w, Range rows);

    // One thread's part, for the parts of w that read x.format: y[t, j] = W[out.first + j] · x[t] + bias[out.first +
    // j], y (x.rows, out.size()) f32.
    void multiply(const ActRows& x, const Weight& w, Range out, View y, bool add, int thread) const;

    // A thread's memory for pieces of results: as many columns as there is room for, at least kPieceCols.
    static constexpr int64_t kPieceCols = 64;
    View piece(int thread, int64_t rows) const;

  private:
    // Few values are prepared by each thread for itself: cheaper than waiting for each other.
    static constexpr int64_t kOwnValues = 16384;

    ActRows rows(StepKind kind, RowFormat format, View x, const Norm* norm, int thread, int n_threads) const;
    ActRows rows_for(StepKind kind, RowFormat format, View x, bool normed, int owner) const;
    void prepare(const ActRows& rows, View x, const Norm* norm, Range which) const;

    // Memory: the shared rows, then each thread's own rows, panel of repacked weights, and piece.
    struct Room {
        size_t normed = 0, converted = 0;  // bytes
    };
    ThreadPool& pool_;
    bool in_file_order_ = asks_in_file_order();
    int64_t max_rows_ = 0;
    Room shared_, own_;
    size_t panel_bytes_ = 0, piece_bytes_ = 0, thread_bytes_ = 0;
    std::shared_ptr<std::byte> memory_;
};

}  // namespace samba
