#include "kernels/cpu/backend.h"

#include <sys/mman.h>

#include <cassert>
#include <cstring>
#include <deque>
#include <fstream>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/sampler_state.h"
#include "kernels/error.h"
#include "kernels/log_sum_exp.h"

namespace samba {
namespace {

constexpr int kPrefillChunk = 512;

// Zeroed memory. Pages that are never touched cost nothing, so they are small ones: short texts use little of a ring,
// and single rows little of the work memory.
Buffer map_memory(size_t bytes) {
    if (bytes == 0) return {};
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        throw MemoryError("cannot allocate " + std::to_string(bytes >> 20) +
                          " MiB of memory; close other programs, or " + "use a smaller context or fewer slots");
    }
    madvise(p, bytes, MADV_NOHUGEPAGE);
    return {std::shared_ptr<void>(p, [bytes](void* q) { munmap(q, bytes); }), bytes};
}

std::string cpu_model() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    }
    return "CPU";
}

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(const CpuOptions& options)
        : delay_(options.delay), pool_(options.threads, std::min(options.isa.value_or(cpu_isa()), cpu_isa())) {}

    std::string name() const override { return "cpu"; }
    std::string description() const override {
        return cpu_model() + ", " + std::to_string(pool_.size()) + (pool_.size() == 1 ? " thread, " : " threads, ") +
               isa_name(pool_.isa());
    }
    int prefill_chunk() const override { return kPrefillChunk; }
    int run_ahead() const override { return 1 + delay_; }
    DType activation_type() const override { return DType::kF32; }

    Buffer allocate(size_t bytes) override { return map_memory(bytes); }
    void copy(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
    void zero(void* to, size_t bytes) override { std::memset(to, 0, bytes); }
    void read(void* host, const void* from, size_t bytes) override { std::memcpy(host, from, bytes); }
    void write(void* to, const void* host, size_t bytes) override { std::memcpy(to, host, bytes); }
    Weight load(std::span<const Tensor> tensors, const Tensor* bias) override;
    void prepare(const Limits& limits) override;

    void set_sampling(int slot, const SamplingParams& params) override { sampler_.set_params(slot, params); }
    void set_history(int slot, int64_t position, std::span<const int32_t> tokens) override {
        sampler_.set_history(slot, position, tokens);
    }
    void submit(const Step& step, const Forward& forward) override;
    std::vector<Sampled> receive() override;

    void embed(const Step& s, const Weight& table, std::span<RopeTable* const> ropes, View x) override;
    void norm_matmul(const Step& s, View x, const Norm& norm, const Weight& w, View y) override {
        matmul_.product(s.kind, x, &norm, w, y);
    }
    void conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state,
                     View dbc) override;
    void dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) override;
    void norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                       DType ring_type, Qkv out) override;
    void attention(const Step& s, const Qkv& in, const Ring& ring, View y) override {
        samba::attention(pool_, attention_scratch_, s, in, ring, y);
    }
    void norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h) override;
    void matmul_add(const Step& s, View y, const Weight& w, View x, const Norm&) override {
        matmul_.product(s.kind, y, nullptr, w, x, true);
    }
    void logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits) override;
    void sample(const Step& s, int first, View logits) override;

    void rmsnorm(const Step&, View x, const Norm& norm, View y) override { samba::rmsnorm(pool_, x, norm, y); }
    void matmul(const Step& s, View x, const Weight& w, View y) override { matmul_.product(s.kind, x, nullptr, w, y); }
    void conv_silu(const Step& s, View u, const Conv& conv, PlaneState state) override {
        samba::conv_silu(pool_, s, u, conv, state);
    }
    void selective_scan(const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                        View y) override {
        samba::selective_scan(pool_, s, in, dt, w, state, y);
    }
    void head_norm_rope(const Step&, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv) override {
        samba::head_norm_rope(pool_, w, rope, type, qkv);
    }
    void decay_scan(const Step& s, const Decayed& in, PlaneState state, View y) override {
        samba::decay_scan(pool_, s, in, state, y);
    }
    void head_norm_gate(const Step&, View y, const Norm& norm, View gate) override {
        samba::head_norm_gate(pool_, y, norm, gate);
    }
    void mega_keys(const Step&, View z, const MegaKeys& w, const RopeTable& rope, DType type, View q, View k) override {
        samba::mega_keys(pool_, z, w, rope, type, q, k);
    }
    void chunk_attention(const Step& s, const Qkv& in, const ChunkRing& ring, float scale, View y) override {
        samba::chunk_attention(pool_, attention_scratch_, s, in, ring, scale, y);
    }
    void silu(const Step&, View y) override { samba::silu(pool_, y); }
    void mul_silu(const Step&, View y, View gate) override { samba::mul_silu(pool_, y, gate); }
    void gated_residual(const Step&, View u, View h0, View h, View x) override {
        samba::gated_residual(pool_, u, h0, h, x);
    }
    void silu_mul(const Step&, View gate_up, View h) override { samba::silu_mul(pool_, gate_up, h); }
    void gather_rows(const Step&, View x, std::span<const int> rows, View y) override {
        samba::gather_rows(x, rows, y);
    }

  protected:
    View scratch(int id, int64_t rows, int64_t cols, DType type) override;

  private:
    const RopeFrequencies& frequencies(const RopeTable& table);

    int delay_;
    ThreadPool pool_;
    Matmul matmul_{pool_};
    AttentionScratch attention_scratch_;
    SamplerState sampler_;
    std::vector<RopeFrequencies> frequencies_;
    Buffer scratch_[4];
    std::vector<Sampled> drawn_;                // by the step that runs now
    std::deque<std::vector<Sampled>> results_;  // of submitted steps that were not received
};

