// The causal depthwise convolution with its carried rows.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/op_kernels.h"
#include "kernels/cpu/ops.h"

namespace samba {
namespace {

constexpr size_t kSavedValues = 16384;  // of the old state, on the stack; only absurd widths need more
constexpr int64_t kRowTile = 64;        // rows of a tile stay in the cache while its columns are walked

// The plane after row t of a run: its last `past` raw rows, oldest first. u is the run's first row.
void keep_rows(const float* u, int64_t stride, int64_t t, int64_t channels, int past, const float* before,
               float* plane) {
    for (int j = 0; j < past; ++j) {
        int64_t row = t - past + 1 + j;
        const float* from = row >= 0 ? u + row * stride : before + row + past;
        int64_t step = row >= 0 ? 1 : past;
        for (int64_t c = 0; c < channels; ++c) plane[c * past + j] = from[c * step];
    }
}

ConvArgs arguments(const Run& run, View u, const Conv& conv, PlaneState state, Range channels) {
    ConvArgs a;
    a.u = u.f32(run.first_row) + channels.first;
    a.stride = u.stride;
    a.last = run.n_rows;
    a.channels = channels.size();
    a.width = conv.width();
    a.taps = conv.taps.f32() + channels.first * a.width;
    a.bias = conv.bias() ? conv.bias() + channels.first : nullptr;
    a.before = state.before(run.slot, run.position) + channels.first * (a.width - 1);
    return a;
}

void conv_rows(const OpKernels& ops, const Run& run, PlaneState state, Range channels, ConvArgs a) {
    int past = a.width - 1;
    float saved[kSavedValues];
    std::vector<float> saved_more;
    if (run.n_rows >= state.n_planes && past > 0) {  // the old state's plane is written below
        auto n = static_cast<size_t>(channels.size() * past);
        if (n > kSavedValues) saved_more.resize(n);
        float* copy = n > kSavedValues ? saved_more.data() : saved;
        std::memcpy(copy, a.before, n * sizeof(float));
        a.before = copy;
    }
    for (int64_t t = std::max(0, run.n_rows - state.n_planes); t < run.n_rows; ++t) {
        float* plane = state.after(run.slot, run.position + t) + channels.first * past;
        keep_rows(a.u, a.stride, t, a.channels, past, a.before, plane);
    }
    for (a.last = run.n_rows; a.last > 0; a.last = a.first) {
        a.first = std::max<int64_t>(0, (a.last - 1) / kRowTile * kRowTile);
        ops.conv(a);
    }
}

}  // namespace

void conv_silu(Isa isa, const Step& s, View u, const Conv& conv, PlaneState state, Range channels) {
    const OpKernels& ops = op_kernels(isa);
    int64_t piece = static_cast<int64_t>(kSavedValues) / std::max(1, conv.width() - 1) / kChannelTile * kChannelTile;
    piece = std::max(piece, kChannelTile);
    for (const Run& run : s.runs) {
        if (run.n_rows == 1 && conv.width() == 4) {
            ops.conv_one(arguments(run, u, conv, state, channels),
                         state.after(run.slot, run.position) + channels.first * 3);
            continue;
        }
        for (int64_t c = channels.first; c < channels.last; c += piece) {
            Range part{c, std::min(c + piece, channels.last)};
            conv_rows(ops, run, state, part, arguments(run, u, conv, state, part));
        }
    }
}

void conv_silu(ThreadPool& pool, const Step& s, View u, const Conv& conv, PlaneState state) {
    pool.run(
        [&](int thread, int n) { conv_silu(pool.isa(), s, u, conv, state, share(u.cols, thread, n, kChannelTile)); });
}

}  // namespace samba
