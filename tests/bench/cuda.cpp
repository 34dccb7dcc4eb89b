// Benchmarks of the CUDA backend, with random weights: end to end, and of single ops at a model's shapes.
//   bench_cuda model PRESET TYPE [decode=BATCH[,BATCH…]] [prefill=TOKENS] [position=N] [unread=1]
// Decoding starts at a position, after a prompt of that length; with unread=1 the state stays empty, which costs the
// same.
//   bench_cuda ops PRESET TYPE
// A line gives the median of five runs, GB/s or TFLOP/s, and the share of what a copy (or the chip's bf16 peak, as
// cuBLASLt reaches it) gives in the same run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/error.h"
#include "models/samba.h"

using namespace samba;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

// Bytes read and written a second by copies of 2 GiB (less where the device is small).
double copy_bandwidth(Backend& be) {
    const size_t bytes = size_t{1} << 31;
    Buffer a = be.allocate(bytes), b = be.allocate(bytes);
    char byte = 0;
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) {
        const double start = now();
        for (int k = 0; k < 4; ++k) be.copy(b.data(), a.data(), bytes);
        be.read(&byte, b.data(), 1);
        times.push_back((now() - start) / 4);
    }
    return 2.0 * static_cast<double>(bytes) / median(times);
}

// Random values of a type that are neither tiny nor huge.
void fill(Backend& be, View v) {
    std::mt19937 engine(7);
    std::vector<uint32_t> words(1 << 20);
    for (uint32_t& w : words) {
        const uint32_t r = engine();
        if (v.type == DType::kF32) {
            w = 0x3f000000u | (r & 0x807fffffu);
        } else {
            const uint32_t one = v.type == DType::kF16 ? 0x38003800u : 0x3f003f00u;
            w = one | (r & (v.type == DType::kF16 ? 0x83ff83ffu : 0x807f807fu));
        }
    }
    const size_t bytes = static_cast<size_t>(v.rows) * row_bytes(v.type, v.stride);
    for (size_t at = 0; at < bytes; at += words.size() * 4) {
        be.write(static_cast<char*>(v.data) + at, words.data(), std::min(bytes - at, words.size() * 4));
    }
}

struct Model {
    ModelFile file;
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Samba> samba;
    double load_seconds = 0;

    Model(const std::string& name, DType type, int n_slots, int max_rows, int64_t max_context = 32768) {
        const double start = now();
        file = random_model(preset(name), type, 1, nullptr);
        const double made = now();
        backend = make_cuda_backend({.device = 0, .f32_activations = type == DType::kF32, .graphs = true});
        Samba::Options o;
        o.n_slots = n_slots;
        o.ring_type = type == DType::kF32 ? DType::kF32 : DType::kF16;
        o.max_rows = max_rows;
        o.max_context = max_context;
        samba = std::make_unique<Samba>(file, *backend, o);
        load_seconds = now() - made;
        std::printf("%s %s: %.2f GB of weights, made in %.1f s, loaded in %.1f s; %.1f MB a slot\n", name.c_str(),
                    info(type).name, static_cast<double>(file.bytes) / 1e9, made - start, load_seconds,
                    static_cast<double>(samba->layout().slot_bytes) / 1e6);
    }
    void submit(const Step& s) {
        backend->submit(s, [this](const Step& step) { samba->forward(step); });
    }
};

std::vector<int32_t> random_ids(int64_t n, int64_t vocab) {
    std::mt19937 engine(3);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids) id = static_cast<int32_t>(engine() % static_cast<uint32_t>(vocab));
    return ids;
}