Weight CpuBackend::load(std::span<const Tensor> tensors, const Tensor* bias) {
    Weight w;
    for (const Tensor& t : tensors) {
        assert(w.parts.empty() || t.cols == w.cols);
        w.cols = t.cols;
        w.rows += t.rows;
        w.parts.push_back({t.type, t.rows, t.data});
    }
    if (bias) w.bias = static_cast<const float*>(bias->data);
    return w;
}

void CpuBackend::prepare(const Limits& limits) {
    matmul_.reserve(limits.max_rows, limits.max_cols, limits.d_model);
    sampler_.resize(limits.n_slots);
    auto floats = [](int64_t rows, int64_t cols) {
        return map_memory(static_cast<size_t>(rows * cols) * sizeof(float));
    };
    scratch_[0] = floats(limits.max_rows, limits.d_model);
    scratch_[1] = floats(limits.max_rows, limits.max_cols);
    scratch_[2] = floats(limits.max_rows, limits.max_cols);
    scratch_[3] = floats(kLogitRows, limits.d_model);
}

View CpuBackend::scratch(int id, int64_t rows, int64_t cols, DType type) {
    assert(static_cast<size_t>(rows) * row_bytes(type, cols) <= scratch_[id].bytes());
    return {scratch_[id].data(), rows, cols, type};
}

void CpuBackend::submit(const Step& step, const Forward& forward) {
    FlushDenormals flush;
    drawn_.clear();
    forward(step);
    results_.push_back(drawn_);
}

std::vector<Sampled> CpuBackend::receive() {
    assert(!results_.empty());
    std::vector<Sampled> first = std::move(results_.front());
    results_.pop_front();
    return first;
}

const RopeFrequencies& CpuBackend::frequencies(const RopeTable& table) {
    for (const RopeFrequencies& f : frequencies_) {
        if (f.dim == table.dim && f.theta == table.theta) return f;
    }
    return frequencies_.emplace_back(table.dim, table.theta);
}

void CpuBackend::embed(const Step& s, const Weight& table, std::span<RopeTable* const> ropes, View x) {
    for (const Run& run : s.runs) {
        for (int i = 0; i < run.n_rows; ++i) {
            int32_t token = run.from_sample ? sampler_.token(run.slot, run.position + i) : s.tokens[run.first_row + i];
            if (!run.from_sample) sampler_.record(run.slot, run.position + i, token);
            embed_row(table, token, x.f32(run.first_row + i));
        }
    }
    for (const RopeTable* rope : ropes) {
        const RopeFrequencies& f = frequencies(*rope);
        pool_.run([&](int thread, int n) { rope_rows(s, f, *rope, share(x.rows, thread, n)); });
    }
}

void CpuBackend::conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state,
                             View dbc) {
    if (!matmul_.uniform(s.kind, x_proj)) return Backend::conv_matmul(s, u, conv, x_proj, state, dbc);
    pool_.run([&](int thread, int n) {
        Range out = share(x_proj.rows, thread, n, kTile);
        Matmul::ask_for(x_proj, out);
        samba::conv_silu(pool_.isa(), s, u, conv, state, share(u.cols, thread, n, kChannelTile));
        pool_.barrier();
        ActRows rows = matmul_.rows(s.kind, u, nullptr, x_proj, out, thread, n);
        matmul_.multiply(rows, x_proj, out, dbc.columns(out.first, out.size()), false, thread);
    });
}

