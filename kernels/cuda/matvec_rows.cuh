// The products of matvec.cuh with 16-bit weights, as they lie in the file: bf16 times bf16.
#pragma once
#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

// The rows of activations as bf16, in shared memory or (without a norm, where they are many or long) where they are.
// A lane reads rows lane / 4 and 8 more, or the last one where there is no such row, whose sums nobody asks for. Beyond
// the end, where all weights are zero, stand the last columns.
template <int kRows>
class RowActivations {
  public:
    static constexpr int kEights = (kRows + 7) / 8, kGroup = 64;  // kGroup: columns of a group
    static constexpr bool kAlwaysStaged = false;
    __host__ __device__ static int stride(int cols) { return normed_stride(cols); }
    __host__ __device__ static size_t bytes(int cols, int n_rows) {
        return static_cast<size_t>(n_rows * stride(cols)) * sizeof(bfloat);
    }

    // shared: where they come to. What a thread of a single row may load before the row is there: the norm's weights
    // for its first values.
    __device__ __forceinline__ RowActivations(const MatvecArgs& a, unsigned char* shared, bool = false)
        : staged_(reinterpret_cast<bfloat*>(shared)), cols_(padded_columns(a.w.cols)), t_(threadIdx.x & 3) {
        const int at = 4 * threadIdx.x;
        if (kRows == 1 && a.norm != nullptr && at < a.w.cols) norm_ = *reinterpret_cast<const float4*>(a.norm + at);
#pragma unroll
        for (int e = 0; e < kEights; e++) {
            const int row = min(static_cast<int>(threadIdx.x & 31) / 4 + 8 * e, a.n_rows - 1);
            row_[e] = a.staged ? staged_ + row * stride(a.w.cols) : static_cast<const bfloat*>(a.x) + row * a.x_stride;
        }
    }
    __device__ __forceinline__ void bring(const MatvecArgs& a, float* squares) {
        if (!a.staged) return;
        if (kRows > 1 && a.prepared != nullptr) {
            copy_prepared(a, static_cast<int>(bytes(a.w.cols, a.n_rows)), reinterpret_cast<unsigned char*>(staged_),
                          squares);
        } else if (kNine && kRows > 1 && a.norm == nullptr && !a.x_f16) {
            bring_in_bulk(a.x, int64_t{a.x_stride} * 2, a.w.cols * 2, a.n_rows,
                          reinterpret_cast<unsigned char*>(staged_), stride(a.w.cols) * 2, [] {});
        } else if (a.norm == nullptr) {
            stage(a, staged_);
        } else if constexpr (kRows == 1) {
            stage_one_normed(a, squares);
        } else {
            stage_normed(a, 0, a.n_rows, staged_, squares);
        }
        __syncthreads();
    }
    // Of a block of a cluster (matvec_spread.cuh): of each `split` groups of columns its share, one after another. What
    // can be done before the activations are there, then they.
    template <int kSpread>
    __device__ __forceinline__ void expect_part(const MatvecArgs& a) {
        const int columns = spread_groups(a.n_groups, a.split_bits, kSpread) * kGroup;
#pragma unroll
        for (int e = 0; e < kEights; e++) {
            row_[e] = staged_ + min(static_cast<int>(threadIdx.x & 31) / 4 + 8 * e, a.n_rows - 1) * stride(columns);
        }
        const int share = a.split >> kSpread;
        const int rest = (a.n_groups & (a.split - 1)) - Spread<kSpread>::rank() * share;
        const int n_groups = (a.n_groups >> a.split_bits) * share + min(max(rest, 0), share);
        if (threadIdx.x == 0) expect_bytes(part_arrived(), n_groups * a.n_rows * kGroup * 2);
        __syncthreads();  // before the kernel's wait, where there is time
    }
    template <int kSpread>
    __device__ __forceinline__ void bring_part(const MatvecArgs& a) {
        const int columns = spread_groups(a.n_groups, a.split_bits, kSpread) * kGroup, share = a.split >> kSpread;
        const int warp = threadIdx.x / 32, n_warps = blockDim.x / 32,
                  n = ((a.n_groups + a.split - 1) >> a.split_bits) * a.n_rows;
        // A copy takes its warp some 50 cycles: all warps send for some.
#pragma unroll 1
        for (int i = warp + (threadIdx.x & 31) * n_warps; i < n; i += blockDim.x) {
            const int row = i % a.n_rows, piece = i / a.n_rows;
            const int group = piece * a.split + Spread<kSpread>::rank() * share;
            const int n_groups = min(share, a.n_groups - group);
            if (n_groups <= 0) continue;
            copy_bulk<false>(staged_ + row * stride(columns) + piece * share * kGroup,
                             static_cast<const bfloat*>(a.x) + row * a.x_stride + group * kGroup, n_groups * kGroup * 2,
                             part_arrived());
        }
        wait_for_copies(part_arrived(), 0);
    }
    // Rows that stay where they are.
    __device__ __forceinline__ void bring_plain(const MatvecArgs&) {}
    // Of the lane's rows: eight values of a block of 32 columns.
    __device__ __forceinline__ uint4 block(int e, int column) const {
        return *reinterpret_cast<const uint4*>(row_[e] + min(column + 8 * t_, cols_ - 8));
    }

