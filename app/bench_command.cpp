// samba-lm bench: speed, beside the limits of the machine measured in the same run.
#include <spdlog/spdlog.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "app/bench.h"
#include "app/commands.h"
#include "app/machine.h"
#include "app/model_text.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/table.h"
#include "kernels/cpu/limits.h"
#include "kernels/error.h"
#include "version.h"

namespace samba {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
    std::vector<int64_t> prompts{512}, gens{128}, depths{0}, batches{1};
    int64_t reps = 5;
    std::string format = "md";
    bool json = false, no_limits = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm bench\n"
    "  samba-lm bench --preset samba-421m --type q8_0 -p 512,2048 -n 128\n"
    "  samba-lm bench -p 0 -n 64 -d 4000,200000 -r 3\n"
    "  samba-lm bench -p 0 -b 1,8,64 -o csv";

// Of this machine, for the device in use; 0: not known.
struct MachineLimits {
    double bytes_per_s = 0;
    Peaks peaks;

    void measure(int threads) {
        ThreadPool pool(threads);
        bytes_per_s = std::max(bytes_per_s, measure_read_bandwidth(pool));
        Peaks now = measure_peaks(pool);
        peaks = {std::max(peaks.f32, now.f32), std::max(peaks.bf16, now.bf16), std::max(peaks.int8, now.int8)};
    }
    // Of a device: bytes read and written by copies in its own memory, if it has room for them.
    void measure(Backend& device) try {
        constexpr size_t kBytes = size_t{1} << 29;
        constexpr int kCopies = 8;
        Buffer from = device.allocate(kBytes), to = device.allocate(kBytes);
        for (int i = 0; i < 4; ++i) {
            char byte = 0;
            auto start = std::chrono::steady_clock::now();
            for (int k = 0; k < kCopies; ++k) device.copy(to.data(), from.data(), kBytes);
            device.read(&byte, to.data(), 1);  // waits for them
            double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            bytes_per_s = std::max(bytes_per_s, 2.0 * kCopies * kBytes / seconds);
        }
    } catch (const MemoryError&) {
    }
    // The best that the machine has for weights of that type.
    double operations_per_s(DType type) const {
        if (type == DType::kF32) return peaks.f32;
        return info(type).quantized ? std::max(peaks.int8, peaks.bf16) : std::max(peaks.bf16, peaks.f32);
    }
};

// What a result means: speeds in GB/s (generation) or Gflop/s (prompts) beside their limits; 0: does not apply.
struct Meaning {
    double gb_per_s = 0, limit_gb_per_s = 0, gflop_per_s = 0, limit_gflop_per_s = 0;

