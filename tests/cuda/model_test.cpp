// A whole model on the device: equal to the CPU's in f32; graphs, running ahead, going back, batches and states that
// move between the two backends.
#include <algorithm>
#include <catch2/catch.hpp>

#include "models/samba.h"
#include "tests/cuda/rig.h"

using namespace samba;
using namespace samba::test;

namespace {

// The tiny preset with a window that tests cross soon; `wide`: more heads, a head size with a path of its own.
Config small_config(bool wide = false) {
    Config c = preset("tiny");
    for (BlockConfig& b : c.blocks) {
        if (b.mixer != Mixer::kAttention) continue;
        b.window = 40;
        if (wide) b.n_heads = 4, b.n_kv_heads = 2, b.head_dim = 64, b.rope_dim = 64;
    }
    c.vocab_size = 600;
    return c;
}

std::vector<int32_t> some_ids(int n, uint32_t seed = 1) {
    std::vector<int32_t> ids;
    for (int i = 0; i < n; ++i) {
        seed = seed * 1664525u + 1013904223u;
        ids.push_back(static_cast<int32_t>((seed >> 8) % 600));
    }
    return ids;
}

SamplingParams greedy() {
    SamplingParams p;
    p.temp = 0;
    return p;
}

// A model on a backend, and ways to run it.
class Machine {
  public:
    Machine(const ModelFile& file, std::unique_ptr<Backend> backend, Samba::Options options)
        : backend_(std::move(backend)), model_(std::make_unique<Samba>(file, *backend_, options)) {}

    Backend& backend() { return *backend_; }
    Samba& model() { return *model_; }
    void submit(const Step& s) {
        backend_->submit(s, [this](const Step& step) { model_->forward(step); });
    }
    std::vector<Sampled> run(const Step& s) {
        submit(s);
        return backend_->receive();
    }
    // Logits of every token fed in steps of so many rows.
    Matrix logits(int slot, StepKind kind, int64_t position, std::span<const int32_t> ids, int rows) {
        Matrix all(0, 600);
        for (size_t i = 0; i < ids.size(); i += static_cast<size_t>(rows)) {
            const size_t n = std::min(ids.size() - i, static_cast<size_t>(rows));
            Step s = step_of(kind, slot, position + static_cast<int64_t>(i), static_cast<int>(n));
            s.tokens.assign(ids.begin() + static_cast<long>(i), ids.begin() + static_cast<long>(i + n));
            for (size_t k = 0; k < n; ++k) s.wanted.push_back(static_cast<int>(k));
            s.on_logits = [&](int, View v) {
                for (int64_t r = 0; r < v.rows; ++r) all.values.insert(all.values.end(), v.f32(r), v.f32(r) + v.cols);
                all.rows += v.rows;
            };
            run(s);
        }
        return all;
    }
    // Feeds a prompt and draws its first token.
    Sampled prompt(int slot, std::span<const int32_t> ids, int64_t position = 0) {
        Step s = step_of(kPrefill, slot, position, static_cast<int>(ids.size()));
        s.tokens.assign(ids.begin(), ids.end());
        s.wanted = {s.n_rows() - 1};
        s.sample = true;
        return run(s).front();
    }
    // A decode step of some slots at their positions, each from its last sample.
    static Step next(const std::vector<std::pair<int, int64_t>>& slots) {
        std::vector<Run> runs;
        for (auto [slot, position] : slots) runs.push_back({slot, position, 0, 1, true});
        Step s = step_of(kDecode, runs);
        for (size_t i = 0; i < slots.size(); ++i) s.wanted.push_back(static_cast<int>(i));
        s.sample = true;
        return s;
    }
    std::vector<int32_t> generate(int slot, int64_t position, int n, size_t depth) {
        std::vector<int32_t> ids;
        int submitted = 0;
        size_t in_flight = 0;
        while (static_cast<int>(ids.size()) < n) {
            for (; in_flight < depth && submitted < n; ++in_flight) submit(next({{slot, position + submitted++}}));
            ids.push_back(backend_->receive().front().token.id);
            --in_flight;
        }
        return ids;
    }

