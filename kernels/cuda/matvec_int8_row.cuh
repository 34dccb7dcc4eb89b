// The products of matvec_int8.cuh for a single row: it does not fill the eight columns of an mma, so each column has
// another block of the activations, and zeros beside it. Then the sums of a group's eight blocks come out in eight
// columns, and are scaled by all lanes at once, two blocks a lane, in place of all blocks by every lane: a
// group of Q4_K takes a warp 126 instructions in place of 218. A lane adds up its own quarter of the blocks; the
// quarters are added at the end, in the order in which the products of several rows do.
#pragma once
#include "kernels/cuda/int8_parts.cuh"
#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

// A shared-memory copy of a row, for one format. Blocks beyond the columns are zero.
//   values: per block the first bytes of the lanes t, the second ones (an mma's columns 0 to 15, 16 to 31)
//   scales: per block; of nibbles a sixteenth (see add)
//   sums:   per group, t: of blocks 2t and 2t + 1, as three pairs of bf16: high, middle, low parts
//   starts: per block: where its integer sums start; of split blocks per half
//   zeros:  what a lane reads that has no block
template <class F>
class Int8RowActivations {
  public:
    static constexpr bool kAlwaysStaged = true, kStarts = F::kOffset != 0;
    static constexpr int kPairs = F::kBlocks / 2;  // of a group

    __host__ __device__ static int blocks(int cols) { return (cols / 32 + F::kBlocks - 1) / F::kBlocks * F::kBlocks; }
    __host__ __device__ static int sum_bytes(int cols) { return F::kMins ? blocks(cols) / F::kBlocks * 64 : 0; }
    static constexpr int kStartBytes = !kStarts ? 0 : F::kSplit ? 8 : 4;  // of a block
    __host__ __device__ static size_t bytes(int cols, int) {
        return static_cast<size_t>(16 + blocks(cols) * (32 + 4 + kStartBytes) + sum_bytes(cols));
    }

    // base: where it comes to. What a thread may load before the row is there: the norm's weights for its first values.
    // by_warps: each warp brings the columns of its own groups, once for each of the block's slots.
    __device__ __forceinline__ Int8RowActivations(const MatvecArgs& a, unsigned char* base, bool by_warps = false)
        : by_warps_(by_warps), zeros_(static_cast<int>(base - dynamic_shared())) {
        const int cols = a.w.cols, lane = threadIdx.x & 31, t = lane & 3;
        first_ = threadIdx.x / 32 * 8, step_ = blockDim.x / 4, end_ = blocks(cols);
        if (by_warps) {
            const int warp = threadIdx.x / 32, part = warp & (a.split - 1);
            zeros_ += (warp >> a.split_bits) * static_cast<int>(bytes(cols, 1));
            first_ = (part * a.n_groups >> a.split_bits) * F::kBlocks, step_ = 8;
            end_ = ((part + 1) * a.n_groups >> a.split_bits) * F::kBlocks;
        }
        const int block = first_ + lane / 4;
        values_ = zeros_ + 16;
        scales_ = values_ + blocks(cols) * 32;
        sums_ = scales_ + blocks(cols) * 4;
        starts_ = sums_ + sum_bytes(cols);
        if (lane == 0) *at<uint4>(zeros_) = make_uint4(0, 0, 0, 0);
        // The lane names a row of one of four matrices to ldmatrix: what column `column` of an mma has of one half.
        const int matrix = lane / 8, column = lane % 8;
        const int second = F::kNibbles ? matrix & 1 : matrix >> 1, half = F::kNibbles ? matrix >> 1 : matrix & 1;
        const bool there = (F::kSplit ? half : second) == (column & 1);
#pragma unroll
        for (int p = 0; p < kPairs; p++) {
            const bool own = there && column / 2 == p;
            pair_[p] = shared_address(at<uint4>(own ? values_ + 32 * (2 * p + second) + 16 * half : zeros_));
            pair_step_[p] = own ? F::kBlocks * 32 : 0;
            keep(pair_[p]), keep(pair_step_[p]);
        }
        const int two = t % kPairs * 2;  // the first of the lane's blocks
        own_scales_ = scales_ + 4 * two;
        own_sums_ = lane / 4 == 0 ? sums_ + 16 * t : zeros_, sums_step_ = lane / 4 == 0 ? 64 : 0;
        own_starts_ = t < kPairs ? starts_ + kStartBytes * two : zeros_;
        starts_step_ = t < kPairs ? kStartBytes * F::kBlocks : 0;
        keep(own_scales_), keep(own_sums_), keep(sums_step_), keep(own_starts_), keep(starts_step_);
        from_ = a.norm != nullptr ? static_cast<const void*>(NormedEight<F>::from(a, 0, block, t))
                                  : PlainEight<F>::from(a, 0, block, t);
        keep(from_);
        const bool normed = a.norm != nullptr, there_first = block < end_ && 32 * block < cols;
        asks_ = there_first && (normed || !F::kSplit), asks_twice_ = there_first && normed;  // 16 bytes each
        keep(asks_), keep(asks_twice_);
        if (a.norm != nullptr && 32 * block < cols) NormedEight<F>::load_norm(a, block, t, norm_);
    }
    // The lane's first values, before all else that follows the kernel's wait.
    __device__ __forceinline__ void ask() {
        asked_[0] = load_here(from_, asks_);
        asked_[1] = load_here(static_cast<const float*>(from_) + NormedEight<F>::kSecond, asks_twice_);
    }
    __device__ __forceinline__ void bring(const MatvecArgs& a, float* squares) {
        a.norm != nullptr ? stage<NormedEight<F>, true>(a, squares) : stage<PlainEight<F>, !F::kSplit>(a, squares);
        if (by_warps_) return __syncwarp();
        __syncthreads();
    }
    // The same of a row without a norm.
    __device__ __forceinline__ void bring_plain(const MatvecArgs& a) {
        stage<PlainEight<F>, false>(a, nullptr);
        __syncthreads();
    }

