// Options that several commands share. Whatever the option: its value comes from the command line, else the environment
// (SAMBA_LM_ + the long name in capitals), else the config file; then, where the struct holds an optional, from the
// model file, then the built-in default.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/declare.h"
#include "engine/generate.h"

namespace samba {

// "@FILE" is the file's contents, "@@x" is "@x", anything else itself. For options that take text (--system, --ask).
std::string text_or_file(const std::string& value);
// A name, or a path: "@FILE" becomes a path that holds a '/'. For options that take either (--template, --preset).
std::string name_or_path(const std::string& value);
// A whole file, a byte for a byte; "-" is stdin. Throws FileError.
std::string read_file(const std::string& path);
// The same in pieces, as they come. Throws FileError, and Cancelled after a signal.
void read_input(const std::string& path, const std::function<void(std::string_view)>& take);

// ---- what commands share
// ---------------------------------------------------------------------------------------------

struct CommonOptions {
    std::string model;  // as given; empty: to be found
    std::string preset, type = "bf16";
    std::string device = "auto";
    int64_t threads = 0;
    int64_t seed = -1;  // -1: draw one
    std::string ring_type;
    int64_t max_context = 32768;

    bool verbose = false, quiet = false;
    std::string log_file, color = "auto", config;

    // The seed of this run: as given, or drawn once (the first call) and the same from then on.
    uint64_t run_seed();

  private:
    std::optional<uint64_t> drawn_;
};

// --model, --preset, --type, --device, --threads, --seed, --ring-type, --max-context.
void add_model_options(CLI::App& app, CommonOptions& common);
// -m/--model alone, for commands that run no model.
void add_model_file_option(CLI::App& app, CommonOptions& common);
// -t/--threads alone, for commands that run no model.
void add_threads_option(CLI::App& app, CommonOptions& common);
// --verbose, --quiet, --log-file, --color, --config: main adds them to every command.
void add_log_options(CLI::App& app, CommonOptions& common);

// Finds the model (app/model_path.h) and translates; n_slots, n_planes and chat_template are the command's to set.
// Throws UsageError or FileError. The fallback reason and the seed are for the command to log: see open_engine.
EngineOptions engine_options(const CommonOptions& common);
// Loads it, with what loading has to say on stderr (the reason for taking the CPU; with --verbose the device, the model
// and the time).
std::unique_ptr<Engine> open_engine(const EngineOptions& options);

struct SamplingOptions {
    std::optional<float> temp, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    std::optional<int64_t> top_k, repeat_last_n, max_tokens;
    std::vector<std::pair<int32_t, float>> logit_bias;
    std::vector<std::string> stop;  // escapes are resolved already
    bool ignore_eos = false;
};

// --temp … --stop, -n/--max-tokens, --ignore-eos. `default_max_tokens` is shown in help (-1 in chat, 512 elsewhere).
void add_sampling_options(CLI::App& app, SamplingOptions& sampling, int64_t default_max_tokens);
// One of them by its long name, without dashes ("temp", "0.7"): chat's /set. Throws UsageError.
void set_sampling_option(SamplingOptions& sampling, const std::string& name, const std::string& value);
// Everything but end_ids and strip_first_space, which depend on the template. Throws UsageError (a biased id that the
// model does not have).
GenerateOptions generate_options(const SamplingOptions& sampling, const Engine& engine, uint64_t seed,
                                 int64_t default_max_tokens);

}  // namespace samba
