// Times matrix products beside the machine's limits, measured in the same run.
//   bench_kernels [TYPE…] [--shape OUTxCOLS]… [--rows N]… [--threads N] [--cached]
// Weights are random and cover more memory than the caches hold, as those of a model do. One row is bound by reading
// the weights, many rows by arithmetic: the last column is the share of that limit. --cached: the same weights again
// and again, so what a small matrix costs without memory.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/limits.h"
#include "kernels/cpu/matmul.h"
#include "kernels/quant.h"

using namespace samba;

namespace {

struct Shape {
    int64_t rows, cols;
};

struct Options {
    std::vector<DType> types;
    std::vector<Shape> shapes;
    std::vector<int64_t> rows;
    int threads = 0;
    bool cached = false;
};

Options parse(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; ++i) {
        std::string arg = argv[i];
        auto value = [&] { return ++i < argc ? argv[i] : ""; };
        if (arg == "--threads") {
            o.threads = std::atoi(value());
        } else if (arg == "--cached") {
            o.cached = true;
        } else if (arg == "--rows") {
            o.rows.push_back(std::atoi(value()));
        } else if (arg == "--shape") {
            Shape s{};
            if (std::sscanf(value(), "%ldx%ld", &s.rows, &s.cols) == 2) o.shapes.push_back(s);
        } else if (auto type = parse_dtype(arg)) {
            o.types.push_back(*type);
        } else {
            std::fprintf(
                stderr,
                "usage: bench_kernels [TYPE...] [--shape OUTxCOLS]... [--rows N]... [--threads N] [--cached]\n");
            std::exit(2);
        }
    }
    if (o.types.empty()) {
        o.types = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                   DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
    }
    if (o.shapes.empty()) o.shapes = {{8192, 1536}, {1536, 4096}};
    if (o.rows.empty()) o.rows = {1, 4, 16, 512};
    return o;
}

// Weights of that shape, as many as fill 256 MB (16 MB for many rows); blocks are random but for sane f16 factors.
std::vector<Weight> make_weights(DType type, Shape shape, size_t bytes, std::vector<std::vector<uint16_t>>& memory) {
    size_t each = static_cast<size_t>(shape.rows) * row_bytes(type, shape.cols);
    std::vector<float> row(static_cast<size_t>(shape.cols));
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (float& x : row) x = normal(engine);
    std::vector<uint16_t> packed(row_bytes(type, shape.cols) / 2);
    quantize_row(type, row.data(), packed.data(), shape.cols);
    std::vector<Weight> weights;
    for (size_t i = 0; i < std::max<size_t>(1, bytes / each); ++i) {
        std::vector<uint16_t>& m = memory.emplace_back();
        for (int64_t r = 0; r < shape.rows; ++r) m.insert(m.end(), packed.begin(), packed.end());
        Weight w;
        w.rows = shape.rows;
        w.cols = shape.cols;
        w.parts = {{type, shape.rows, m.data()}};
        weights.push_back(w);
    }
    return weights;
}

double median_seconds(int times, const std::function<void()>& f) {
    std::vector<double> s;
    for (int i = 0; i < times; ++i) {
        auto start = std::chrono::steady_clock::now();
        f();
        s.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(s.begin(), s.end());
    return s[s.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    Options o = parse(argc, argv);
    ThreadPool pool(o.threads);
    Matmul matmul(pool);
    double bandwidth = measure_read_bandwidth(pool);
    Peaks peaks = measure_peaks(pool);
    std::printf("%d threads, %s: read %.1f GB/s; peaks f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s\n", pool.size(),
                isa_name(pool.isa()), bandwidth / 1e9, peaks.f32 / 1e9, peaks.bf16 / 1e9, peaks.int8 / 1e9);
    std::printf("%-5s %12s %5s %10s %8s %9s %7s\n", "type", "weight", "rows", "us", "GB/s", "GFLOP/s", "share");
    for (DType type : o.types) {
        for (Shape shape : o.shapes) {
            for (int64_t rows : o.rows) {
                std::vector<std::vector<uint16_t>> memory;
                std::vector<Weight> weights =
                    make_weights(type, shape, o.cached ? 0 : size_t{rows <= 16 ? 256u : 16u} << 20, memory);
                StepKind kind = rows <= 64 ? StepKind::kDecode : StepKind::kPrefill;
                matmul.reserve(rows, shape.cols, shape.cols);
                std::vector<float> x(static_cast<size_t>(rows * shape.cols), 0.5f),
                    y(static_cast<size_t>(rows * shape.rows));
                for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 31) - 15.0f;
                View in(x.data(), rows, shape.cols), out(y.data(), rows, shape.rows);
                double s = median_seconds(o.cached ? 301 : 9, [&] {
                    for (const Weight& w : weights) matmul.product(kind, in, nullptr, w, out);
                });
                s /= static_cast<double>(weights.size());
                double bytes = static_cast<double>(shape.rows) * static_cast<double>(row_bytes(type, shape.cols));
                double flops = 2.0 * static_cast<double>(shape.rows * shape.cols * rows);
                RowFormat format = row_format(type, kind, pool.isa());
                double peak = format == RowFormat::kInt8   ? peaks.int8
                              : format == RowFormat::kBf16 ? peaks.bf16
                                                           : peaks.f32;
                double share = peak > 0 ? std::max(bytes / s / bandwidth, flops / s / peak) : bytes / s / bandwidth;
                std::printf("%-5s %6ldx%-5ld %5ld %10.1f %8.1f %9.1f %5.0f %%\n", info(type).name, shape.rows,
                            shape.cols, rows, s * 1e6, bytes / s / 1e9, flops / s / 1e9, 100 * share);
            }
        }
    }
}