// Seconds to read a prompt of so many tokens, in chunks, its last token drawn.
double prefill(Model& m, int slot, int64_t n) {
    const int64_t chunk = m.backend->prefill_chunk();
    const std::vector<int32_t> ids = random_ids(n, m.file.config.vocab_size);
    const double start = now();
    for (int64_t at = 0; at < n; at += chunk) {
        Step s;
        s.kind = StepKind::kPrefill;
        const auto rows = static_cast<int>(std::min(chunk, n - at));
        s.runs = {{slot, at, 0, rows, false}};
        s.tokens.assign(ids.begin() + at, ids.begin() + at + rows);
        if (at + rows == n) s.wanted = {rows - 1}, s.sample = true;
        m.submit(s);
        m.backend->receive();
    }
    return now() - start;
}

// Seconds a step of `batch` slots, from a position on, four steps ahead.
double decode(Model& m, int batch, int64_t& position, int steps) {
    auto step = [&] {
        Step s;
        s.kind = StepKind::kDecode;
        for (int i = 0; i < batch; ++i) {
            s.runs.push_back({i, position, i, 1, true});
            s.wanted.push_back(i);
        }
        s.tokens.resize(static_cast<size_t>(batch));
        s.sample = true;
        ++position;
        m.submit(s);
    };
    for (int i = 0; i < 4; ++i) step(), m.backend->receive();  // captured
    const double start = now();
    const int depth = m.backend->run_ahead();
    for (int i = 0; i < steps + depth; ++i) {
        if (i < steps) step();
        if (i >= depth) m.backend->receive();
    }
    return (now() - start) / steps;
}

// Bytes that a decode step must move: weights (a tied embedding once), the visible ring, the recurrent state twice.
double step_bytes(const Model& m, int batch, int64_t position) {
    const bool tied = m.file.find("output.weight") == nullptr;
    double weights = static_cast<double>(m.file.bytes);
    if (!tied) weights -= static_cast<double>(m.file.find("token_embd.weight")->bytes());
    double state = 0;
    for (const auto& p : m.samba->layout().planes) state += 2.0 * static_cast<double>(p.plane_bytes);
    for (const auto& r : m.samba->layout().rings) {
        const int64_t rows = r.window > 0 ? std::min(position, r.window) : position;
        state += 2.0 * r.n_kv_heads * static_cast<double>(rows) * static_cast<double>(r.row_bytes);
    }
    return weights + batch * state;
}

std::vector<int> numbers(const std::string& list) {
    std::vector<int> all;
    for (size_t at = 0; at < list.size();) {
        size_t end = list.find(',', at);
        if (end == std::string::npos) end = list.size();
        all.push_back(std::stoi(list.substr(at, end - at)));
        at = end + 1;
    }
    return all;
}

void bench_model(const std::string& name, DType type, const std::vector<std::string>& rest) {
    std::vector<int> batches;
    int64_t prompt = 0, start = 2112;
    bool unread = false;
    for (const std::string& arg : rest) {
        const std::string value = arg.substr(arg.find('=') + 1);
        if (arg.starts_with("decode=")) batches = numbers(value);
        if (arg.starts_with("prefill=")) prompt = std::stoll(value);
        if (arg.starts_with("position=")) start = std::stoll(value);
        if (arg.starts_with("unread=")) unread = value != "0";
    }
    const int n_slots = batches.empty() ? 1 : *std::max_element(batches.begin(), batches.end());
    constexpr int64_t kMargin = 4096;  // of steps beyond the position
    Model m(name, type, n_slots, 0, std::max(prompt, batches.empty() ? 0 : start + kMargin));
    const double bandwidth = copy_bandwidth(*m.backend);
    std::printf("  %s, copy %.0f GB/s\n", m.backend->description().c_str(), bandwidth / 1e9);
    if (prompt > 0) {
        prefill(m, 0, std::min<int64_t>(prompt, 3 * m.backend->prefill_chunk()));
        std::vector<double> times;
        for (int i = 0; i < 3; ++i) times.push_back(prefill(m, 0, prompt));
        std::printf("  prefill %lld tokens: %.3f s, %.0f tokens/s\n", static_cast<long long>(prompt), median(times),
                    static_cast<double>(prompt) / median(times));
    }
    if (!batches.empty() && !unread) {
        for (int slot = 0; slot < n_slots; ++slot) prefill(m, slot, start);
    }
    for (const int batch : batches) {
        int64_t position = start;
        std::vector<double> times;
        for (int i = 0; i < 5; ++i) times.push_back(decode(m, batch, position, batch > 8 ? 60 : 200));
        const double t = median(times), bytes = step_bytes(m, batch, position);
        std::printf("  decode batch %d: %.1f us a step, %.0f tokens/s, %.0f GB/s, %.1f %% of the copy\n", batch,
                    t * 1e6, batch / t, bytes / t / 1e9, 100 * bytes / t / bandwidth);
    }
}

