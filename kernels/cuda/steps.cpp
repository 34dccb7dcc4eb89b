// Steps: the tables that tell kernels of the step's sequences, graphs of decode steps, results on their way back.
#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/error.h"

namespace samba::cuda {
namespace {

constexpr size_t kStagings = 8;  // uploads that may be on their way

size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// Device memory cut into pieces, one after another.
class Cutter {
  public:
    explicit Cutter(char* base) : base_(base) {}
    template <class T>
    T* take(size_t n) {
        T* p = reinterpret_cast<T*>(base_ + at_);
        at_ = aligned(at_ + n * sizeof(T));
        return p;
    }
    size_t taken() const { return at_; }

  private:
    char* base_;
    size_t at_ = 0;
};

StepShape shape_of(const Step& s) {
    StepShape shape;
    shape.decode = s.kind == StepKind::kDecode;
    shape.n_runs = static_cast<int>(s.runs.size());
    shape.n_rows = s.n_rows();
    for (const Run& r : s.runs) {
        shape.max_run_rows = std::max(shape.max_run_rows, r.n_rows);
        shape.n_tiles += (r.n_rows + kTileRows - 1) / kTileRows;
    }
    return shape;
}

DeviceRun device_run(const Run& r) { return {r.position, r.slot, r.first_row, r.n_rows, r.from_sample}; }

}  // namespace

// ---- memory of the tables

// One piece of memory: what a step uploads is its front.
void CudaBackend::reserve_tables(int n_runs, int n_rows, int n_tiles) {
    n_runs = std::max(n_runs, max_runs_), n_rows = std::max(n_rows, max_table_rows_);
    n_tiles = std::max(n_tiles, max_tiles_);
    const auto cut = [&](char* base) {
        Cutter c(base);
        tables_.count = c.take<StepCount>(1);
        tables_.next = c.take<DeviceRun>(static_cast<size_t>(n_runs));
        tables_.now = c.take<DeviceRun>(static_cast<size_t>(n_runs));
        tables_.tiles = c.take<Tile>(static_cast<size_t>(n_tiles));
        tokens_offset_ = c.taken();
        tables_.tokens = c.take<int32_t>(static_cast<size_t>(n_rows));
        return c.taken();
    };
    max_runs_ = max_table_rows_ = max_tiles_ = 0;  // should there be no memory
    next_runs_.clear();
    table_bytes_ = cut(nullptr);
    tables_memory_ = DeviceMemory();
    tables_memory_ = device_memory(table_bytes_, Use::kWorkspace);
    zero(tables_memory_.as<>(), table_bytes_);
    cut(tables_memory_.as<>());
    staging_.clear();
    for (size_t i = 0; i < kStagings; ++i) {
        void* p = nullptr;
        cudaEvent_t event = nullptr;
        check(cudaHostAlloc(&p, table_bytes_, cudaHostAllocDefault), "host memory");
        HostPointer memory(p);
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
        staging_.push_back({std::move(memory), Event(event)});
    }
    max_runs_ = n_runs, max_table_rows_ = n_rows, max_tiles_ = n_tiles;
}

// What slots remember for sampling, and the results' way back.
void CudaBackend::reserve_slots() {
    const auto n_slots = static_cast<size_t>(limits_.n_slots), vocab = static_cast<size_t>(limits_.vocab_size);
    float* bias = nullptr;
    SlotSampling* slots = nullptr;
    const auto cut = [&](char* base) {
        Cutter c(base);
        tables_.sampled = c.take<int32_t>(n_slots);
        tables_.history_start = c.take<int64_t>(n_slots);
        tables_.history = c.take<int32_t>(n_slots * kHistory);
        slots = c.take<SlotSampling>(n_slots);
        bias = c.take<float>(n_slots * vocab);
        sampling_.changed = c.take<float>(kLogitRows * vocab);
        sampling_.counts = c.take<int32_t>(kLogitRows * vocab);
        sampling_.groups = c.take<uint32_t>(kLogitRows * kGroups);
        sampling_.parts = c.take<PartStats>(kLogitRows * 2 * static_cast<size_t>(survey_blocks(limits_.vocab_size)));
        return c.taken();
    };
    const size_t bytes = cut(nullptr);
    slots_memory_ = DeviceMemory();
    slots_memory_ = device_memory(bytes, Use::kWorkspace);
    zero(slots_memory_.as<>(), bytes);
    cut(slots_memory_.as<>());
    sampling_.slots = slots, sampling_.bias = bias;
    sampling_.max_results = std::max(limits_.n_slots, kLogitRows);
    void *host = nullptr, *device = nullptr;
    const size_t results = sizeof(SampleResult) * kResultSteps * static_cast<size_t>(sampling_.max_results);
    check(cudaHostAlloc(&host, results, cudaHostAllocMapped), "host memory for results");
    results_memory_ = HostPointer(host);
    std::memset(host, 0, results);
    check(cudaHostGetDevicePointer(&device, host, 0), "host memory for results");
    results_ = static_cast<SampleResult*>(host);
    sampling_.results = static_cast<SampleResult*>(device);
    changes_.assign(n_slots, false);
    for (int slot = 0; slot < limits_.n_slots; ++slot) set_sampling(slot, SamplingParams());
}

void CudaBackend::set_sampling(int slot, const SamplingParams& p) {
    check(cudaSetDevice(options_.device), "choice of the device");
    if (p.n_top > kMaxTop) {
        throw UsageError("cuda: logprobs of " + std::to_string(p.n_top) + " tokens; at most " +
                         std::to_string(kMaxTop) + " are possible");
    }
    const SlotSampling s = {p.temp,
                            p.top_p,
                            p.min_p,
                            p.repeat_penalty,
                            p.frequency_penalty,
                            p.presence_penalty,
                            p.top_k,
                            static_cast<int32_t>(std::clamp<int64_t>(p.repeat_last_n, 0, kHistory)),
                            std::max(p.n_top, 0),
                            !p.logit_bias.empty(),
                            p.seed};
    write(const_cast<SlotSampling*>(sampling_.slots) + slot, &s, sizeof s);
    const bool penalties = p.repeat_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0;
    changes_[static_cast<size_t>(slot)] = penalties || !p.logit_bias.empty();
    if (p.logit_bias.empty()) return;
    std::vector<float> bias(static_cast<size_t>(limits_.vocab_size));
    for (const auto& [id, value] : p.logit_bias) {
        if (id >= 0 && id < limits_.vocab_size) bias[static_cast<size_t>(id)] += value;
    }
    write(const_cast<float*>(sampling_.bias) + slot * limits_.vocab_size, bias.data(), bias.size() * sizeof(float));
}

void CudaBackend::set_history(int slot, int64_t position, std::span<const int32_t> tokens) {
    check(cudaSetDevice(options_.device), "choice of the device");
    tokens = tokens.last(std::min<size_t>(tokens.size(), kHistory));
    int64_t at = position - static_cast<int64_t>(tokens.size());
    write(tables_.history_start + slot, &at, sizeof at);
    while (!tokens.empty()) {
        const int64_t index = at % kHistory;
        const auto n = std::min<size_t>(tokens.size(), static_cast<size_t>(kHistory - index));
        write(tables_.history + slot * kHistory + index, tokens.data(), n * sizeof(int32_t));
        tokens = tokens.subspan(n);
        at += static_cast<int64_t>(n);
    }
}

// ---- a step's tables

void CudaBackend::check_step(const Step& s) const {
    int next = 0;
    for (const Run& r : s.runs) {
        const bool rows = r.first_row == next && r.n_rows >= 1 && r.first_row + r.n_rows <= s.n_rows();
        if (r.slot < 0 || r.slot >= limits_.n_slots || !rows) {
            throw Error("cuda: a step's run names slot " + std::to_string(r.slot) + " and rows " +
                        std::to_string(r.first_row) + " to " + std::to_string(r.first_row + r.n_rows) + " of " +
                        std::to_string(s.n_rows()) + "; there are " + std::to_string(limits_.n_slots) +
                        " slots, and its first row is " + std::to_string(next));
        }
        next += r.n_rows;
    }
    if (s.sample && static_cast<int>(s.wanted.size()) > sampling_.max_results) {
        throw Error("cuda: a step draws " + std::to_string(s.wanted.size()) + " tokens; at most " +
                    std::to_string(sampling_.max_results) + " are possible");
    }
}

// Outside of submit (an op called alone), the op brings the step's tables itself.
void CudaBackend::bind(const Step& s) {
    if (in_step_) return;
    check(cudaSetDevice(options_.device), "choice of the device");
    launch_held();
    check_step(s);
    step_ = shape_of(s);
    next_runs_.clear();
    upload(s);
}

void CudaBackend::upload(const Step& s) {
    if (step_.n_runs > max_runs_ || step_.n_rows > max_table_rows_ || step_.n_tiles > max_tiles_) {
        forget_plans();
        check(cudaStreamSynchronize(gpu_.stream), "waiting for the device");
        reserve_tables(step_.n_runs, step_.n_rows, step_.n_tiles);
    }
    Staging& staging = staging_[next_staging_++ % kStagings];
    check(cudaEventSynchronize(staging.copied.get()), "waiting for the device");
    char* base = static_cast<char*>(staging.memory.get());
    const char* device = tables_memory_.as<>();
    const auto at = [&]<class T>(T* p) {  // the same place in the staging memory
        return reinterpret_cast<std::remove_const_t<T>*>(base + (reinterpret_cast<const char*>(p) - device));
    };
    *at(tables_.count) = {n_steps_, n_steps_};
    Tile* tile = at(tables_.tiles);
    for (size_t i = 0; i < s.runs.size(); ++i) {
        at(tables_.next)[i] = at(tables_.now)[i] = device_run(s.runs[i]);
        for (int first = 0; first < s.runs[i].n_rows; first += kTileRows) *tile++ = {static_cast<int32_t>(i), first};
    }
    std::copy(s.tokens.begin(), s.tokens.end(), at(tables_.tokens));
    const size_t bytes = tokens_offset_ + s.tokens.size() * sizeof(int32_t);
    check(cudaMemcpyAsync(tables_memory_.as<>(), base, bytes, cudaMemcpyHostToDevice, gpu_.stream),
          "copy to the device");
    check(cudaEventRecord(staging.copied.get(), gpu_.stream), "event");
}

// Whether the device's tables already say what this step needs.
bool CudaBackend::continues(const Step& s) const {
    if (s.kind != StepKind::kDecode || next_runs_.size() != s.runs.size()) return false;
    for (size_t i = 0; i < s.runs.size(); ++i) {
        const DeviceRun a = next_runs_[i], b = device_run(s.runs[i]);
        if (!b.from_sample || a.from_sample != b.from_sample || a.position != b.position || a.slot != b.slot ||
            a.first_row != b.first_row || a.n_rows != b.n_rows) {
            return false;
        }
    }
    return true;
}

// What `embed` of this step leaves for the next.
void CudaBackend::note_next(const Step& s) {
    next_runs_.clear();
    if (s.kind != StepKind::kDecode) return;
    for (const Run& r : s.runs) {
        next_runs_.push_back(device_run(r));
        next_runs_.back().position += r.n_rows;
    }
}

// ---- submit and receive

namespace {

// Whose tokens a step draws: each wanted row is the last of its run.
std::vector<Sampled> expected_results(const Step& s) {
    std::vector<Sampled> results;
    if (!s.sample) return results;
    auto run = s.runs.begin();
    for (const int row : s.wanted) {
        while (row >= run->first_row + run->n_rows) ++run;
        results.push_back({run->slot, run->position + row - run->first_row + 1, {}, {}});
    }
    return results;
}

}  // namespace

bool CudaBackend::changes_logits(const Step& s) const {
    return std::ranges::any_of(s.runs, [&](const Run& r) { return changes_[static_cast<size_t>(r.slot)] != 0; });
}

// The plan of the step's shape, a new one where it has not come before.
CudaBackend::Plan& CudaBackend::plan_of(const Step& s) {
    Shape shape;
    for (const Run& r : s.runs) shape.run_rows.push_back(r.n_rows);
    shape.wanted = s.wanted;
    shape.sample = s.sample, shape.changes = changes_logits(s);
    for (Plan& p : plans_) {
        if (p.shape == shape) return p;
    }
    constexpr size_t kMaxPlans = 256;
    if (plans_.size() == kMaxPlans) {
        launch_held();
        plans_.pop_front();
    }
    plans_.push_back({std::move(shape), false, {}, GraphExec(), GraphExec()});
    return plans_.back();
}

// Of the step that is being submitted, too.
void CudaBackend::forget_plans() {
    launch_held();
    plans_.clear();
    plan_ = nullptr;
}

// Notes the products of a shape that comes first, and tells which one came after this one then: of the last, the first.
FewRows::Product CudaBackend::product_after(const FewRows::Product& product) {
    if (plan_ == nullptr) return {};
    std::vector<FewRows::Product>& products = plan_->products;
    if (!capturing_) {
        products.push_back(product);
        return {};
    }
    return products.empty() ? FewRows::Product() : products[++n_products_ % products.size()];
}

GraphExec CudaBackend::capture(const Step& s, const Forward& forward, int n_steps) {
    check(cudaStreamBeginCapture(gpu_.stream, cudaStreamCaptureModeThreadLocal), "capture of a step");
    capturing_ = true;
    std::exception_ptr failure;
    try {
        n_products_ = 0;
        for (int i = 0; i < n_steps; ++i) forward(s);
    } catch (...) {
        failure = std::current_exception();
    }
    capturing_ = false;
    cudaGraph_t raw = nullptr;
    const cudaError_t status = cudaStreamEndCapture(gpu_.stream, &raw);
    const Graph graph(raw);
    if (failure) std::rethrow_exception(failure);
    check(status, "capture of a step");
    cudaGraphExec_t exec = nullptr;
    check(cudaGraphInstantiate(&exec, graph.get(), 0), "graph of a step");
    return GraphExec(exec);
}

void CudaBackend::submit(const Step& s, const Forward& forward) {
    check(cudaSetDevice(options_.device), "choice of the device");
    check_step(s);
    for (const int32_t token : s.tokens) {
        if (token < 0 || (limits_.vocab_size > 0 && token >= limits_.vocab_size)) {
            throw UsageError("token " + std::to_string(token) + " is not in the vocabulary of " +
                             std::to_string(limits_.vocab_size));
        }
    }
    if (s.sample && pending_.size() >= kResultSteps)
        throw Error("cuda: more steps in flight than there is room for results");
    const bool goes_on = continues(s);
    next_runs_.clear();  // unknown, should this fail
    if (!goes_on) launch_held();
    step_ = shape_of(s);
    ++n_steps_;
    if (!goes_on) upload(s);
    in_step_ = true;
    struct Leave {
        CudaBackend& backend;
        ~Leave() { backend.in_step_ = false, backend.plan_ = nullptr; }
    } leave{*this};
    if (options_.graphs && step_.decode && !s.on_logits && !s.on_logprobs) plan_ = &plan_of(s);
    if (held_ != nullptr && plan_ == held_) {
        if (!plan_->two) plan_->two = capture(s, forward, 2);
        held_ = nullptr;
        launch(plan_->two);
    } else if (plan_ != nullptr && plan_->complete) {
        launch_held();
        if (!plan_->one) plan_->one = capture(s, forward, 1);
        // The one after a step that goes on, while others keep the device busy, may join it in one graph.
        if (goes_on && pending_.size() > 1) {
            held_ = plan_;
        } else {
            launch(plan_->one);
        }
    } else {
        launch_held();
        if (plan_ != nullptr) plan_->products.clear();
        forward(s);
        if (plan_ != nullptr) plan_->complete = true;
    }
    note_next(s);
    pending_.push_back({n_steps_, expected_results(s)});
}

void CudaBackend::launch(const GraphExec& graph) {
    check(cudaSetDevice(options_.device), "choice of the device");
    check(cudaGraphLaunch(graph.get(), gpu_.stream), "launch of a step");
}

// Before anything else is asked of the device.
void CudaBackend::launch_held() {
    if (held_ != nullptr) launch(std::exchange(held_, nullptr)->one);
}

// The device writes results to host memory, each word with the step's number.
void CudaBackend::wait_for(const SampleResult& result, uint64_t step) {
    const auto arrived = [&] {
        const auto is_there = [&](const uint64_t& word) {
            const uint64_t value = std::atomic_ref(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
            return value >> 32 == (step & 0xffffffffu);
        };
        return is_there(result.n_top) && is_there(result.id) && is_there(result.logprob);
    };
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    Clock::time_point asked = start;
    while (!arrived()) {
        const Clock::time_point now = Clock::now();
        if (now - asked > std::chrono::milliseconds(2)) {  // is the device still there?
            asked = now;
            const cudaError_t status = cudaStreamQuery(gpu_.stream);
            if (status != cudaErrorNotReady) {
                check(status, "a step");
                if (!arrived()) throw DeviceError("cuda: a step ended without a result");
            }
        }
        if (now - start > std::chrono::milliseconds(1)) {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        } else if (now - start > std::chrono::microseconds(50)) {
            std::this_thread::yield();
        }
    }
}

std::vector<Sampled> CudaBackend::receive() {
    if (pending_.empty()) throw Error("cuda: receive() without a submitted step");
    if (pending_.size() <= 2) launch_held();  // it is the one that is waited for, or the device would come to rest
    Pending pending = std::move(pending_.front());
    pending_.pop_front();
    const SampleResult* rows = results_ + pending.step % kResultSteps * static_cast<uint64_t>(sampling_.max_results);
    for (size_t i = 0; i < pending.results.size(); ++i) {
        const SampleResult& r = rows[i];
        wait_for(r, pending.step);
        Sampled& result = pending.results[i];
        result.token = {static_cast<int32_t>(r.id), std::bit_cast<float>(static_cast<uint32_t>(r.logprob))};
        result.top.assign(r.top, r.top + static_cast<uint32_t>(r.n_top));
    }
    return std::move(pending.results);
}

}  // namespace samba::cuda
