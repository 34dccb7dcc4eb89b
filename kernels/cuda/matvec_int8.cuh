// The products of matvec.cuh with quantised weights: integers times integers. The activations become 8-bit integers
// with one scale per 32 of them (as on the CPU, but rounded in one step with the scaling; docs/adr/0008), in the order
// of bytes in which a format unpacks its weights, so that unpacking is a shift and a mask and a block of 32 columns one
// instruction of the tensor cores.
//
// A block's integer sum, times its scale where that is an integer too (K types), is below 2^24: exact as a float.
// Formats with an offset (value = q - offset) start their sums that much lower instead of subtracting. Minima (Q4_K,
// Q5_K) meet the blocks' sums of activations in a product of their own: each sum is three bf16, exactly its 24 bits.
#pragma once
#include <type_traits>

#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

// A shared-memory copy of up to kRows rows (1, 8 or 16), for one format. Blocks beyond the columns are zero.
//   values: per row, pair of blocks, t: a lane's eight bytes of both blocks
//   sums:   per row, group, t: of blocks 2t and 2t + 1
//   starts: per block and pair of rows; scales: per pair of rows and block (one row: per block)
template <class F, int kRows>
class Int8Activations {
  public:
    static constexpr int kEights = (kRows + 7) / 8;
    static constexpr bool kAlwaysStaged = true, kStarts = F::kOffset != 0;

    __host__ __device__ static int blocks(int cols) { return (cols / 32 + F::kBlocks - 1) / F::kBlocks * F::kBlocks; }
    // Neighbouring rows start in different halves of the banks, pairs of rows in different eighths.
    __host__ __device__ static int value_stride(int cols) { return (blocks(cols) * 32 + 127) / 128 * 128 + 64; }
    __host__ __device__ static int scale_stride(int cols) {
        return kRows == 1 ? blocks(cols) * 4 : (blocks(cols) * 8 + 127) / 128 * 128 + 16;
    }
    __host__ __device__ static int sum_stride(int cols) { return F::kMins ? (blocks(cols) / F::kBlocks | 1) * 64 : 0; }
    __host__ __device__ static int start_bytes() { return !kStarts ? 0 : F::kSplit ? 16 : 8; }
    static size_t bytes(int cols, int n_rows) {
        const int pairs = (n_rows + 1) / 2;
        return static_cast<size_t>(n_rows * (value_stride(cols) + sum_stride(cols)) +
                                   pairs * (scale_stride(cols) + blocks(cols) * start_bytes()));
    }

