// How quantised weights lie on the device: the values of the file's blocks, in the order in which a warp multiplies
// them.
//
// Rows are taken in tiles of 16, columns in groups. A tile's groups follow one another; a group is first split into
// blocks of 32 columns. Lane l = 4g + t of a warp works on rows g and g + 8 of the tile, on columns 8t … 8t + 7 of each
// block (Q6_K: 4t … 4t + 3 and 16 + 4t … 16 + 4t + 3, so that an instruction sees one scale). Missing rows and columns
// are zeros with a scale of zero. A group's scales lie behind its quants.
//
//   Q8_0  quants: per block, per lane 16 bytes: 4 int8 of row g, 4 of row g + 8, the next 4 of each; in the order 0, 2,
//         1, 3.
//         scales: per g 16 bytes: for each of the group's 4 blocks f16 d of row g, of row g + 8.
//   Q4_0  quants: per pair of blocks, per lane 4 words: block 0 row g, row g + 8, block 1 row g, row g + 8; value 2j +
//   h
//         of a word's 8 lies in bits 4j + 16h …+3. scales as in Q8_0.
//   Q4_K  quants as in Q4_0. scales: per lane a word: bytes 0, 1: of row g blocks 2t, 2t + 1, bytes 2, 3: of row g + 8:
//         the scale, and above it bits 4 and 5 of the minimum; then per g 16 bytes: per t two bytes, whose nibbles 0,
//         2, 1, 3 are the rest of those minima, and f16 d, dmin of row g, of row g + 8.
//   Q5_K  as Q4_K; after the group's nibbles, per lane 4 words of fifth bits: row g blocks 0-3, blocks 4-7, row g + 8
//         the same; value 2j + h of block b in bit 4 (b mod 4) + j + 16h.
//   Q6_K  quants as in Q4_0, then per lane 8 words of upper bits: row g block pairs 0-1 … 6-7, row g + 8 the same;
//   value
//         2j + h of block b in bits 8 (b mod 2) + 2j + 16h …+1. scales: per row 16 int8, then per g f16 d of g, g + 8.
#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace samba::cuda {

inline constexpr int kTile = 16;  // rows

struct QuantLayout {
    int columns;      // of a group
    int quant_bytes;  // of a group of a tile
    int scale_bytes;
};

constexpr QuantLayout quant_layout(DType type) {
    switch (type) {
        case DType::kQ8_0:
            return {128, 2048, 128};
        case DType::kQ4_0:
            return {128, 1024, 128};
        case DType::kQ4_K:
            return {256, 2048, 256};
        case DType::kQ5_K:
            return {256, 2560, 256};
        default:
            return {256, 3072, 288};  // Q6_K
    }
}

struct QuantSize {
    int64_t tiles, groups;
    size_t bytes;
};

constexpr QuantSize quant_size(DType type, int64_t rows, int64_t cols) {
    const QuantLayout l = quant_layout(type);
    const int64_t tiles = (rows + kTile - 1) / kTile, groups = (cols + l.columns - 1) / l.columns;
    return {tiles, groups, static_cast<size_t>(tiles * groups * (l.quant_bytes + l.scale_bytes))};
}

}  // namespace samba::cuda
