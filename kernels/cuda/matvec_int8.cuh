// The products of matvec.cuh with quantised weights: integers times integers. The activations become 8-bit integers
// with one scale per 32 of them (as on the CPU, but rounded in one step with the scaling; docs/adr/0008), in the order
// of bytes in which a format unpacks its weights, so that unpacking is a shift and a mask and a block of 32 columns one
// instruction of the tensor cores. Here are those of 2 to 16 rows.
//
// A block's integer sum, times its scale where that is an integer too (K types), is below 2^24: exact as a float.
// Formats with an offset (value = q - offset) start their sums that much lower instead of subtracting. Minima (Q4_K,
// Q5_K) meet the blocks' sums of activations in a product of their own: each sum is three bf16, exactly its 24 bits.
#pragma once
#include <type_traits>

#include "kernels/cuda/matvec_int8_row.cuh"

namespace samba::cuda {

// A shared-memory copy of up to kRows rows (8 or 16), for one format. Blocks beyond the columns are zero.
//   values: per row, pair of blocks, t: a lane's eight bytes of both blocks
//   sums:   per row, group, t: of blocks 2t and 2t + 1
//   starts: per block and pair of rows; scales: per pair of rows and block
template <class F, int kRows>
class Int8Activations {
  public:
    static constexpr int kEights = (kRows + 7) / 8;
    static constexpr bool kAlwaysStaged = true, kStarts = F::kOffset != 0;

    __host__ __device__ static int blocks(int cols) { return (cols / 32 + F::kBlocks - 1) / F::kBlocks * F::kBlocks; }
    // Neighbouring rows start in different halves of the banks, pairs of rows in different eighths.
    __host__ __device__ static int value_stride(int cols) { return (blocks(cols) * 32 + 127) / 128 * 128 + 64; }
    __host__ __device__ static int scale_stride(int cols) { return (blocks(cols) * 8 + 127) / 128 * 128 + 16; }
    __host__ __device__ static int sum_stride(int cols) { return F::kMins ? (blocks(cols) / F::kBlocks | 1) * 64 : 0; }
    __host__ __device__ static int start_bytes() { return !kStarts ? 0 : F::kSplit ? 16 : 8; }
    static size_t bytes(int cols, int n_rows) {
        const int pairs = (n_rows + 1) / 2;
        return static_cast<size_t>(n_rows * (value_stride(cols) + sum_stride(cols)) +
                                   pairs * (scale_stride(cols) + blocks(cols) * start_bytes()));
    }

    // base: where they come to. From there on a lane reads rows lane / 4 and 8 more (or the last one, whose sums nobody
    // asks for), and the factors of rows 2t and 2t + 1 and 8 more.
    __device__ __forceinline__ Int8Activations(const MatvecArgs& a, unsigned char* base, bool = false)
        : base_(base), n_pairs_((a.n_rows + 1) / 2) {
        const int cols = a.w.cols, lane = threadIdx.x & 31, t = lane & 3;
        sums_ = a.n_rows * value_stride(cols);
        scales_ = sums_ + a.n_rows * sum_stride(cols);
        starts_ = scales_ + n_pairs_ * scale_stride(cols);
        keep(sums_), keep(scales_), keep(starts_);
#pragma unroll
        for (int e = 0; e < kEights; e++) {
            const int row = min(lane / 4 + 8 * e, a.n_rows - 1);
            value_at_[e] = row * value_stride(cols) + 16 * t;
            sum_at_[e] = sums_ + row * sum_stride(cols) + 16 * t;
            pair_[e] = min(t + 4 * e, n_pairs_ - 1);
            scale_at_[e] = scales_ + pair_[e] * scale_stride(cols);
            keep(value_at_[e]), keep(sum_at_[e]), keep(scale_at_[e]);
        }
    }
    __device__ __forceinline__ void bring(const MatvecArgs& a, float* squares) {
        if (a.prepared != nullptr) {
            copy_prepared(a, squares_at(a), base_, squares);
        } else {
            stage_rows(a, 0, a.n_rows, squares);
        }
        __syncthreads();
    }