    // squares[r][warp]: parts of each row's sum of squares. A thread has the same columns of every row, so a row's sum
    // does not depend on its company.
    static __device__ __forceinline__ void stage_normed(const MatvecArgs& a, int first_row, int n_rows, bfloat* to,
                                                        float* squares) {
        constexpr int kAhead = 4;
        const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
        const int n_strips = (a.w.cols + 4 * blockDim.x - 1) / (4 * blockDim.x);
        if (lane < n_rows) store_squares(squares + (first_row + lane) * kMaxWarps, warp, 0);
        __syncwarp();
        int at = 4 * threadIdx.x, row = first_row;
        for (int item = 0; item < n_strips * n_rows; item += kAhead) {
            float4 v[kAhead];
            int at_of[kAhead], row_at[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                at_of[k] = at, row_at[k] = row;
                v[k] = at < a.w.cols ? *reinterpret_cast<const float4*>(row_of(a, row) + at) : make_float4(0, 0, 0, 0);
                if (++row == first_row + n_rows) row = first_row, at += 4 * blockDim.x;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                if (item + k >= n_strips * n_rows) break;
                if (at_of[k] < a.w.cols) {
                    const auto w = *reinterpret_cast<const float4*>(a.norm + at_of[k]);
                    *reinterpret_cast<uint2*>(to + row_at[k] * stride(a.w.cols) + at_of[k]) =
                        make_uint2(pack_bf16(v[k].x * w.x, v[k].y * w.y), pack_bf16(v[k].z * w.z, v[k].w * w.w));
                }
                const float square = sum_of_squares(square_of_four(v[k]));
                if (lane == 0) squares[row_at[k] * kMaxWarps + warp] += square;
            }
        }
    }

  private:
    static __device__ __forceinline__ const float* row_of(const MatvecArgs& a, int row) {
        return static_cast<const float*>(a.x) + (a.gather ? a.rows.row[row] : row) * a.x_stride;
    }
    __device__ __forceinline__ void stage_one_normed(const MatvecArgs& a, float* squares) const {
        const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, step = 4 * blockDim.x;
        float sum = 0;
        float4 w = norm_;
#pragma unroll 1
        for (int at = 4 * threadIdx.x; at - 4 * lane < a.w.cols; at += step) {
            float square = 0;
            if (at < a.w.cols) {
                const auto v = *reinterpret_cast<const float4*>(row_of(a, 0) + at);
                *reinterpret_cast<uint2*>(staged_ + at) =
                    make_uint2(pack_bf16(v.x * w.x, v.y * w.y), pack_bf16(v.z * w.z, v.w * w.w));
                square = square_of_four(v);
            }
            if (at + step < a.w.cols) w = *reinterpret_cast<const float4*>(a.norm + at + step);
            sum += sum_of_squares(square);
        }
        if (lane == 0) store_squares(squares, warp, sum);
    }

