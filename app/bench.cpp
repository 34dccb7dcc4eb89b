#include "app/bench.h"

#include <algorithm>
#include <cmath>

#include "engine/generate.h"

namespace samba {
namespace {

// Ids that look like nothing in particular, the same on every machine.
std::vector<int32_t> some_ids(int64_t n, int64_t n_vocab) {
    uint64_t x = 1;
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& id : ids) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        id = static_cast<int32_t>((x >> 33) % static_cast<uint64_t>(n_vocab));
    }
    return ids;
}

}  // namespace

std::string BenchTest::name() const {
    std::string name = n_prompt > 0 ? "pp" + std::to_string(n_prompt) : "tg" + std::to_string(n_gen);
    if (n_batch > 1) name += " b" + std::to_string(n_batch);
    if (n_depth > 0) name += " @ d" + std::to_string(n_depth);
    return name;
}

double BenchResult::mean() const {
    double sum = 0;
    for (double s : samples) sum += s;
    return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

double BenchResult::sd() const {
    if (samples.size() < 2) return 0;
    double m = mean(), sum = 0;
    for (double s : samples) sum += (s - m) * (s - m);
    return std::sqrt(sum / static_cast<double>(samples.size() - 1));
}

double BenchResult::median() const {
    if (samples.empty()) return 0;
    std::vector<double> sorted = samples;
    std::sort(sorted.begin(), sorted.end());
    size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

void Bench::begin(Session& session) const {
    if (depth_ > 0)
        session.restore(deep_);
    else
        session.reset();
    session.set_pending({});
}

bool Bench::prepare(const BenchTest& test) {
    while (static_cast<int64_t>(sessions_.size()) < test.n_batch)
        sessions_.push_back(std::make_unique<Session>(engine_));
    if (depth_ == test.n_depth) return true;
    depth_ = -1;
    Session& session = *sessions_.front();
    session.reset();
    std::vector<int32_t> ids = some_ids(test.n_depth, engine_.config().vocab_size);
    int64_t fed = session.feed(ids, [&](int64_t n) { return tick_("depth " + std::to_string(n)); });
    if (fed < test.n_depth) return false;
    deep_ = session.snapshot();
    depth_ = test.n_depth;
    return true;
}

double Bench::seconds(const BenchTest& test) {
    GenerateOptions options;
    options.sampling.temp = 0;
    options.max_tokens = test.n_prompt > 0 ? 1 : test.n_gen;
    std::vector<int32_t> ids = some_ids(std::max<int64_t>(test.n_prompt, 1), engine_.config().vocab_size);
    std::vector<Request> requests;
    for (int64_t i = 0; i < test.n_batch; ++i) {
        Session& session = *sessions_[static_cast<size_t>(i)];
        begin(session);
        if (test.n_prompt == 0) session.set_pending(Pending{ids.front(), true});
        requests.push_back({&session, test.n_prompt > 0 ? ids : std::vector<int32_t>{}, options, {}});
    }
    double start = now_seconds();
    generate_many(requests);
    return now_seconds() - start;
}

BenchResult Bench::run(const BenchTest& test, int64_t reps, const std::function<bool(const std::string&)>& tick) {
    BenchResult result{test, {}};
    tick_ = tick;
    if (!prepare(test)) return result;
    double n_tokens = static_cast<double>((test.n_prompt > 0 ? test.n_prompt : test.n_gen) * test.n_batch);
    for (int64_t rep = 0; rep <= reps; ++rep) {
        if (!tick_(test.name() + ", " + (rep == 0 ? "warming up" : std::to_string(rep) + "/" + std::to_string(reps)))) {
            break;
        }
        double took = seconds(test);
        if (rep > 0) result.samples.push_back(n_tokens / took);
    }
    return result;
}

double step_bytes(Engine& engine, int64_t position, int64_t n_batch) {
    double weights = 0, state = 0;
    for (const auto& [name, tensor] : engine.file().tensors) {
        bool looked_up = name == "token_embd.weight" && !engine.config().tied;  // a row a token
        if (!looked_up && !name.ends_with("ssm_a_log")) weights += static_cast<double>(tensor.bytes());
    }
    const StateLayout& layout = engine.model().layout();
    for (const StateLayout::Planes& planes : layout.planes) state += 2.0 * static_cast<double>(planes.plane_bytes);
    for (const StateLayout::RingPart& ring : layout.rings) {
        int64_t visible = ring.window > 0 || ring.chunk > 0 ? ring.visible(position) : position;
        state +=
            static_cast<double>(visible * ring.n_kv_heads) * static_cast<double>(ring.row_bytes + ring.value_row_bytes);
    }
    return weights + state * static_cast<double>(n_batch);
}

double token_operations(const Engine& engine) {
    double operations = 0;
    for (const auto& [name, tensor] : engine.file().tensors) {
        bool product = name.starts_with("blk.") && name.ends_with(".weight") && tensor.rows > 1 &&
                       name.find("conv1d") == std::string::npos;
        if (product) operations += 2.0 * static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    }
    return operations;
}

}  // namespace samba