    // The same of rows without a norm, which no other kernel has prepared.
    __device__ __forceinline__ void bring_plain(const MatvecArgs& a) {
        stage<PlainEight<F>>(a, 0, a.n_rows, nullptr);
        __syncthreads();
    }

    // Rows first … of those that the product is given, and their sums of squares, to `squares`.
    __device__ __forceinline__ void stage_rows(const MatvecArgs& a, int first, int n, float* squares) {
        a.norm != nullptr ? stage<NormedEight<F>>(a, first, n, squares) : stage<PlainEight<F>>(a, first, n, squares);
    }
    // Behind the activations that another kernel makes (quantize_rows_kernel): the squares.
    __device__ __forceinline__ float* squares_after(const MatvecArgs& a) const {
        return reinterpret_cast<float*>(base_ + squares_at(a));
    }

    // Of blocks `block` (even) and the next.
    __device__ __forceinline__ uint4 values(int e, int block) const {
        return *reinterpret_cast<const uint4*>(base_ + value_at_[e] + 32 * block);
    }
    // The scales of both rows in block `block` (even), and in the next.
    __device__ __forceinline__ float4 scales(int e, int block) const {
        return *reinterpret_cast<const float4*>(base_ + scale_at_[e] + 8 * block);
    }
    // Where the integer sums of both rows start; of a split block's first and second half.
    __device__ __forceinline__ int2 start(int e, int block) const {
        return *reinterpret_cast<const int2*>(base_ + starts_ + 8 * (block * n_pairs_ + pair_[e]));
    }
    __device__ __forceinline__ int4 starts(int e, int block) const {
        return *reinterpret_cast<const int4*>(base_ + starts_ + 16 * (block * n_pairs_ + pair_[e]));
    }
    // The sums of blocks 2t and 2t + 1 of a group, as pairs of bf16: high, middle, low parts.
    __device__ __forceinline__ uint4 sums(int e, int group) const {
        return *reinterpret_cast<const uint4*>(base_ + sum_at_[e] + 64 * group);
    }

  private:
    // Some blocks of any of the rows are on their way at once. Each warp brings the same blocks of every row, so a
    // row's sum of squares does not depend on its company.
    template <class Eight>
    __device__ __forceinline__ void stage(const MatvecArgs& a, int first_row, int n_rows, float* squares) {
        const int team = threadIdx.x / 4, t = threadIdx.x & 3, warp = threadIdx.x / 32, lane = threadIdx.x & 31;
        const int n_blocks = blocks(a.w.cols), n_teams = blockDim.x / 4;
        const int n_strips = (n_blocks - warp * 8 + n_teams - 1) / n_teams;
        const int n_items = max(n_strips, 0) * n_rows;
        if (a.norm != nullptr && lane < n_rows) store_squares(squares + (first_row + lane) * kMaxWarps, warp, 0);
        __syncwarp();
        constexpr int kAhead = 4;
        int block = team, row = first_row;  // of the next item to load
        for (int item = 0; item < n_items; item += kAhead) {
            Eight eights[kAhead];
            int at_block[kAhead], at_row[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                at_block[k] = block, at_row[k] = row;
                if (item + k < n_items && 32 * block < a.w.cols) eights[k].load(Eight::from(a, row, block, t));
                if (++row == first_row + n_rows) row = first_row, block += n_teams;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                if (item + k >= n_items) break;
                float v[8] = {}, square = 0;
                float4 norm[2];
                if (32 * at_block[k] < a.w.cols) {
                    Eight::load_norm(a, at_block[k], t, norm);
                    square = eights[k].take(a, norm, v);
                }
                const EightBytes<F> bytes(v);
                if (at_block[k] < n_blocks) put(a, at_row[k], at_block[k], bytes);
                if (a.norm == nullptr) continue;
                square = warp_sum(square);
                if (lane == 0) squares[at_row[k] * kMaxWarps + warp] += square;
            }
        }
    }