  private:
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Samba> model_;
};

Samba::Options options_of(DType ring, int n_slots = 3, int n_planes = 8) {
    Samba::Options o;
    o.n_slots = n_slots, o.n_planes = n_planes;
    o.ring_type = ring;
    o.max_rows = 256;
    return o;
}

Machine on_cuda(const ModelFile& file, int n_slots = 3, bool graphs = true, int n_planes = 8) {
    const bool f32 = file.weight_type == DType::kF32;
    return Machine(file, make_cuda_backend({.device = 0, .f32_activations = f32, .graphs = graphs}),
                   options_of(f32 ? DType::kF32 : DType::kF16, n_slots, n_planes));
}
Machine on_cpu(const ModelFile& file, int n_slots = 3) {
    CpuOptions options;
    options.threads = 2;
    return Machine(file, make_cpu_backend(options),
                   options_of(file.weight_type == DType::kF32 ? DType::kF32 : DType::kF16, n_slots));
}

// A slot's state and ring after so many tokens, as they lie on the device.
std::vector<char> state_of(Machine& m, int slot, int64_t position) {
    std::vector<char> all;
    m.model().layout().for_each_part(position, [&](size_t offset, size_t bytes) {
        all.resize(all.size() + bytes);
        m.backend().read(all.data() + all.size() - bytes, m.model().slot(slot) + offset, bytes);
    });
    return all;
}

// The largest ‖Δ‖/‖ref‖ of a row.
double worst_row(const Matrix& got, const Matrix& want) {
    double worst = 0;
    REQUIRE(got.rows == want.rows);
    for (int64_t r = 0; r < want.rows; ++r) {
        std::vector<double> ref(want.row(r), want.row(r) + want.cols);
        const double e = std::sqrt(nmse(std::span(got.row(r), static_cast<size_t>(got.cols)), ref));
        worst = !(e <= worst) ? e : worst;
    }
    return worst;
}

}  // namespace

TEST_CASE("in f32 every row's logits are the CPU's, however the text is fed", "[model]") {
    const bool wide = GENERATE(false, true);
    const ModelFile file = random_model(small_config(wide), DType::kF32, 3, nullptr);
    Machine cuda = on_cuda(file), cpu = on_cpu(file);
    const std::vector<int32_t> ids = some_ids(150);
    const Matrix want = cpu.logits(0, kPrefill, 0, ids, 256);
    CHECK(worst_row(cuda.logits(0, kPrefill, 0, ids, 256), want) < 3e-5);
    CHECK(worst_row(cuda.logits(1, kPrefill, 0, ids, 37), want) < 3e-5);
    CHECK(worst_row(cuda.logits(2, kDecode, 0, ids, 1), want) < 3e-5);
    cuda.backend().zero(cuda.model().slot(0), cuda.model().layout().slot_bytes);
    CHECK(worst_row(cuda.logits(0, kDecode, 0, ids, 7), want) < 3e-5);
}

TEST_CASE("in bf16 and quantised the logits stay within the type's tolerance of the CPU's", "[model]") {
    const DType type = GENERATE(DType::kBF16, DType::kF16, DType::kQ8_0);
    const ModelFile file = random_model(small_config(), type, 4, nullptr);
    Machine cuda = on_cuda(file), cpu = on_cpu(file);
    const std::vector<int32_t> ids = some_ids(120);
    // A random model is rough: bf16 activations cost it 1.5e-2, the CPU's 8-bit ones 4e-2 (the shipped model:
    // goldens_test).
    const double bound = info(type).quantized ? 8e-2 : 4e-2;
    const Matrix want = cpu.logits(0, kPrefill, 0, ids, 256), prefill = cuda.logits(0, kPrefill, 0, ids, 256);
    INFO(info(type).name);
    CHECK(worst_row(prefill, want) < bound);
    CHECK(worst_row(cuda.logits(1, kDecode, 0, ids, 1), prefill) < bound);
}