    // base: where they come to. From there on a lane reads rows lane / 4 and 8 more (or the last one, whose sums nobody
    // asks for), and the factors of rows 2t and 2t + 1 and 8 more. What a thread of a single row may load before the
    // row is there: the norm's weights for its first values.
    __device__ __forceinline__ Int8Activations(const MatvecArgs& a, unsigned char* base)
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
        if constexpr (kRows == 1) {
            const int block = threadIdx.x / 4;
            from_ = a.norm != nullptr ? static_cast<const void*>(Normed::from(a, 0, block, t))
                                      : Plain::from(a, 0, block, t);
            keep(from_);
            if (a.norm != nullptr && 32 * block < cols) Normed::load_norm(a, block, t, norm_);
        }
    }
    __device__ __forceinline__ void bring(const MatvecArgs& a, float* squares) {
        if (kRows > 1 && a.prepared != nullptr) {
            copy_prepared(a, squares_at(a), base_, squares);
        } else if constexpr (kRows == 1) {
            a.norm != nullptr ? stage_one<Normed>(a, squares) : stage_one<Plain>(a, squares);
        } else {
            stage_rows(a, 0, a.n_rows, squares);
        }
        __syncthreads();
    }

    // The same of rows without a norm, which no other kernel has prepared.
    __device__ __forceinline__ void bring_plain(const MatvecArgs& a) {
        if constexpr (kRows == 1) {
            stage_one<Plain>(a, nullptr);
        } else {
            stage<Plain>(a, 0, a.n_rows, nullptr);
        }
        __syncthreads();
    }

    // Rows first … of those that the product is given, and their sums of squares, to `squares`.
    __device__ __forceinline__ void stage_rows(const MatvecArgs& a, int first, int n, float* squares) {
        a.norm != nullptr ? stage<Normed>(a, first, n, squares) : stage<Plain>(a, first, n, squares);
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
        const unsigned char* from = base_ + scale_at_[e] + (kRows == 1 ? 4 : 8) * block;
        if constexpr (kRows > 1) return *reinterpret_cast<const float4*>(from);
        const float2 d = *reinterpret_cast<const float2*>(from);
        return make_float4(d.x, 0, d.y, 0);
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
    // Eight of a row's values, on their way: 16-bit ones, or f32 ones times the norm's weights.
    struct Plain {
        static constexpr int kAtOnce = 3;
        uint4 v = {};
        static __device__ __forceinline__ const void* from(const MatvecArgs& a, int r, int block, int t) {
            return static_cast<const bfloat*>(a.x) + r * a.x_stride + 32 * block + (F::kSplit ? 4 : 8) * t;
        }
        __device__ __forceinline__ void load(const void* from) {
            if constexpr (F::kSplit) {
                const auto* p = static_cast<const uint2*>(from);
                v = make_uint4(p[0].x, p[0].y, p[4].x, p[4].y);
            } else {
                v = *static_cast<const uint4*>(from);
            }
        }
        static __device__ __forceinline__ void load_norm(const MatvecArgs&, int, int, float4 (&)[2]) {}
        __device__ __forceinline__ float take(const MatvecArgs& a, const float4 (&)[2], float (&f)[8]) const {
            const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 two = a.x_f16 ? floats_of_f16(w[i]) : make_float2(low_bf16(w[i]), high_bf16(w[i]));
                f[2 * i] = two.x, f[2 * i + 1] = two.y;
            }
            return 0;
        }
    };
    struct Normed {
        static constexpr int kAtOnce = 1;
        float4 v[2] = {};
        static __device__ __forceinline__ int first(int block, int t) { return 32 * block + (F::kSplit ? 4 : 8) * t; }
        static constexpr int kSecond = F::kSplit ? 16 : 4;
        static __device__ __forceinline__ const void* from(const MatvecArgs& a, int r, int block, int t) {
            return static_cast<const float*>(a.x) + (a.gather ? a.rows.row[r] : r) * a.x_stride + first(block, t);
        }
        __device__ __forceinline__ void load(const void* from) {
            v[0] = *static_cast<const float4*>(from);
            v[1] = *reinterpret_cast<const float4*>(static_cast<const float*>(from) + kSecond);
        }
        static __device__ __forceinline__ void load_norm(const MatvecArgs& a, int block, int t, float4 (&norm)[2]) {
            norm[0] = *reinterpret_cast<const float4*>(a.norm + first(block, t));
            norm[1] = *reinterpret_cast<const float4*>(a.norm + first(block, t) + kSecond);
        }
        // Returns the sum of the squares.
        __device__ __forceinline__ float take(const MatvecArgs& a, const float4 (&norm)[2], float (&f)[8]) const {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float4 w = norm[i];
                f[4 * i] = v[i].x * w.x, f[4 * i + 1] = v[i].y * w.y;
                f[4 * i + 2] = v[i].z * w.z, f[4 * i + 3] = v[i].w * w.w;
                sum = fmaf(v[i].x, v[i].x, fmaf(v[i].y, v[i].y, fmaf(v[i].z, v[i].z, fmaf(v[i].w, v[i].w, sum))));
            }
            return sum;
        }
    };

    // A team of four lanes, one a lane's place t in a block, brings a block; a warp has eight teams.
    template <class Octet>
    __device__ __forceinline__ void stage_one(const MatvecArgs& a, float* squares) {
        const int t = threadIdx.x & 3, n_teams = blockDim.x / 4, n_blocks = blocks(a.w.cols);
        float4 norm[2] = {norm_[0], norm_[1]};
        float sum = 0;
#pragma unroll 1
        for (int first = threadIdx.x / 4; first / 8 * 8 < n_blocks; first += Octet::kAtOnce * n_teams) {
            Octet octets[Octet::kAtOnce];
#pragma unroll
            for (int k = 0; k < Octet::kAtOnce; k++) {
                const int block = first + k * n_teams;
                if (32 * block < a.w.cols) octets[k].load(block < n_teams ? from_ : Octet::from(a, 0, block, t));
            }
#pragma unroll
            for (int k = 0; k < Octet::kAtOnce; k++) {
                const int block = first + k * n_teams;
                if (block / 8 * 8 >= n_blocks) break;
                float v[8] = {}, square = 0;
                if (32 * block < a.w.cols) {
                    if (block >= n_teams) Octet::load_norm(a, block, t, norm);
                    square = octets[k].take(a, norm, v);
                }
                if (a.norm != nullptr) sum += warp_sum(square);  // beside the maxima that quantize() waits for
                quantize(a, v, 0, block, block < n_blocks);
            }
        }
        if (a.norm != nullptr && (threadIdx.x & 31) == 0) store_squares(squares, threadIdx.x / 32, sum);
    }

    // The same for several rows, some blocks of any of them on their way at once. Each warp brings
    // the same blocks of every row, so a row's sum of squares does not depend on its company.
    template <class Octet>
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
            Octet octets[kAhead];
            int at_block[kAhead], at_row[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                at_block[k] = block, at_row[k] = row;
                if (item + k < n_items && 32 * block < a.w.cols) octets[k].load(Octet::from(a, row, block, t));
                if (++row == first_row + n_rows) row = first_row, block += n_teams;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                if (item + k >= n_items) break;
                float v[8] = {}, square = 0;
                float4 norm[2];
                if (32 * at_block[k] < a.w.cols) {
                    Octet::load_norm(a, at_block[k], t, norm);
                    square = octets[k].take(a, norm, v);
                }
                quantize(a, v, at_row[k], at_block[k], at_block[k] < n_blocks);
                if (a.norm == nullptr) continue;
                square = warp_sum(square);
                if (lane == 0) squares[at_row[k] * kMaxWarps + warp] += square;
            }
        }
    }

    // a / b, rounded as a division is but for a few quotients in millions and for values at the ends of the range;
    // per_b: about 1 / b. A division has more instructions, and a branch for those.
    static __device__ __forceinline__ float ratio(float a, float b, float per_b) {
        const float q = a * per_b;
        return fmaf(fmaf(-q, b, a), per_b, q);
    }

    // q = round(v 127 / largest) of a team's 32 values; scale, sums and starts beside them.
    __device__ __forceinline__ void quantize(const MatvecArgs& a, const float (&v)[8], int row, int block, bool there) {
        const int t = threadIdx.x & 3, cols = a.w.cols;
        float most[4];
#pragma unroll
        for (int i = 0; i < 4; i++) most[i] = fmaxf(fabsf(v[i]), fabsf(v[i + 4]));
        float largest = fmaxf(fmaxf(most[0], most[2]), fmaxf(most[1], most[3]));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        const float inverse = largest > 0 ? ratio(127.0f, largest, __fdividef(1.0f, largest)) : 0.0f;
        const float scale = ratio(largest, 127.0f, 1.0f / 127.0f);
        uint32_t q[8], word[2];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            // 1.5 x 2^23 and an integer: that is its lowest byte
            q[i] = __float_as_uint(fmaf(v[F::kOrder >> (4 * i) & 7], inverse, 12582912.0f));
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            word[h] = __byte_perm(__byte_perm(q[4 * h], q[4 * h + 1], 0x0040),
                                  __byte_perm(q[4 * h + 2], q[4 * h + 3], 0x0040), 0x5410);
        }
        if (there) {
            unsigned char* to = base_ + row * value_stride(cols) + block / 2 * 64 + 16 * t + 8 * (block & 1);
            *reinterpret_cast<uint2*>(to) = make_uint2(word[0], word[1]);
        }
        // Of the block, or of each half where blocks are split.
        constexpr int kSums = !F::kMins && !kStarts ? 0 : F::kSplit ? 2 : 1;
        int sum[2] = {0, 0};
