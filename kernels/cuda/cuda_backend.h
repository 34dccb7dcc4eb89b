// The class behind kernels/cuda/backend.h: memory (cuda_backend.cpp), weights (weights.cpp), steps (steps.cpp), ops
// (ops.cpp), stages that are fused in decode (stages.cpp). The kernels' launchers are in kernels.h.
#pragma once
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/sampling_tables.h"
#include "kernels/cuda/weight.h"

namespace samba::cuda {

inline constexpr int kMaxTurns = 4096;  // frequencies of all rotary tables

// What device memory is used for, for the message when it is full.
enum class Use { kWeights, kState, kWorkspace };

class CudaBackend final : public Backend {
  public:
    explicit CudaBackend(const CudaOptions& options);
    ~CudaBackend() override;

    std::string name() const override;
    std::string description() const override;
    int prefill_chunk() const override { return 4096; }
    int run_ahead() const override { return 4; }
    DType activation_type() const override { return options_.f32_activations ? DType::kF32 : DType::kBF16; }

    Buffer allocate(size_t bytes) override;
    void copy(void* to, const void* from, size_t bytes) override;
    void zero(void* to, size_t bytes) override;
    void read(void* host, const void* from, size_t bytes) override;
    void write(void* to, const void* host, size_t bytes) override;
    Weight load(std::span<const Tensor> tensors, const Tensor* bias) override;
    void prepare(const Limits& limits) override;

    void set_sampling(int slot, const SamplingParams& params) override;
    void set_history(int slot, int64_t position, std::span<const int32_t> tokens) override;
    void submit(const Step& step, const Forward& forward) override;
    std::vector<Sampled> receive() override;

    void embed(const Step& s, const Weight& table, std::span<RopeTable* const> ropes, View x) override;
    void norm_matmul(const Step& s, View x, const Norm& norm, const Weight& w, View y) override;
    void conv_matmul(const Step& s, View u, const Conv& conv, const Weight& x_proj, PlaneState state,
                     View dbc) override;
    void dt_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y) override;
    void norm_qkv_rope(const Step& s, View x, const Norm& norm, const QkvWeights& w, const RopeTable* rope,
                       DType ring_type, Qkv out) override;
    void attention(const Step& s, const Qkv& in, const Ring& ring, View y) override;
    void norm_gate_up(const Step& s, View x, const Norm& norm, const Weight& gate_up, View h) override;
    void logits(const Step& s, View x, const Norm& norm, const Weight& head, int first, View logits) override;
    void matmul_add(const Step& s, View y, const Weight& w, View x, const Norm& next) override;
    void sample(const Step& s, int first, View logits) override;
    void rmsnorm(const Step& s, View x, const Norm& norm, View y) override;
    void matmul(const Step& s, View x, const Weight& w, View y) override;
    void conv_silu(const Step& s, View u, const Conv& conv, PlaneState state) override;
    void selective_scan(const Step& s, const Scan& in, View dt, const ScanWeights& w, PlaneState state,
                        View y) override;
    void head_norm_rope(const Step& s, const QkvWeights& w, const RopeTable* rope, DType type, Qkv qkv) override;
    void decay_scan(const Step& s, const Decayed& in, PlaneState state, View y) override;
    void head_norm_gate(const Step& s, View y, const Norm& norm, View gate) override;
    void mega_keys(const Step& s, View z, const MegaKeys& w, const RopeTable& rope, DType ring_type, View q,
                   View k) override;
    void chunk_attention(const Step& s, const Qkv& in, const ChunkRing& ring, float scale, View y) override;
    void silu(const Step& s, View y) override;
    void mul_silu(const Step& s, View y, View gate) override;
    void gated_residual(const Step& s, View u, View h0, View h, View x) override;
    void silu_mul(const Step& s, View gate_up, View h) override;
    void gather_rows(const Step& s, View x, std::span<const int> rows, View y) override;

  protected:
    View scratch(int id, int64_t rows, int64_t cols, DType type) override;

  private:
    // ---- memory
    DeviceMemory device_memory(size_t bytes, Use use);
    std::string memory_message(size_t bytes, Use use) const;
    // Work memory of an id (those of Backend::scratch, and the ones below); grows outside of captures only.
    enum WorkId { kInput = 4, kOutput, kWeights, kPartial, kEdges, kPrepared, kHandedOn, kWorkIds };
    char* work(int id, size_t bytes);