    static __device__ __forceinline__ uint64_t* part_arrived() {
        __shared__ uint64_t arrived;
        return &arrived;
    }
    static __device__ __forceinline__ uint32_t f16_as_bf16(uint32_t pair) {
        return pack_bf16(low_f16(pair), high_f16(pair));
    }
    // Several rows' loads are under way at once.
    static __device__ __forceinline__ void stage(const MatvecArgs& a, bfloat* to) {
        constexpr int kAhead = kRows == 1 ? 2 : 8;
        const int vectors = a.w.cols / 8, n_strips = (vectors + blockDim.x - 1) / blockDim.x;
        const auto* from = static_cast<const bfloat*>(a.x);
        int at = threadIdx.x, row = 0;
        for (int item = 0; item < n_strips * a.n_rows; item += kAhead) {
            uint4 v[kAhead];
            int to_at[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const bool there = row < a.n_rows && at < vectors;
                to_at[k] = there ? row * stride(a.w.cols) + 8 * at : -1;
                if (there) v[k] = *reinterpret_cast<const uint4*>(from + row * a.x_stride + 8 * at);
                if (++row == a.n_rows) row = 0, at += blockDim.x;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                if (to_at[k] < 0) continue;
                if (a.x_f16) {
                    v[k] =
                        make_uint4(f16_as_bf16(v[k].x), f16_as_bf16(v[k].y), f16_as_bf16(v[k].z), f16_as_bf16(v[k].w));
                }
                *reinterpret_cast<uint4*>(to + to_at[k]) = v[k];
            }
        }
    }

    bfloat* staged_;
    const bfloat* row_[kEights];
    int cols_, t_;
    float4 norm_ = {};
};

// What the products' blocks would otherwise each make for themselves: a block a row.
template <int kRows>
__global__ void __launch_bounds__(kMaxWarps * 32)
    norm_rows_kernel(const __grid_constant__ MatvecArgs a, unsigned char* to) {
    grid_dependents();
    grid_wait();
    auto* squares = reinterpret_cast<float*>(to + RowActivations<kRows>::bytes(a.w.cols, a.n_rows));
    RowActivations<kRows>::stage_normed(a, blockIdx.x, 1, reinterpret_cast<bfloat*>(to), squares);
}

// 16-bit rows as they lie in the file, padded to a multiple of 8 values. kMost: rows of activations, 1, 8 or 16.
struct RowsRaw {
    uint4 v[2][2];  // block, row g or g + 8
};
template <int kMost>
struct RowsProduct {
    static constexpr int kRows = kMost, kEights = (kRows + 7) / 8, kPieces = 4;
    using Raw = RowsRaw;
    using Activations = RowActivations<kRows>;
    static constexpr int kColumns = Activations::kGroup;
    struct Columns {
        uint4 v[kEights][2];
    };

    static constexpr bool kPrepares = false;  // only with a norm
    static constexpr auto kPrepare = norm_rows_kernel<kRows>;