#pragma unroll
        for (int h = 0; h < kSums; h++) {
            sum[h] = __dp4a(static_cast<int>(word[h]), 0x01010101, 0);
            if (kSums == 1) sum[h] = __dp4a(static_cast<int>(word[1]), 0x01010101, sum[h]);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        }
        if (t != 0 || !there) return;
        const int within = kRows == 1 ? block : 2 * block + (row & 1);
        reinterpret_cast<float*>(base_ + scales_ + row / 2 * scale_stride(cols))[within] = scale;
        if constexpr (F::kMins) {
            auto* to =
                reinterpret_cast<bfloat*>(base_ + sums_ + row * sum_stride(cols) + block / 8 * 64 + block % 8 / 2 * 16);
            static_assert(!F::kSplit);
            float left = scale * static_cast<float>(sum[0]);
#pragma unroll
            for (int i = 0; i < 3; i++) {
                const bfloat part = from_float<bfloat>(left);
                to[2 * i + (block & 1)] = part;
                left -= to_float(part);
            }
        }
        if constexpr (kStarts) {
            auto* to =
                reinterpret_cast<int*>(base_ + starts_ + (block * n_pairs_ + row / 2) * start_bytes()) + (row & 1);
            to[0] = -F::kOffset * sum[0];
            if constexpr (F::kSplit) to[2] = -F::kOffset * sum[1];
        }
    }

    __device__ __forceinline__ int squares_at(const MatvecArgs& a) const {
        return starts_ + n_pairs_ * blocks(a.w.cols) * start_bytes();
    }

    unsigned char* base_;
    int n_pairs_, sums_, scales_, starts_;  // where those begin
    const void* from_ = nullptr;            // of a single row: the thread's first values
    float4 norm_[2] = {};                   // and their weights
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

