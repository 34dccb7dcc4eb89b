// Blocks of a file into the device's layout (quant_layout.h), once, when the weights are loaded: a warp a group of a
// tile.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quant_layout.h"
#include "kernels/quant.h"

namespace samba::cuda {
namespace {

// The blocks of a tile's rows, in the file's layout.
template <class Block>
struct Source {
    const unsigned char* from;
    int64_t n_rows;
    int n_blocks;  // of a row

    // Null where the matrix has ended.
    __device__ const Block* at(int64_t row, int block) const {
        if (row >= n_rows || block >= n_blocks) return nullptr;
        return reinterpret_cast<const Block*>(from + (row * n_blocks + block) * sizeof(Block));
    }
};

// The integer of value v of a block as it is stored, without its offset.
__device__ uint32_t quant_of(const BlockQ4_0& b, int v) { return v < 16 ? b.q[v] & 15u : b.q[v - 16] >> 4; }
__device__ uint32_t nibble_of(const uint8_t* q, int v) {
    const uint32_t byte = q[v / 64 * 32 + v % 32];
    return v / 32 % 2 == 0 ? byte & 15u : byte >> 4;
}
__device__ uint32_t quant_of(const BlockQ4_K& b, int v) { return nibble_of(b.q, v); }
__device__ uint32_t quant_of(const BlockQ5_K& b, int v) {
    return nibble_of(b.q, v) | ((b.qh[v % 32] >> (v / 32)) & 1u) << 4;
}
__device__ uint32_t quant_of(const BlockQ6_K& b, int v) {
    const int half = v / 128, quarter = v % 128 / 32, l = v % 32;
    const uint32_t byte = b.ql[64 * half + l + 32 * (quarter & 1)];
    return (quarter < 2 ? byte & 15u : byte >> 4) | ((b.qh[32 * half + l] >> (2 * quarter)) & 3u) << 4;
}

// A byte of a packed struct's 2-byte number; the blocks have no alignment worth the name.
__device__ uint32_t word16(const uint16_t& v) {
    const auto* b = reinterpret_cast<const uint8_t*>(&v);
    return b[0] | static_cast<uint32_t>(b[1]) << 8;
}
__device__ uint32_t word32(const void* p) {
    const auto* b = static_cast<const uint8_t*>(p);
    return b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
}

// Bits [from, from + n) of the lane's eight values of block `block` (32 columns) of a row, value 2j + h at bit
// step j + 16h.
template <class Block>
__device__ uint32_t gather_bits(const Block* b, int first, int t, bool split, int from, int n, int step) {
    uint32_t word = 0;
    if (b == nullptr) return word;
    for (int i = 0; i < 8; i++) {
        const int v = first + (split ? (i < 4 ? 4 * t + i : 16 + 4 * t + i - 4) : 8 * t + i);
        const uint32_t bits = (quant_of(*b, v) >> from) & ((1u << n) - 1);
        word |= bits << (step * (i / 2) + 16 * (i & 1));
    }
    return word;
}

// Four bytes in the order 0, 2, 1, 3.
__device__ uint32_t spread_bytes(const void* p) { return __byte_perm(word32(p), 0, 0x3120u); }

__device__ void pack(const Source<BlockQ8_0>& s, int64_t tile, int group, int lane, uint4* quants, uint32_t* scales) {
    const int64_t row = tile * kTile + lane / 4;
    const int t = lane & 3;
    for (int b = 0; b < 4; b++) {
        const BlockQ8_0 *low = s.at(row, group * 4 + b), *high = s.at(row + 8, group * 4 + b);
        quants[b * 32 + lane] =
            make_uint4(low ? spread_bytes(low->q + 8 * t) : 0, high ? spread_bytes(high->q + 8 * t) : 0,
                       low ? spread_bytes(low->q + 8 * t + 4) : 0, high ? spread_bytes(high->q + 8 * t + 4) : 0);
        if (t == 0) scales[lane + b] = (low ? word16(low->d) : 0) | (high ? word16(high->d) : 0) << 16;
    }
}

__device__ void pack(const Source<BlockQ4_0>& s, int64_t tile, int group, int lane, uint4* quants, uint32_t* scales) {
    const int64_t row = tile * kTile + lane / 4;
    const int t = lane & 3;
    for (int b = 0; b < 4; b++) {
        const BlockQ4_0 *low = s.at(row, group * 4 + b), *high = s.at(row + 8, group * 4 + b);
        auto* to = reinterpret_cast<uint32_t*>(quants + b / 2 * 32 + lane) + 2 * (b & 1);
        to[0] = gather_bits(low, 0, t, false, 0, 4, 4);
        to[1] = gather_bits(high, 0, t, false, 0, 4, 4);
        if (t == 0) scales[lane + b] = (low ? word16(low->d) : 0) | (high ? word16(high->d) : 0) << 16;
    }
}

// The nibbles of a K block's group, and what else its rows hold.
template <class Block>
__device__ void pack_nibbles(const Block* low, const Block* high, int lane, bool split, uint4* quants) {
    for (int b = 0; b < 8; b++) {
        auto* to = reinterpret_cast<uint32_t*>(quants + b / 2 * 32 + lane) + 2 * (b & 1);
        to[0] = gather_bits(low, 32 * b, lane & 3, split, 0, 4, 4);
        to[1] = gather_bits(high, 32 * b, lane & 3, split, 0, 4, 4);
    }
}

// Of blocks 2t and 2t + 1 of both rows the six bits of scale and minimum, as quant_layout.h says.
template <class Block>
__device__ void pack_scales(const Block* low, const Block* high, int lane, uint32_t* scales) {
    const int t = lane & 3;
    uint32_t word = 0, nibbles = 0;
    for (int i = 0; i < 4; i++) {
        const Block* block = i < 2 ? low : high;
        const int b = 2 * t + i % 2;
        if (block == nullptr) continue;
        const uint8_t* s = block->scales;
        const uint32_t scale = b < 4 ? s[b] & 63u : (s[b + 4] & 15u) | (s[b - 4] >> 6) << 4;
        const uint32_t min = b < 4 ? s[b + 4] & 63u : s[b + 4] >> 4 | (s[b] >> 6) << 4;
        word |= (scale | min >> 4 << 6) << (8 * i);
        nibbles |= (min & 15u) << (i < 2 ? 8 * i : 8 * (i - 2) + 4);
    }
    scales[lane] = word;
    uint32_t* rest = scales + 32 + lane / 4 * 4;
    reinterpret_cast<uint16_t*>(rest)[t] = static_cast<uint16_t>(nibbles);
    if (t >= 2) return;
    const Block* block = t == 0 ? low : high;
    rest[2 + t] = block ? word16(block->d) | word16(block->dmin) << 16 : 0;
}

__device__ void pack(const Source<BlockQ4_K>& s, int64_t tile, int group, int lane, uint4* quants, uint32_t* scales) {
    const BlockQ4_K *low = s.at(tile * kTile + lane / 4, group), *high = s.at(tile * kTile + lane / 4 + 8, group);
    pack_nibbles(low, high, lane, false, quants);
    pack_scales(low, high, lane, scales);
}

__device__ void pack(const Source<BlockQ5_K>& s, int64_t tile, int group, int lane, uint4* quants, uint32_t* scales) {
    const BlockQ5_K *low = s.at(tile * kTile + lane / 4, group), *high = s.at(tile * kTile + lane / 4 + 8, group);
    pack_nibbles(low, high, lane, false, quants);
    pack_scales(low, high, lane, scales);
    auto* to = reinterpret_cast<uint32_t*>(quants + 4 * 32 + lane);
    for (int i = 0; i < 4; i++) {
        uint32_t word = 0;
        for (int b = 0; b < 4; b++) {
            word |= gather_bits(i < 2 ? low : high, 32 * (4 * (i & 1) + b), lane & 3, false, 4, 1, 1) << (4 * b);
        }
        to[i] = word;
    }
}

__device__ void pack(const Source<BlockQ6_K>& s, int64_t tile, int group, int lane, uint4* quants, uint32_t* scales) {
    const int g = lane / 4, t = lane & 3;
    const BlockQ6_K *low = s.at(tile * kTile + g, group), *high = s.at(tile * kTile + g + 8, group);
    pack_nibbles(low, high, lane, true, quants);
    for (int upper = 0; upper < 2; upper++) {
        const BlockQ6_K* block = upper ? high : low;
        auto* to = reinterpret_cast<uint32_t*>(quants + (4 + upper) * 32 + lane);
        for (int i = 0; i < 4; i++) {
            to[i] = gather_bits(block, 64 * i, t, true, 4, 2, 2) | gather_bits(block, 64 * i + 32, t, true, 4, 2, 2)
                                                                       << 8;
        }
        scales[(g + 8 * upper) * 4 + t] = block ? word32(block->scales + 4 * t) : 0;
    }
    if (t == 0) scales[64 + g] = (low ? word16(low->d) : 0) | (high ? word16(high->d) : 0) << 16;
}

template <class Block>
__global__ void repack_kernel(Source<Block> source, QuantLayout layout, int64_t first_tile, unsigned char* to) {
    grid_dependents();
    grid_wait();
    const int64_t at = (first_tile + blockIdx.x) * gridDim.y + blockIdx.y;
    unsigned char* group = to + at * (layout.quant_bytes + layout.scale_bytes);
    pack(source, blockIdx.x, blockIdx.y, threadIdx.x, reinterpret_cast<uint4*>(group),
         reinterpret_cast<uint32_t*>(group + layout.quant_bytes));
}

template <class Block>
void launch_repack(const Gpu& gpu, DType type, const void* from, int64_t first_row, int64_t n_rows, int64_t cols,
                   void* to) {
    const Source<Block> source{static_cast<const unsigned char*>(from), n_rows,
                               static_cast<int>(cols / info(type).block_values)};
    const QuantSize size = quant_size(type, n_rows, cols);
    launch(gpu, dim3(size.tiles, size.groups), dim3(32), 0, repack_kernel<Block>, source, quant_layout(type),
           first_row / kTile, static_cast<unsigned char*>(to));
}

}  // namespace

void repack(const Gpu& gpu, DType type, const void* from, int64_t first_row, int64_t n_rows, int64_t cols, void* to) {
    switch (type) {
        case DType::kQ8_0:
            return launch_repack<BlockQ8_0>(gpu, type, from, first_row, n_rows, cols, to);
        case DType::kQ4_0:
            return launch_repack<BlockQ4_0>(gpu, type, from, first_row, n_rows, cols, to);
        case DType::kQ4_K:
            return launch_repack<BlockQ4_K>(gpu, type, from, first_row, n_rows, cols, to);
        case DType::kQ5_K:
            return launch_repack<BlockQ5_K>(gpu, type, from, first_row, n_rows, cols, to);
        case DType::kQ6_K:
            return launch_repack<BlockQ6_K>(gpu, type, from, first_row, n_rows, cols, to);
        default:
            break;  // plain rows are copied
    }
}

}  // namespace samba::cuda