TEST_CASE("a decode row has the same bits in runs of one to eight rows", "[model]") {
    const DType type = GENERATE(DType::kF32, DType::kBF16, DType::kQ8_0);
    const ModelFile file = random_model(small_config(), type, 5, nullptr);
    Machine cuda = on_cuda(file);
    const std::vector<int32_t> ids = some_ids(100);
    const Matrix one = cuda.logits(0, kDecode, 0, ids, 1);
    CHECK(cuda.logits(1, kDecode, 0, ids, 8) == one);
    CHECK(cuda.logits(2, kDecode, 0, ids, 3) == one);
}

TEST_CASE("graphs replay what single launches do, while positions, slots and tokens change", "[model]") {
    const ModelFile file = random_model(small_config(), GENERATE(DType::kF32, DType::kQ8_0), 6, nullptr);
    Machine graphs = on_cuda(file), plain = on_cuda(file, 3, false);
    const std::vector<int32_t> ids = some_ids(50);
    std::vector<std::vector<int32_t>> texts;
    for (Machine* m : {&graphs, &plain}) {
        for (int slot = 0; slot < 3; ++slot) m->backend().set_sampling(slot, greedy());
        SamplingParams warm;
        warm.seed = 9;
        m->backend().set_sampling(1, warm);
        std::vector<int32_t>& text = texts.emplace_back();
        for (const int slot : {0, 1, 2}) {
            text.push_back(m->prompt(slot, std::span(ids).first(static_cast<size_t>(20 + 7 * slot))).token.id);
            for (const int32_t id : m->generate(slot, 20 + 7 * slot, 30, 1)) text.push_back(id);
        }
        for (int i = 0; i < 10; ++i) {  // all three in one step, then two of them, in another order
            const int64_t p = i;
            for (const Sampled& s : m->run(Machine::next({{0, 50 + p}, {1, 57 + p}, {2, 64 + p}})))
                text.push_back(s.token.id);
        }
        for (int i = 0; i < 5; ++i) {
            for (const Sampled& s : m->run(Machine::next({{2, 74 + i}, {0, 60 + i}}))) {
                text.push_back(s.token.id);
                text.push_back(static_cast<int32_t>(s.position));
            }
        }
    }
    CHECK(texts[0] == texts[1]);
}

// Steps that go on at once load rings, states and runs before their own table of runs is there (early_run.cuh).
TEST_CASE("thousands of steps in graphs have the text and the states of steps that find the device at rest",
          "[model]") {
    Config config = small_config(true);
    const bool attention_first = GENERATE(false, true);
    if (attention_first) config.blocks.erase(config.blocks.begin());
    const int n_planes = GENERATE(1, 8), n = 3000;
    const ModelFile file = random_model(config, DType::kBF16, 10, nullptr);
    Machine graphs = on_cuda(file, 3, true, n_planes), plain = on_cuda(file, 3, false, n_planes);
    const std::vector<int32_t> ids = some_ids(30);
    std::vector<std::vector<int32_t>> texts;
    for (Machine* m : {&graphs, &plain}) {
        const size_t depth = m == &graphs ? 4 : 1;  // running ahead, or a device that has come to rest
        std::vector<int32_t>& text = texts.emplace_back();
        for (int slot = 0; slot < 3; ++slot) {
            SamplingParams warm;
            warm.seed = 20 + static_cast<uint64_t>(slot);
            m->backend().set_sampling(slot, warm);
            text.push_back(m->prompt(slot, ids).token.id);
        }
        for (const int32_t id : m->generate(0, 30, n, depth)) text.push_back(id);
        // Every step of another sequence: the host writes its table of runs, between steps that run ahead.
        size_t in_flight = 0;
        const auto receive = [&] { text.push_back(m->backend().receive().front().token.id), --in_flight; };
        for (int i = 0; i < n; ++i) {
            if (in_flight == depth) receive();
            m->submit(Machine::next({{1 + i % 2, 30 + i / 2}})), ++in_flight;
        }
        while (in_flight > 0) receive();
    }
    CHECK(texts[0] == texts[1]);
    for (int slot = 0; slot < 3; ++slot) {
        const int64_t end = slot == 0 ? 30 + n : 30 + n / 2;
        INFO("slot " << slot << ", attention first " << attention_first << ", planes " << n_planes);
        CHECK(state_of(graphs, slot, end) == state_of(plain, slot, end));
    }
}