// kMost: rows of activations, 1, 8 or 16.
template <class F, int kMost>
struct Int8Product {
    static constexpr int kRows = kMost, kEights = (kRows + 7) / 8, kColumns = F::kBlocks * 32, kPieces = F::kPieces;
    using Raw = typename F::Raw;
    using Activations = Int8Activations<F, kRows>;
    static constexpr QuantLayout kLayout = F::kLayout;
    struct Columns {};  // are all in shared memory

    static constexpr int kBytes = kFormatBytes<F>;
    using Source = const unsigned char*;  // a group
    static __device__ __forceinline__ Source source(const DeviceWeight& w, int n_groups, int tile, int group) {
        return w.data + (static_cast<int64_t>(tile) * n_groups + group) * kBytes;
    }
    static __device__ __forceinline__ void step(Source& s, int n) { s += n * kBytes; }
    template <class Fetch>
    static __device__ __forceinline__ void fetch(Raw& raw, Source s, Fetch f) {
        F::fetch(raw, s, threadIdx.x & 31, f);
    }
    // A group as it lies in memory, in shared memory.
    static constexpr bool kBulk = true;
    static __device__ __forceinline__ void load(Raw& raw, const unsigned char* group) {
        F::fetch(raw, group, threadIdx.x & 31, FromGroup());
    }
    static __device__ __forceinline__ Columns columns(const Activations&, int) { return {}; }

    static constexpr bool kPrepares = kRows > 1;
    static constexpr auto kPrepare = quantize_rows_kernel<F, kRows>;