// Each thread scans the channels whose dt it has computed.
void CpuBackend::dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) {
    View dt = scratch(1, in.u.rows, in.u.cols, DType::kF32);
    pool_.run([&](int thread, int n) {
        Range channels = share(in.u.cols, thread, n, kChannelTile);
        ActRows rows = matmul_.rows(s.kind, in.dbc.columns(0, in.dt_rank), nullptr, w.dt_proj, channels, thread, n);
        matmul_.multiply(rows, w.dt_proj, channels, dt.columns(channels.first, channels.size()), false, thread);
        samba::selective_scan(pool_.isa(), s, in, dt, w, state, y, channels);
    });
}

// Where the heads can be shared evenly, each thread computes whole heads, and then rotates them.
void CpuBackend::norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                               DType ring_type, Qkv out) {
    if (!matmul_.uniform(s.kind, w.qkv)) return Backend::norm_qkv_rope(s, x, norm, w, rope, ring_type, out);
    View all = out.q;  // q, k and v are neighbouring columns of one buffer
    all.cols = w.qkv.rows;
    int n_heads = w.n_heads + 2 * w.n_kv_heads;
    pool_.run([&](int thread, int n) {
        Range heads = share(n_heads, thread, n), out_rows = share(w.qkv.rows, thread, n, kTile);
        bool whole_heads = n_heads % n == 0;
        if (whole_heads) out_rows = {heads.first * w.head_dim, heads.last * w.head_dim};
        ActRows rows = matmul_.rows(s.kind, x, &norm, w.qkv, out_rows, thread, n);
        matmul_.multiply(rows, w.qkv, out_rows, all.columns(out_rows.first, out_rows.size()), false, thread);
        if (!whole_heads) pool_.barrier();
        for (int64_t t = 0; t < x.rows; ++t) {
            Range items{t * n_heads + heads.first, t * n_heads + heads.last};
            samba::head_norm_rope(pool_.isa(), w, rope, ring_type, out, items);
        }
    });
}

// h takes a piece of gate, a piece of up lies in the thread's own memory.
void CpuBackend::norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h) {
    if (!matmul_.uniform(s.kind, gate_up)) return Backend::norm_gate_up(s, x, norm, gate_up, h);
    int64_t d_ff = gate_up.rows / 2;
    pool_.run([&](int thread, int n) {
        Range mine = share(d_ff, thread, n, kTile);
        ActRows rows = matmul_.rows(s.kind, x, &norm, gate_up, mine, thread, n);
        View room = matmul_.piece(thread, x.rows);
        for (Range r{mine.first, 0}; r.first < mine.last; r.first = r.last) {
            r.last = std::min(r.first + room.cols, mine.last);
            Range up_rows{d_ff + r.first, d_ff + r.last};
            View gate = h.columns(r.first, r.size()), up = room.columns(0, r.size());
            matmul_.multiply(rows, gate_up, r, gate, false, thread);
            Matmul::ask_for(gate_up, up_rows);
            matmul_.multiply(rows, gate_up, up_rows, up, false, thread);
            for (int64_t t = 0; t < x.rows; ++t) {
                silu_mul_row(pool_.isa(), gate.f32(t), up.f32(t), r.size(), gate.f32(t));
            }
        }
    });
}

void CpuBackend::logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits) {
    if (logits.rows == 1) return matmul_.product(s.kind, x.slice(s.wanted[first], 1), &norm, head, logits);
    Backend::logits(s, x, norm, head, first, logits);
}

void CpuBackend::sample(const Step& s, int first, View logits) {
    if (s.on_logits) s.on_logits(first, logits);
    if (s.on_logprobs) {
        float logprobs[kLogitRows];
        pool_.run([&](int thread, int n) {
            Range mine = share(logits.rows, thread, n, 1);
            for (int64_t i = mine.first; i < mine.last; ++i) {
                logprobs[i] = log_prob({logits.f32(i), static_cast<size_t>(logits.cols)}, s.targets[first + i]);
            }
        });
        s.on_logprobs(first, {logprobs, static_cast<size_t>(logits.rows)});
    }
    if (!s.sample) return;
    for (int64_t i = 0; i < logits.rows; ++i) {
        int row = s.wanted[first + i];
        for (const Run& run : s.runs) {
            if (row < run.first_row || row >= run.first_row + run.n_rows) continue;
            int64_t position = run.position + (row - run.first_row) + 1;
            drawn_.push_back(sampler_.sample(run.slot, position, {logits.f32(i), static_cast<size_t>(logits.cols)}));
        }
    }
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) { return std::make_unique<CpuBackend>(options); }

}  // namespace samba