    // The same by those who make the row, a warp a block and a lane a column; behind all of them a barrier.
    __device__ __forceinline__ void put_column(int block, int column, float v) const {
        using Bytes = EightBytes<F>;
        const int byte = Bytes::byte_of(column);
        const Bytes bytes(v, byte);
        *at<unsigned char>(values_ + 32 * block + 4 * Bytes::lane_of(column) + 16 * (byte / 4) + byte % 4) =
            static_cast<unsigned char>(bytes.word[0]);
        if (column == 0) put_scale(block, bytes);
    }

    // Of two neighbouring blocks of a group: for two mma's what their columns have.
    __device__ __forceinline__ void values(uint32_t (&v)[4], int pair, int group) const {
        ldmatrix_x4(v, pair_[pair] + group * pair_step_[pair]);
    }
    // Of the lane's blocks.
    __device__ __forceinline__ float2 scales(int group) const {
        return *at<float2>(own_scales_ + 4 * F::kBlocks * group);
    }
    // Where their sums start: two, or four of halves; zeros where the lane has none.
    __device__ __forceinline__ int2 start(int group) const { return *at<int2>(own_starts_ + starts_step_ * group); }
    __device__ __forceinline__ int4 starts(int group) const { return *at<int4>(own_starts_ + starts_step_ * group); }
    // In column 0, zeros in others.
    __device__ __forceinline__ uint4 sums(int group) const { return *at<uint4>(own_sums_ + sums_step_ * group); }

  private:
    template <class T>
    static __device__ __forceinline__ T* at(int place) {
        return reinterpret_cast<T*>(dynamic_shared() + place);
    }

    // A team of four lanes brings a block; a warp has eight teams. kAsked: ask() has been called.
    template <class Eight, bool kAsked>
    __device__ __forceinline__ void stage(const MatvecArgs& a, float* squares) {
        const int t = threadIdx.x & 3, team = (threadIdx.x & 31) / 4, n_blocks = a.w.cols / 32;
        float4 norm[2] = {norm_[0], norm_[1]};
        float sum = 0;
#pragma unroll 1
        for (int first = first_; first < end_; first += Eight::kAtOnce * step_) {
            Eight eights[Eight::kAtOnce];
#pragma unroll
            for (int k = 0; k < Eight::kAtOnce; k++) {
                const int block = first + team + k * step_;
                if (kAsked && k == 0 && first == first_) {
                    eights[0].set(asked_);
                    continue;
                }
                if (block >= end_ || block >= n_blocks) continue;
                eights[k].load(k == 0 && first == first_ ? from_ : Eight::from(a, 0, block, t));
            }
#pragma unroll
            for (int k = 0; k < Eight::kAtOnce; k++) {
                if (first + k * step_ >= end_) break;
                const int block = first + team + k * step_;
                float v[8] = {}, square = 0;
                if (block < end_ && block < n_blocks) {
                    if (first != first_ || k > 0) Eight::load_norm(a, block, t, norm);
                    square = eights[k].take(a, norm, v);
                }
                if (a.norm != nullptr) sum += warp_sum(square);  // beside the maxima that the bytes wait for
                const EightBytes<F> bytes(v);
                if (block < end_) put(block, bytes);
            }
        }
        if (a.norm != nullptr && (threadIdx.x & 31) == 0) store_squares(squares, threadIdx.x / 32, sum);
    }
    __device__ __forceinline__ void put(int block, const EightBytes<F>& bytes) const {
        const int t = threadIdx.x & 3;
        auto* to = at<uint32_t>(values_ + 32 * block + 4 * t);
        to[0] = bytes.word[0], to[4] = bytes.word[1];
        if (t == 0) put_scale(block, bytes);
    }
    __device__ __forceinline__ void put_scale(int block, const EightBytes<F>& bytes) const {
        *at<float>(scales_ + 4 * block) = F::kNibbles ? bytes.scale * 0.0625f : bytes.scale;
        if constexpr (F::kMins) {
            bytes.put_sum(at<bfloat>(sums_ + block / 8 * 64 + block % 8 / 2 * 16 + 2 * (block & 1)));
        }
        if constexpr (kStarts) {
            int* start = at<int>(starts_ + block * kStartBytes);
            start[0] = -F::kOffset * bytes.sum[0];
            if constexpr (F::kSplit) start[1] = -F::kOffset * bytes.sum[1];
        }
    }