    // Row g of the weights times activation rows 2t and 2t + 1: sum[e][0], sum[e][1]; row g + 8: sum[e][2], sum[e][3].
    static __device__ __forceinline__ void add(const Raw& raw, const Activations& x, Columns, int group,
                                               float (&sum)[kEights][4]) {
        float inner[kEights][4] = {};
#pragma unroll
        for (int b = 0; b < F::kBlocks; b += 2) {
            const uint2 p[2] = {F::words(raw, b, 0), F::words(raw, b + 1, 0)},
                        q[2] = {F::words(raw, b, 1), F::words(raw, b + 1, 1)};
#pragma unroll
            for (int e = 0; e < kEights; e++) {
                const uint4 v = x.values(e, group * F::kBlocks + b);
                const float4 d = x.scales(e, group * F::kBlocks + b);
                add_block(raw, x, b, group, e, p[0], q[0], make_uint2(v.x, v.y), make_float2(d.x, d.y), inner[e]);
                add_block(raw, x, b + 1, group, e, p[1], q[1], make_uint2(v.z, v.w), make_float2(d.z, d.w), inner[e]);
            }
        }
#pragma unroll
        for (int e = 0; e < kEights; e++) {
            add_scaled(sum[e], inner[e], F::group_scale(raw, 0), F::group_scale(raw, 1));
            if constexpr (F::kMins) {
                const uint4 s = x.sums(e, group);
                const uint32_t m = F::two_mins(raw, threadIdx.x & 3, 0), m8 = F::two_mins(raw, threadIdx.x & 3, 1);
                float mins[4] = {0, 0, 0, 0};
                mma_bf16(mins, m, m8, m, m8, s.x, s.y);
                mma_bf16(mins, m, m8, 0, 0, s.z, 0);
                add_scaled(sum[e], mins, -F::group_min(raw, 0), -F::group_min(raw, 1));
            }
        }
    }

    static __device__ __forceinline__ void add_block(const Raw& raw, const Activations& x, int b, int group, int e,
                                                     uint2 p, uint2 q, uint2 v, float2 d, float (&sum)[4]) {
        const int block = group * F::kBlocks + b;
        int part[4];
        if constexpr (F::kSplit) {
            const int4 start = x.starts(e, block);
            mma_u8_16(part, p.x, q.x, v.x, start.x, start.y);
            scale_into(sum, part, d, F::block_scale(raw, b, 0, 0), F::block_scale(raw, b, 0, 1));
            mma_u8_16(part, p.y, q.y, v.y, start.z, start.w);
            scale_into(sum, part, d, F::block_scale(raw, b, 1, 0), F::block_scale(raw, b, 1, 1));
            return;
        }
        int2 start = make_int2(0, 0);
        if constexpr (F::kOffset != 0) start = x.start(e, block);
        if constexpr (F::kUnsigned) {
            mma_u8(part, p.x, q.x, p.y, q.y, v, start.x, start.y);
        } else {
            mma_s8(part, p.x, q.x, p.y, q.y, v, start.x, start.y);
        }
        scale_into(sum, part, d, F::block_scale(raw, b, 0, 0), F::block_scale(raw, b, 0, 1));
    }

    // Scales are integers in the K types, else floats.
    template <class Scale>
    static __device__ __forceinline__ void scale_into(float (&sum)[4], const int (&part)[4], float2 d, Scale g,
                                                      Scale g8) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (kRows == 1 && (i & 1)) continue;
            const Scale scale = i < 2 ? g : g8;
            const float activation = i & 1 ? d.y : d.x;
            if constexpr (std::is_integral_v<Scale>) {
                sum[i] = fmaf(activation, static_cast<float>(part[i] * scale), sum[i]);
            } else {
                sum[i] = fmaf(scale, static_cast<float>(part[i]) * activation, sum[i]);
            }
        }
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
        n == 1   ? launch_matvec<Int8Product<F, 1>>(gpu, w, few)
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