    // ---- weights
    void load_part(std::span<const Tensor> tensors, Weight& weight, std::vector<DeviceMemory>& memory);
    void load_plain(std::span<const Tensor> tensors, DType type, char* to);
    void load_quantized(std::span<const Tensor> tensors, char* groups);

    // ---- fused stages
    bool folds_norm(const Step& s, View x, int64_t n_rows, const Weight& w) const;
    bool hands_on(const Step& s, const Weight& w, View x) const;
    void normed_products(View x, const Norm& norm, const Weight& w, View y, FewRows p);
    void prefill_scan(const Step& s, const Scan& in, const ScanWeights& w, PlaneState state, View y);

    // ---- ops
    void product(const Step& s, View x, const Weight& w, View y, FewRows folded = {});
    void few_rows(DType type, const DeviceWeight& w, FewRows p);
    void many_rows(DType type, const DeviceWeight& w, View x, View y, bool add);
    void many_rows_bf16(DType type, const DeviceWeight& w, View x, View y, bool add);
    View converted(int work_id, View x, DType type);
    const uint64_t* rope_turns(int dim, double theta);

    // ---- steps
    struct Shape {  // of decode steps: what their graph depends on
        std::vector<int> run_rows, wanted;
        bool sample = false, changes = false;
        bool operator==(const Shape&) const = default;
    };
    struct Plan {
        Shape shape;
        bool complete = false;                   // all products are known
        std::vector<FewRows::Product> products;  // with 16-bit weights, in their order
        // Of one step and of two, captured when they are first needed: the first one when the shape comes again.
        GraphExec one, two;
    };
    struct Staging {
        HostPointer memory;
        Event copied;
    };
    struct Pending {
        uint64_t step = 0;
        std::vector<Sampled> results;  // slots and positions, in the results' order; tokens are to come
    };
    void bind(const Step& s);
    void reserve_tables(int n_runs, int n_rows, int n_tiles);
    void reserve_slots();
    void upload(const Step& s);
    bool continues(const Step& s) const;
    void note_next(const Step& s);
    void check_step(const Step& s) const;
    bool changes_logits(const Step& s) const;
    Plan& plan_of(const Step& s);
    void forget_plans();
    FewRows::Product product_after(const FewRows::Product& product);
    GraphExec capture(const Step& s, const Forward& forward, int n_steps);
    void launch(const GraphExec& graph);
    void launch_held();
    void wait_for(const SampleResult& result, uint64_t step);

    CudaOptions options_;
    Gpu gpu_;
    std::string device_name_;
    int major_ = 0, minor_ = 0;
    size_t total_memory_ = 0, used_[3] = {};
    Stream stream_;
    std::unique_ptr<Blas> blas_;
    DeviceMemory blas_workspace_;
    DeviceMemory work_[kWorkIds];
    bool capturing_ = false;

    Limits limits_;
    DeviceMemory tables_memory_, slots_memory_, turns_memory_;
    int max_runs_ = 0, max_tiles_ = 0, max_table_rows_ = 0;
    size_t tokens_offset_ = 0, table_bytes_ = 0;
    Tables tables_;
    SamplingTables sampling_;
    std::vector<char> changes_;  // of a slot: whether bias or penalties change its logits
    HostPointer results_memory_, logits_memory_, logprobs_memory_;
    SampleResult* results_ = nullptr;
    std::vector<Staging> staging_;
    size_t next_staging_ = 0;
    std::map<std::pair<int, double>, const uint64_t*> turns_;
    int turns_used_ = 0;

    StepShape step_;
    bool in_step_ = false;
    struct HandedOn {  // rows of x that the last product has prepared for a norm with that weight
        const void* x = nullptr;
        int64_t n_rows = 0;
        const float* norm = nullptr;
        bool operator==(const HandedOn&) const = default;
    } handed_on_;
    uint64_t n_steps_ = 0;
    std::vector<DeviceRun> next_runs_;  // what the device's tables hold for the next step; empty: unknown
    std::deque<Plan> plans_;
    Plan* plan_ = nullptr;   // of the step that is being submitted, if it may become a graph
    size_t n_products_ = 0;  // of it, captured so far
    Plan* held_ = nullptr;   // of the newest step, if it waits to be launched with the one after it; has `one`
    std::deque<Pending> pending_;
};

}  // namespace samba::cuda