    bool by_warps_;
    int first_, step_, end_;  // the blocks that the warp brings, eight at a time
    // Places in shared memory: where all of them begin, and the lane's own of the first group.
    int zeros_, values_, scales_, sums_, starts_;
    int own_scales_, own_sums_, sums_step_, own_starts_, starts_step_;
    uint32_t pair_[kPairs];
    int pair_step_[kPairs];
    const void* from_;  // the thread's first values
    int asks_, asks_twice_;
    uint4 asked_[2];
    float4 norm_[2] = {};  // and their weights
};

template <class F>
struct Int8RowProduct : Int8Groups<F, typename F::LaneRaw> {
    static constexpr int kRows = 1;
    using Raw = typename F::LaneRaw;
    using Activations = Int8RowActivations<F>;
    struct Columns {};  // are all in shared memory
    static __device__ __forceinline__ Columns columns(const Activations&, int) { return {}; }
    static constexpr bool kQuarters = true;

    // Of rows g and g + 8 the lane's blocks.
    struct Sum {
        float row[2] = {0, 0};
    };
    static __device__ __forceinline__ void add(const Raw& raw, const Activations& x, Columns, int group, Sum& sum) {
        int c[2][4] = {};  // chains of mma's: rows g, g, g + 8, g + 8 of columns 2t and 2t + 1
        if constexpr (F::kSplit) {
            const int4 s = x.starts(group);
            c[0][0] = c[0][2] = s.x, c[0][1] = c[0][3] = s.y, c[1][0] = c[1][2] = s.z, c[1][1] = c[1][3] = s.w;
        } else if constexpr (F::kOffset != 0) {
            const int2 s = x.start(group);
            c[0][0] = c[0][2] = s.x, c[0][1] = c[0][3] = s.y;
        }
#pragma unroll
        for (int p = 0; p < Activations::kPairs; p++) {
            uint32_t v[4];
            x.values(v, p, group);
            if constexpr (F::kNibbles) {
                // Half of both blocks is one mma's, the other half, sixteen times as large, the other's.
                const uint4 q = raw.q[p];
                mma_u8(c[0], q.x & kLow, q.y & kLow, q.z & kLow, q.w & kLow, v[0], v[1]);
                mma_u8(c[1], q.x & kHigh, q.y & kHigh, q.z & kHigh, q.w & kHigh, v[2], v[3]);
            } else {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const uint2 g = F::words(raw, 2 * p + i, 0), g8 = F::words(raw, 2 * p + i, 1);
                    if constexpr (F::kUnsigned) {
                        mma_u8(c[i], g.x, g8.x, g.y, g8.y, v[2 * i], v[2 * i + 1]);
                    } else {
                        mma_s8(c[i], g.x, g8.x, g.y, g8.y, v[2 * i], v[2 * i + 1]);
                    }
                }
            }
        }
        const float2 d = x.scales(group);
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            const auto scales = F::lane_scales(raw, upper);
            const int *first = c[0] + 2 * upper, *second = c[1] + 2 * upper;
            float inner = 0;
            if constexpr (F::kSplit) {
                inner = add_block(inner, first[0], scales.v[0], d.x);
                inner = add_block(inner, first[1], scales.v[1], d.x);
                inner = add_block(inner, second[0], scales.v[2], d.y);
                inner = add_block(inner, second[1], scales.v[3], d.y);
            } else {
                constexpr int kTimes = F::kNibbles ? 16 : 1;
                inner = add_block(inner, kTimes * first[0] + second[0], scales.v[0], d.x);
                inner = add_block(inner, kTimes * first[1] + second[1], scales.v[1], d.y);
            }
            sum.row[upper] = fmaf(F::group_scale(raw, upper), inner, sum.row[upper]);
        }
        if constexpr (F::kMins) {
            float mins[4] = {0, 0, 0, 0};
            add_mins<F>(mins, raw, x.sums(group));
            sum.row[0] = fmaf(-F::group_min(raw, 0), mins[0], sum.row[0]);
            sum.row[1] = fmaf(-F::group_min(raw, 1), mins[2], sum.row[1]);
        }
    }
    // The quarters added, where an mma would have the sums of a single row: in lanes of t = 0.
    static __device__ __forceinline__ void total(const Sum& sum, float (&v)[1][4]) {
        v[0][1] = v[0][3] = 0;
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            float s = sum.row[upper];
            s += __shfl_xor_sync(0xffffffffu, s, 1);
            s += __shfl_xor_sync(0xffffffffu, s, 2);
            v[0][2 * upper] = s;
        }
    }

  private:
    static constexpr uint32_t kLow = 0x0f0f0f0fu, kHigh = 0xf0f0f0f0u;
};

}  // namespace samba::cuda