// Of steps that run ahead one may wait for the next one, to be launched with it.
TEST_CASE("a submitted step is done before anything else is asked of the device", "[model]") {
    const ModelFile file = random_model(small_config(), DType::kBF16, 11, nullptr);
    Machine ahead = on_cuda(file), plain = on_cuda(file, 3, false);
    const std::vector<int32_t> ids = some_ids(30);
    for (Machine* m : {&ahead, &plain}) m->backend().set_sampling(0, greedy()), m->prompt(0, ids);
    int64_t position = 30;
    for (const int in_flight : {4, 3, 4, 4, 1, 2, 3}) {
        const std::vector<int32_t> text = plain.generate(0, position, in_flight, 1);
        for (int i = 0; i < in_flight; ++i) ahead.submit(Machine::next({{0, position + i}}));
        position += in_flight;
        INFO(in_flight << " steps in flight, to position " << position);
        CHECK(state_of(ahead, 0, position) == state_of(plain, 0, position));
        for (const int32_t id : text) CHECK(ahead.backend().receive().front().token.id == id);
        // Other parameters hold for the steps that follow alone.
        SamplingParams p;
        p.seed = static_cast<uint64_t>(position);
        if (position % 2 == 0) p.repeat_penalty = 1.5f;
        for (int i = 0; i < 3; ++i) ahead.submit(Machine::next({{0, position + i}}));
        ahead.backend().set_sampling(0, p);
        ahead.submit(Machine::next({{0, position + 3}}));
        std::vector<int32_t> want = plain.generate(0, position, 3, 1);
        plain.backend().set_sampling(0, p);
        want.push_back(plain.generate(0, position + 3, 1, 1).front());
        for (const int32_t id : want) CHECK(ahead.backend().receive().front().token.id == id);
        position += 4;
    }
}

TEST_CASE("running ahead changes no text, and its steps can be taken back", "[model]") {
    const ModelFile file = random_model(small_config(), DType::kBF16, 7, nullptr);
    Machine m = on_cuda(file);
    const std::vector<int32_t> ids = some_ids(30);
    SamplingParams warm;
    warm.seed = 5;
    for (int slot = 0; slot < 3; ++slot) m.backend().set_sampling(slot, warm);
    const int32_t first = m.prompt(0, ids).token.id;
    const std::vector<int32_t> text = m.generate(0, 30, 40, 1);
    CHECK(m.prompt(1, ids).token.id == first);
    CHECK(m.generate(1, 30, 40, 4) == text);
    // The same tokens fed by the host, which names every position anew.
    m.backend().zero(m.model().slot(1), m.model().layout().slot_bytes);
    int32_t token = m.prompt(1, ids).token.id;
    for (int i = 0; i < 40; ++i) {
        Step s = Machine::next({{1, 30 + i}});
        s.runs[0].from_sample = false;
        s.tokens[0] = token;
        const Sampled got = m.run(s).front();
        CHECK(got.position == 31 + i);
        token = got.token.id;
        CHECK(token == text[static_cast<size_t>(i)]);
    }
    // Slot 2 runs ahead of a stop after 20 tokens; the state goes back to 30 + 20 tokens, other text follows.
    m.prompt(2, ids);
    std::vector<int32_t> head = m.generate(2, 30, 24, 4);  // the last four were fed in vain
    CHECK(std::equal(head.begin(), head.end(), text.begin()));
    const std::vector<int32_t> other = some_ids(6, 77);
    auto go_on = [&](int slot) {  // the 20th token, then `other`
        Step s = step_of(kDecode, slot, 50, 7);
        s.tokens[0] = text[19];
        std::copy(other.begin(), other.end(), s.tokens.begin() + 1);
        s.wanted = {6};
        s.sample = true;
        std::vector<int32_t> got = {m.run(s).front().token.id};
        for (const int32_t id : m.generate(slot, 57, 10, 4)) got.push_back(id);
        return got;
    };
    const std::vector<int32_t> after = go_on(2);
    m.backend().zero(m.model().slot(1), m.model().layout().slot_bytes);
    m.prompt(1, ids);
    const std::vector<int32_t> again = m.generate(1, 30, 20, 1);
    CHECK(std::equal(again.begin(), again.end(), text.begin()));
    CHECK(go_on(1) == after);
}