    std::string speed() const {
        return gb_per_s > 0 ? fixed(gb_per_s, 1) + " GB/s" : gflop_per_s > 0 ? fixed(gflop_per_s, 0) + " Gflop/s" : "";
    }
    std::string share() const {
        double limit = gb_per_s > 0 ? limit_gb_per_s : limit_gflop_per_s;
        double speed = gb_per_s > 0 ? gb_per_s : gflop_per_s;
        return limit > 0 ? fixed(100 * speed / limit, 0) + " % of " + fixed(limit, limit < 100 ? 1 : 0) : "";
    }
};

Meaning meaning(const BenchResult& r, Engine& engine, const MachineLimits& limits) {
    Meaning m;
    if (r.test.n_gen > 0) {
        double bytes = step_bytes(engine, r.test.n_depth + r.test.n_gen / 2, r.test.n_batch);
        m.gb_per_s = bytes * r.median() / static_cast<double>(r.test.n_batch) / 1e9;
        m.limit_gb_per_s = limits.bytes_per_s / 1e9;
    } else {
        m.gflop_per_s = token_operations(engine) * r.median() / 1e9;
        m.limit_gflop_per_s = limits.operations_per_s(engine.file().weight_type) / 1e9;
    }
    return m;
}

void report_json(const std::vector<BenchResult>& results, Engine& engine, const MachineLimits& limits) {
    auto number = [](double value) { return value > 0 ? Json(value) : Json(); };
    print("[\n");
    for (size_t i = 0; i < results.size(); ++i) {
        const BenchResult& r = results[i];
        Meaning m = meaning(r, engine, limits);
        Json object = {
            {"commit", SAMBA_COMMIT},
            {"cpu", cpu_name()},
            {"device", engine.backend().name()},
            {"device_description", engine.backend().description()},
            {"model", model_name(engine)},
            {"type", engine.file().file_type},
            {"model_bytes", engine.file().bytes},
            {"ring_type", info(engine.ring_type()).name},
            {"n_prompt", r.test.n_prompt},
            {"n_gen", r.test.n_gen},
            {"n_depth", r.test.n_depth},
            {"n_batch", r.test.n_batch},
            {"tokens_per_s", {{"mean", r.mean()}, {"sd", r.sd()}, {"median", r.median()}, {"samples", r.samples}}},
            {"gb_per_s", number(m.gb_per_s)},
            {"limit_gb_per_s", number(m.limit_gb_per_s)},
            {"gflop_per_s", number(m.gflop_per_s)},
            {"limit_gflop_per_s", number(m.limit_gflop_per_s)}};
        print(object.dump(-1, ' ', false, Json::error_handler_t::replace) + (i + 1 < results.size() ? ",\n" : "\n"));
    }
    print("]\n");
}

void report_csv(const std::vector<BenchResult>& results, Engine& engine, const MachineLimits& limits) {
    Table table({"commit", "cpu", "device", "model", "type", "n_prompt", "n_gen", "n_depth", "n_batch",
                 "tokens_per_s_mean", "tokens_per_s_sd", "tokens_per_s_median", "gb_per_s", "limit_gb_per_s",
                 "gflop_per_s", "limit_gflop_per_s"});
    auto number = [](double value) { return value > 0 ? fixed(value, 2) : std::string(); };
    for (const BenchResult& r : results) {
        Meaning m = meaning(r, engine, limits);
        table.add({SAMBA_COMMIT, cpu_name(), engine.backend().name(), model_name(engine), engine.file().file_type,
                   std::to_string(r.test.n_prompt), std::to_string(r.test.n_gen), std::to_string(r.test.n_depth),
                   std::to_string(r.test.n_batch), fixed(r.mean(), 2), fixed(r.sd(), 2), fixed(r.median(), 2),
                   number(m.gb_per_s), number(m.limit_gb_per_s), number(m.gflop_per_s), number(m.limit_gflop_per_s)});
    }
    print(table.csv());
}

void report_markdown(const std::vector<BenchResult>& results, Engine& engine, const MachineLimits& limits) {
    print(visible_line(model_name(engine)) + " " + engine.file().file_type + ", " +
          human_bytes(static_cast<double>(engine.file().bytes)) + "; " + engine.backend().name() + ": " +
          engine.backend().description() + "; commit " SAMBA_COMMIT "\n\n");
    Table table({"test", ">tokens/s (median)", ">mean ± sd", ">speed", ">share of the limit"});
    for (const BenchResult& r : results) {
        Meaning m = meaning(r, engine, limits);
        table.add(
            {r.test.name(), fixed(r.median(), 2), fixed(r.mean(), 2) + " ± " + fixed(r.sd(), 2), m.speed(), m.share()});
    }
    print(table.markdown());
}

std::vector<BenchTest> tests_of(const Options& o) {
    std::vector<BenchTest> tests;
    for (int64_t depth : o.depths) {
        for (int64_t n : o.prompts) {
            if (n > 0) tests.push_back({n, 0, depth, 1});
        }
        for (int64_t n : o.gens) {
            for (int64_t batch : o.batches) {
                if (n > 0) tests.push_back({0, n, depth, batch});
            }
        }
    }
    if (tests.empty()) throw UsageError("nothing to measure: both -p and -n are 0");
    return tests;
}

int run(const Options& o, const CommonOptions& common) {
    std::vector<BenchTest> tests = tests_of(o);
    EngineOptions options = engine_options(common);
    options.n_slots = static_cast<int>(*std::max_element(o.batches.begin(), o.batches.end()));
    std::unique_ptr<Engine> engine = open_engine(options);
    bool on_cpu = engine->backend().name() == "cpu";
    Progress progress("measuring", "tests", tests.size());
    MachineLimits limits;
    auto measure_limits = [&](uint64_t done) {
        if (o.no_limits || interrupted()) return;
        progress.update(done, "the machine's limits");
        on_cpu ? limits.measure(static_cast<int>(common.threads)) : limits.measure(engine->backend());
    };
    measure_limits(0);
    Bench bench(*engine);
    std::vector<BenchResult> results;
    for (const BenchTest& test : tests) {
        auto tick = [&](const std::string& note) {
            progress.update(results.size(), note);
            return !interrupted();
        };
        BenchResult result = bench.run(test, o.reps, tick);
        if (interrupted()) break;
        results.push_back(std::move(result));
    }
    constexpr double kLongRun = 10;  // seconds; other work on the machine comes and goes
    if (progress.seconds() > kLongRun) measure_limits(results.size());
    hide_progress();
    if (interrupted()) spdlog::warn("interrupted: these are the tests that were finished");
    if (o.json || o.format == "json")
        report_json(results, *engine, limits);
    else if (o.format == "csv")
        report_csv(results, *engine, limits);
    else
        report_markdown(results, *engine, limits);
    return interrupt_status();
}

}  // namespace

RunCommand add_bench(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    constexpr IntegerRange kTokens{0, int64_t{1} << 40};
    add_integers(app, "-p,--n-prompt", o->prompts, "LIST", "prompts of these lengths; 0: none [512]", kTokens);
    add_integers(app, "-n,--n-gen", o->gens, "LIST", "tokens to generate; 0: none [128]", kTokens);
    add_integers(app, "-d,--n-depth", o->depths, "LIST", "tokens read before each test [0]", kTokens);
    add_integers(app, "-b,--n-batch", o->batches, "LIST", "sequences that generate at once [1]", {1, 4096});
    add_integer(app, "-r,--repetitions", o->reps, "N", "timed repetitions of each test, after one to warm up [5]",
                {1, 10000});
    add_choice(app, "-o,--format", o->format, {"md", "csv", "json"}, "how to print the results [md]");
    add_flag(app, "--json", o->json, "the same as -o json");
    add_flag(app, "--no-limits", o->no_limits, "do not measure the machine's limits, which takes 512 MB and a second");
    add_model_options(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