    __device__ __forceinline__ void put(const MatvecArgs& a, int row, int block, const EightBytes<F>& bytes) {
        const int t = threadIdx.x & 3, cols = a.w.cols;
        unsigned char* values = base_ + row * value_stride(cols) + block / 2 * 64 + 16 * t + 8 * (block & 1);
        *reinterpret_cast<uint2*>(values) = make_uint2(bytes.word[0], bytes.word[1]);
        if (t != 0) return;
        reinterpret_cast<float*>(base_ + scales_ + row / 2 * scale_stride(cols))[2 * block + (row & 1)] = bytes.scale;
        if constexpr (F::kMins) {
            unsigned char* sums = base_ + sums_ + row * sum_stride(cols) + block / 8 * 64 + block % 8 / 2 * 16;
            bytes.put_sum(reinterpret_cast<bfloat*>(sums) + (block & 1));
        }
        if constexpr (kStarts) {
            auto* start =
                reinterpret_cast<int*>(base_ + starts_ + (block * n_pairs_ + row / 2) * start_bytes()) + (row & 1);
            start[0] = -F::kOffset * bytes.sum[0];
            if constexpr (F::kSplit) start[2] = -F::kOffset * bytes.sum[1];
        }
    }

    __device__ __forceinline__ int squares_at(const MatvecArgs& a) const {
        return starts_ + n_pairs_ * blocks(a.w.cols) * start_bytes();
    }

    unsigned char* base_;
    int n_pairs_, sums_, scales_, starts_;  // where those begin
    int pair_[kEights], value_at_[kEights], sum_at_[kEights], scale_at_[kEights];
};

// What the products' blocks would otherwise each make for themselves: a block a row.
template <class F, int kRows>
__global__ void __launch_bounds__(kMaxWarps * 32)
    quantize_rows_kernel(const __grid_constant__ MatvecArgs a, unsigned char* to) {
    grid_dependents();
    grid_wait();
    Int8Activations<F, kRows> x(a, to);
    x.stage_rows(a, blockIdx.x, 1, x.squares_after(a));
}

// kMost: rows of activations, 8 or 16.
template <class F, int kMost>
struct Int8Product : Int8Groups<F> {
    static constexpr int kRows = kMost, kEights = (kRows + 7) / 8;
    using Raw = typename F::Raw;
    using Activations = Int8Activations<F, kRows>;
    struct Columns {};  // are all in shared memory
    static __device__ __forceinline__ Columns columns(const Activations&, int) { return {}; }
    static constexpr bool kQuarters = false;

    static constexpr bool kPrepares = true;
    static constexpr auto kPrepare = quantize_rows_kernel<F, kRows>;

    // Row g of the weights times activation rows 2t and 2t + 1: [e][0], [e][1]; row g + 8: [e][2], [e][3]; of each
    // pair of blocks of all groups, as a single row's lanes have them.
    struct Sum {
        float of_pair[F::kBlocks / 2][kEights][4] = {};
    };
    static __device__ __forceinline__ void add(const Raw& raw, const Activations& x, Columns, int group, Sum& sum) {
#pragma unroll
        for (int b = 0; b < F::kBlocks; b += 2) {
            const uint2 p[2] = {F::words(raw, b, 0), F::words(raw, b + 1, 0)},
                        q[2] = {F::words(raw, b, 1), F::words(raw, b + 1, 1)};
#pragma unroll
            for (int e = 0; e < kEights; e++) {
                const uint4 v = x.values(e, group * F::kBlocks + b);
                const float4 d = x.scales(e, group * F::kBlocks + b);
                float inner[4] = {};
                add_one(raw, x, b, group, e, p[0], q[0], make_uint2(v.x, v.y), make_float2(d.x, d.y), inner);
                add_one(raw, x, b + 1, group, e, p[1], q[1], make_uint2(v.z, v.w), make_float2(d.z, d.w), inner);
                add_scaled(sum.of_pair[b / 2][e], inner, F::group_scale(raw, 0), F::group_scale(raw, 1));
            }
        }
        if constexpr (F::kMins) {
#pragma unroll
            for (int e = 0; e < kEights; e++) {
                float mins[4] = {0, 0, 0, 0};
                add_mins<F>(mins, raw, x.sums(e, group));
                add_scaled(sum.of_pair[0][e], mins, -F::group_min(raw, 0), -F::group_min(raw, 1));
            }
        }
    }
    static __device__ __forceinline__ void total(const Sum& sum, float (&v)[kEights][4]) {
#pragma unroll
        for (int e = 0; e < kEights; e++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[e][i] = sum.of_pair[0][e][i] + sum.of_pair[1][e][i];
                if constexpr (F::kBlocks == 8) v[e][i] += sum.of_pair[2][e][i] + sum.of_pair[3][e][i];
            }
        }
    }