TEST_CASE("sequences of one batch have the text of each alone", "[model]") {
    const int n = 12;  // more rows than one product of F32, or one cluster of conv_proj, takes
    const ModelFile file = random_model(small_config(), GENERATE(DType::kF32, DType::kBF16), 8, nullptr);
    Machine m = on_cuda(file, 2 * n);
    std::vector<std::vector<int32_t>> alone(n), together(n);
    std::vector<int64_t> start;
    for (int i = 0; i < n; ++i) {
        m.backend().set_sampling(i, greedy());
        m.backend().set_sampling(n + i, greedy());
        const std::vector<int32_t> ids = some_ids(10 + 5 * i, static_cast<uint32_t>(i));
        start.push_back(static_cast<int64_t>(ids.size()));
        alone[static_cast<size_t>(i)] = {m.prompt(i, ids).token.id};
        for (const int32_t id : m.generate(i, start.back(), 20, 4)) alone[static_cast<size_t>(i)].push_back(id);
        together[static_cast<size_t>(i)] = {m.prompt(n + i, ids).token.id};
    }
    for (int t = 0; t < 20; ++t) {
        std::vector<std::pair<int, int64_t>> slots;
        for (int i = 0; i < n; ++i) slots.emplace_back(n + i, start[static_cast<size_t>(i)] + t);
        const std::vector<Sampled> got = m.run(Machine::next(slots));
        for (int i = 0; i < n; ++i) together[static_cast<size_t>(i)].push_back(got[static_cast<size_t>(i)].token.id);
    }
    CHECK(together == alone);
}

namespace {

// A session's state from one machine to another.
void move_state(Machine& from, int from_slot, Machine& to, int to_slot, int64_t position) {
    to.backend().zero(to.model().slot(to_slot), to.model().layout().slot_bytes);
    from.model().layout().for_each_part(position, [&](size_t offset, size_t bytes) {
        std::vector<char> part(bytes);
        from.backend().read(part.data(), from.model().slot(from_slot) + offset, bytes);
        to.backend().write(to.model().slot(to_slot) + offset, part.data(), bytes);
    });
}

}  // namespace

TEST_CASE("a state saved on one backend goes on on the other", "[model]") {
    const ModelFile file = random_model(small_config(), DType::kF32, 9, nullptr);
    Machine cuda = on_cuda(file), cpu = on_cpu(file);
    const std::vector<int32_t> ids = some_ids(130);
    const std::span<const int32_t> head = std::span(ids).first(100), tail = std::span(ids).subspan(100);
    cpu.logits(0, kPrefill, 0, head, 256);
    cuda.logits(0, kPrefill, 0, head, 256);
    move_state(cpu, 0, cuda, 1, 100);
    move_state(cuda, 0, cpu, 1, 100);
    const Matrix want = cpu.logits(0, kDecode, 100, tail, 1);
    CHECK(worst_row(cuda.logits(1, kDecode, 100, tail, 1), want) < 3e-5);
    CHECK(worst_row(cpu.logits(1, kDecode, 100, tail, 1), want) < 3e-5);
    // A fork on the device is a copy.
    cuda.backend().copy(cuda.model().slot(2), cuda.model().slot(1), cuda.model().layout().slot_bytes);
    const std::vector<int32_t> more = some_ids(20, 3);
    CHECK(cuda.logits(1, kDecode, 130, more, 1) == cuda.logits(2, kDecode, 130, more, 1));
}