// Seconds of one `op`, run n times in a graph (decode) or one after another (prefill). A graph is known by its step's
// shape, so every op's step wants a row of its own number: or the graph of the op before it would be run again.
int n_timed = 0;

template <class Op>
double time_op(Backend& be, StepKind kind, int rows, int64_t position, int n, Op&& op) {
    Step s;
    s.kind = kind;
    s.runs = {{0, position, 0, rows, false}};
    s.tokens.resize(static_cast<size_t>(rows));
    s.wanted = {n_timed++};
    std::vector<double> times;
    for (int i = 0; i < 7; ++i) {
        char byte;
        Buffer sync = be.allocate(1);
        be.read(&byte, sync.data(), 1);
        const double start = now();
        be.submit(s, [&](const Step& step) {
            for (int k = 0; k < n; ++k) op(step, k);
        });
        be.receive();
        be.read(&byte, sync.data(), 1);
        if (i > 1) times.push_back(now() - start);
    }
    return median(times) / n;
}

void line(const char* what, double seconds, double bytes, double flops, double bandwidth) {
    std::printf("  %-28s %9.2f us %8.0f GB/s %5.1f %% %8.1f TFLOP/s\n", what, seconds * 1e6, bytes / seconds / 1e9,
                100 * bytes / seconds / bandwidth, flops / seconds / 1e12);
}

class OpBench {
  public:
    OpBench(const std::string& name, DType type) : m_(name, type, 1, 0), type_(type) {
        bandwidth_ = copy_bandwidth(be());
        for (const BlockConfig& b : m_.file.config.blocks) {
            if (b.mixer == Mixer::kAttention) attention_ = b;
            if (b.d_ff > 0) d_ff_ = b.d_ff;
        }
        act_ = be().activation_type();
    }
    void run() {
        std::printf("  %s, copy %.0f GB/s\n", be().description().c_str(), bandwidth_ / 1e9);
        const Config& c = m_.file.config;
        for (const int rows : {1, 8, 4096}) {
            std::printf("  -- %d rows\n", rows);
            product("in_proj", "ssm_in.weight", rows);
            product("x_proj", "ssm_x.weight", rows);
            product("dt_proj", "ssm_dt.weight", rows);
            product("down", "ffn_down.weight", rows);
            product("gate", "ffn_gate.weight", rows);
            rmsnorm(rows);
            silu(rows);
            conv(rows);
            scan(rows, c);
            attention(rows);
        }
    }