  private:
    static __device__ __forceinline__ void add_one(const Raw& raw, const Activations& x, int b, int group, int e,
                                                   uint2 p, uint2 q, uint2 v, float2 d, float (&sum)[4]) {
        const int block = group * F::kBlocks + b;
        if constexpr (F::kSplit) {
            const int4 start = x.starts(e, block);
            int first[4] = {start.x, start.y, start.x, start.y}, second[4] = {start.z, start.w, start.z, start.w};
            mma_u8_16(first, p.x, q.x, v.x);
            scale_into(sum, first, d, F::block_scale(raw, b, 0, 0), F::block_scale(raw, b, 0, 1));
            mma_u8_16(second, p.y, q.y, v.y);
            scale_into(sum, second, d, F::block_scale(raw, b, 1, 0), F::block_scale(raw, b, 1, 1));
            return;
        }
        int2 start = make_int2(0, 0);
        if constexpr (F::kOffset != 0) start = x.start(e, block);
        int part[4] = {start.x, start.y, start.x, start.y};
        if constexpr (F::kUnsigned) {
            mma_u8(part, p.x, q.x, p.y, q.y, v.x, v.y);
        } else {
            mma_s8(part, p.x, q.x, p.y, q.y, v.x, v.y);
        }
        scale_into(sum, part, d, F::block_scale(raw, b, 0, 0), F::block_scale(raw, b, 0, 1));
    }
    template <class Scale>
    static __device__ __forceinline__ void scale_into(float (&sum)[4], const int (&part)[4], float2 d, Scale g,
                                                      Scale g8) {
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] = add_block(sum[i], part[i], i < 2 ? g : g8, i & 1 ? d.y : d.x);
    }
    static __device__ __forceinline__ void add_scaled(float (&sum)[4], const float (&inner)[4], float g, float g8) {
        sum[0] = fmaf(g, inner[0], sum[0]);
        sum[1] = fmaf(g, inner[1], sum[1]);
        sum[2] = fmaf(g8, inner[2], sum[2]);
        sum[3] = fmaf(g8, inner[3], sum[3]);
    }
};

// As many rows at a time as fit into shared memory beside the least ring; rows that are normalised fit (normed_rows).
template <class F>
void launch_int8(const Gpu& gpu, const DeviceWeight& w, FewRows p) {
    const auto start = [&](const FewRows& few) {
        const int n = few.n_rows();
        n == 1   ? launch_matvec<Int8RowProduct<F>>(gpu, w, few)
        : n <= 8 ? launch_matvec<Int8Product<F, 8>>(gpu, w, few)
                 : launch_matvec<Int8Product<F, 16>>(gpu, w, few);
    };
    if (p.norm != nullptr) return start(p);
    int64_t most = kMatvecRows;
    while (most > 1 && !matvec_fits<Int8Product<F, 16>>(gpu, w.cols, static_cast<int>(most))) most /= 2;
    const View x = p.x, y = p.y;
    for (int64_t row = 0; row < x.rows; row += most) {
        const int64_t n = std::min(most, x.rows - row);
        p.x = x.slice(row, n), p.y = y.slice(row, n);
        start(p);
    }
}

}  // namespace samba::cuda