    // A lane's place in a group: its columns of rows g and g + 8.
    struct Source {
        const unsigned char* row[2];
        int column, cols;
    };
    static __device__ __forceinline__ Source source(const DeviceWeight& w, int, int tile, int group) {
        const int lane = threadIdx.x & 31, stride = padded_columns(w.cols);
        Source s;
        s.column = group * kColumns + 8 * (lane & 3), s.cols = w.cols;
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            const int row = min(tile * kTile + lane / 4 + 8 * upper, w.rows - 1);
            s.row[upper] = w.data + (static_cast<int64_t>(row) * stride + s.column) * 2;
        }
        return s;
    }
    static __device__ __forceinline__ void step(Source& s, int n) {
        s.column += n * kColumns;
        s.row[0] += n * kColumns * 2, s.row[1] += n * kColumns * 2;
    }
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& raw, const Source& s, Fetch f) {
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
#pragma unroll
            for (int b = 0; b < 2; b++) f(raw.v[b][upper], s.row[upper] + 64 * b, s.column + 32 * b < s.cols);
        }
    }
    static constexpr bool kBulk = false, kQuarters = false;
    struct Sum {
        float v[kEights][4] = {};
    };
    static __device__ __forceinline__ void total(const Sum& sum, float (&v)[kEights][4]) {
#pragma unroll
        for (int e = 0; e < kEights; e++) {
#pragma unroll
            for (int i = 0; i < 4; i++) v[e][i] = sum.v[e][i];
        }
    }
    static __device__ __forceinline__ Columns columns(const Activations& x, int group) {
        Columns c;
#pragma unroll
        for (int e = 0; e < kEights; e++) {
#pragma unroll
            for (int b = 0; b < 2; b++) c.v[e][b] = x.block(e, group * kColumns + 32 * b);
        }
        return c;
    }
};

template <int kMost>
struct Bf16Product : RowsProduct<kMost> {
    using Base = RowsProduct<kMost>;
    static __device__ __forceinline__ void add(const RowsRaw& raw, const typename Base::Activations&,
                                               const typename Base::Columns& x, int, typename Base::Sum& sum) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const uint4 p = raw.v[b][0], q = raw.v[b][1];
#pragma unroll
            for (int e = 0; e < Base::kEights; e++) {
                const uint4 v = x.v[e][b];
                mma_bf16(sum.v[e], p.x, q.x, p.y, q.y, v.x, v.y);
                mma_bf16(sum.v[e], p.z, q.z, p.w, q.w, v.z, v.w);
            }
        }
    }
};

// An f16 is the sum of two bf16, exactly (11 bits in 8 + 3).
template <int kMost>
struct F16Product : RowsProduct<kMost> {
    using Base = RowsProduct<kMost>;
    static __device__ __forceinline__ void add(const RowsRaw& raw, const typename Base::Activations&,
                                               const typename Base::Columns& x, int, typename Base::Sum& sum) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const Two p0 = split(raw.v[b][0].x), p1 = split(raw.v[b][0].y), p2 = split(raw.v[b][0].z),
                      p3 = split(raw.v[b][0].w);
            const Two q0 = split(raw.v[b][1].x), q1 = split(raw.v[b][1].y), q2 = split(raw.v[b][1].z),
                      q3 = split(raw.v[b][1].w);
#pragma unroll
            for (int e = 0; e < Base::kEights; e++) {
                const uint4 v = x.v[e][b];
                mma_bf16(sum.v[e], p0.high, q0.high, p1.high, q1.high, v.x, v.y);
                mma_bf16(sum.v[e], p0.low, q0.low, p1.low, q1.low, v.x, v.y);
                mma_bf16(sum.v[e], p2.high, q2.high, p3.high, q3.high, v.z, v.w);
                mma_bf16(sum.v[e], p2.low, q2.low, p3.low, q3.low, v.z, v.w);
            }
        }
    }

    struct Two {
        uint32_t high, low;
    };
    static __device__ __forceinline__ Two split(uint32_t pair) {
        const float2 f = floats_of_f16(pair);
        Two r;
        r.high = pack_bf16(f.x, f.y);
        r.low = pack_bf16(f.x - low_bf16(r.high), f.y - high_bf16(r.high));
        return r;
    }
};

template <template <int> class Product>
void launch_rows(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) {
    const int n = p.n_rows();
    n == 1   ? launch_matvec<Product<1>>(gpu, w, p)
    : n <= 8 ? launch_matvec<Product<8>>(gpu, w, p)
             : launch_matvec<Product<16>>(gpu, w, p);
}

}  // namespace samba::cuda