  private:
    Backend& be() { return *m_.backend; }
    static StepKind kind(int rows) { return rows <= 8 ? StepKind::kDecode : StepKind::kPrefill; }
    static constexpr int kRepeats = 24;  // so many times a step: waiting for it takes some 25 us
    View matrix(int64_t rows, int64_t cols, DType type) {
        const size_t bytes = static_cast<size_t>(rows) * row_bytes(type, cols);
        buffers_.push_back(be().allocate(bytes));
        View v(buffers_.back().data(), rows, cols, type);
        fill(be(), v);
        return v;
    }
    // The tensors of that name of all blocks, to be taken in turn: no weight stays in the cache.
    std::vector<Weight> of_all_blocks(const std::string& name) {
        std::vector<Weight> weights;
        for (size_t i = 0; i < m_.file.config.blocks.size(); ++i) {
            if (const Tensor* t = m_.file.find("blk." + std::to_string(i) + "." + name)) {
                weights.push_back(be().load(std::span(t, 1)));
            }
        }
        return weights;
    }
    static double bytes_of(const Weight& w) {
        const TypeInfo& type = info(w.parts[0].type);
        return static_cast<double>(w.rows * w.cols) / type.block_values * type.block_bytes;
    }
    void product(const char* what, const std::string& name, int rows) {
        const std::vector<Weight> weights = of_all_blocks(name);
        if (weights.empty()) return;
        const Weight& w = weights[0];
        const View x = matrix(rows, w.cols, act_), y = matrix(rows, w.rows, act_);
        const double t = time_op(be(), kind(rows), rows, 0, kRepeats, [&](const Step& s, int k) {
            be().matmul(s, x, weights[static_cast<size_t>(k) % weights.size()], y);
        });
        const double values = static_cast<double>(w.rows * w.cols), r = rows;
        const double bytes = bytes_of(w) + 2 * r * static_cast<double>(w.rows + w.cols);
        line((std::string(what) + " " + std::to_string(w.rows) + "x" + std::to_string(w.cols)).c_str(), t, bytes,
             2 * values * r, bandwidth_);
        buffers_.clear();
    }
    void rmsnorm(int rows) {
        const int64_t d = m_.file.config.d_model;
        const View x = matrix(rows, d, DType::kF32), y = matrix(rows, d, act_);
        const Weight w = be().load(std::span(m_.file.find("output_norm.weight"), 1));
        const double t = time_op(be(), kind(rows), rows, 0, kRepeats, [&](const Step& s, int) {
            be().rmsnorm(s, x, {w, 1e-5f}, y);
        });
        line("rmsnorm", t, 6.0 * rows * static_cast<double>(d), 0, bandwidth_);
        buffers_.clear();
    }
    void silu(int rows) {
        const View x = matrix(rows, 2 * d_ff_, act_), h = matrix(rows, d_ff_, act_);
        const double t =
            time_op(be(), kind(rows), rows, 0, kRepeats, [&](const Step& s, int) { be().silu_mul(s, x, h); });
        line("silu_mul", t, 6.0 * rows * static_cast<double>(d_ff_), 0, bandwidth_);
        buffers_.clear();
    }
    PlaneState planes(int64_t size) {
        View v = matrix(8, size, DType::kF32);
        be().zero(v.data, static_cast<size_t>(8 * size) * 4);
        return {v.f32(), 8 * size, size, 8};
    }
    void conv(int rows) {
        const Config& c = m_.file.config;
        const Tensor *taps = m_.file.find("blk.0.ssm_conv1d.weight"), *bias = m_.file.find("blk.0.ssm_conv1d.bias");
        if (taps == nullptr) return;
        Conv conv;
        conv.taps = be().load(std::span(taps, 1), bias);
        const View uz = matrix(rows, 2 * c.d_inner, act_);
        const PlaneState state = planes(static_cast<int64_t>(c.d_inner) * (c.d_conv - 1));
        const double t = time_op(be(), kind(rows), rows, 100, kRepeats,
                                 [&](const Step& s, int) { be().conv_silu(s, uz.columns(0, c.d_inner), conv, state); });
        line("conv_silu", t, 4.0 * rows * c.d_inner, 0, bandwidth_);
        conv_matmul(rows, conv, state, uz.columns(0, c.d_inner));
        buffers_.clear();
    }
    void conv_matmul(int rows, const Conv& conv, PlaneState state, View u) {
        const std::vector<Weight> weights = of_all_blocks("ssm_x.weight");
        if (weights.empty()) return;
        const View dbc = matrix(rows, weights[0].rows, act_);
        const double t = time_op(be(), kind(rows), rows, 100, kRepeats, [&](const Step& s, int k) {
            be().conv_matmul(s, u, conv, weights[static_cast<size_t>(k) % weights.size()], state, dbc);
        });
        line("conv_matmul", t, bytes_of(weights[0]) + 6.0 * rows * static_cast<double>(u.cols), 0, bandwidth_);
    }
    void scan(int rows, const Config& c) {
        if (m_.file.find("blk.0.ssm_a") == nullptr) return;
        ScanWeights w;
        w.A = be().load(std::span(m_.file.find("blk.0.ssm_a"), 1));
        w.D = be().load(std::span(m_.file.find("blk.0.ssm_d"), 1));
        const View uz = matrix(rows, 2 * c.d_inner, act_), dbc = matrix(rows, c.dt_rank + 2 * c.d_state, act_),
                   dt = matrix(rows, c.d_inner, DType::kF32), y = matrix(rows, c.d_inner, act_);
        const PlaneState state = planes(static_cast<int64_t>(c.d_inner) * c.d_state);
        const double t = time_op(be(), kind(rows), rows, 100, kRepeats, [&](const Step& s, int) {
            be().selective_scan(s,
                                {uz.columns(0, c.d_inner), uz.columns(c.d_inner, c.d_inner), dbc, c.dt_rank, c.d_state},
                                dt, w, state, y);
        });
        // 16 exponentials a clock and multiprocessor: the bound, at 132 of them and 1.755 GHz.
        const double bound = static_cast<double>(rows) * c.d_inner * c.d_state / (16.0 * 132 * 1.755e9);
        line("scan", t, 10.0 * rows * c.d_inner, 0, bandwidth_);
        std::printf("  %-28s %9.2f us, %.2f times it\n", "  exp bound (H100, H200)", bound * 1e6, t / bound);
        buffers_.clear();
    }
    void attention(int rows) {
        const BlockConfig& b = attention_;
        if (b.n_heads == 0) return;
        const int64_t q = static_cast<int64_t>(b.n_heads) * b.head_dim,
                      kv = static_cast<int64_t>(b.n_kv_heads) * b.head_dim;
        const DType type = act_ == DType::kF32 ? DType::kF32 : DType::kF16;
        const View all = matrix(rows, q + 2 * kv, type), y = matrix(rows, q, act_);
        Ring ring;
        ring.n_rows = b.window + kRingSlack, ring.window = b.window;
        ring.n_kv_heads = b.n_kv_heads, ring.head_dim = b.head_dim, ring.type = type;
        const View memory = matrix(2 * ring.n_kv_heads, ring.n_rows * b.head_dim, type);
        ring.k = memory.row<char>(0);
        ring.v = ring.k + static_cast<size_t>(ring.n_kv_heads) * ring.head_bytes();
        const double t = time_op(be(), kind(rows), rows, 8192, kRepeats, [&](const Step& s, int) {
            be().attention(s, {all.columns(0, q), all.columns(q, kv), all.columns(q + kv, kv)}, ring, y);
        });
        line("attention", t, rows <= 8 ? 2.0 * static_cast<double>(b.window * kv) * info(type).block_bytes : 0,
             4.0 * rows * static_cast<double>(b.window * q), bandwidth_);
        buffers_.clear();
    }

    Model m_;
    DType type_, act_ = DType::kBF16;
    double bandwidth_ = 0;
    BlockConfig attention_;
    int64_t d_ff_ = 0;
    std::vector<Buffer> buffers_;
};

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> args(argv + 1, argv + argc);
    try {
        const std::optional<DType> type = args.size() > 2 ? parse_dtype(args[2]) : std::nullopt;
        if (!type || (args[0] != "model" && args[0] != "ops")) {
            std::fprintf(stderr,
                         "usage: bench_cuda model|ops PRESET TYPE [decode=1,16] [prefill=131072] [position=2112]\n");
            return 2;
        }
        if (args[0] == "ops") {
            OpBench(args[1], *type).run();
        } else {
            bench_model(args[1], *type, {args.begin() + 3, args.end()});
        }
    } catch (const Error& e) {
        std::fprintf(stderr, "bench_cuda: %s\n", e.what());
        return 1;
    }
}
