#include "app/options.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "app/logging.h"
#include "app/model_path.h"
#include "app/output.h"
#include "app/signals.h"
#include "engine/text_stream.h"
#include "kernels/error.h"
#include "models/progress.h"

namespace samba {

std::string text_or_file(const std::string& value) {
    if (!value.starts_with('@')) return value;
    if (value.starts_with("@@")) return value.substr(1);
    return clean_text(read_file(value.substr(1)));
}

std::string name_or_path(const std::string& value) {
    if (!value.starts_with('@')) return value;
    std::string path = value.substr(1);
    return path.find('/') == std::string::npos ? "./" + path : path;
}

std::string read_file(const std::string& path) {
    std::string text;
    read_input(path, [&](std::string_view piece) { text += piece; });
    return text;
}

void read_input(const std::string& path, const std::function<void(std::string_view)>& take) {
    bool standard = path == "-";
    std::string shown = standard ? "standard input" : path;
    int fd = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    auto fail = [&] { throw FileError(shown + ": cannot be read: " + std::strerror(errno)); };
    if (fd < 0) fail();
    struct Closer {
        int fd;
        ~Closer() {
            if (fd > STDIN_FILENO) ::close(fd);
        }
    } closer{fd};
    std::vector<char> piece(1 << 16);
    for (;;) {
        if (interrupted()) throw Cancelled("interrupted while reading " + shown);
        ssize_t n = ::read(fd, piece.data(), piece.size());
        if (n == 0) return;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail();
        take({piece.data(), static_cast<size_t>(n)});
    }
}

uint64_t CommonOptions::run_seed() {
    if (seed >= 0) return static_cast<uint64_t>(seed);
    if (!drawn_) drawn_ = std::random_device{}();
    return *drawn_;
}

void add_threads_option(CLI::App& app, CommonOptions& common) {
    add_integer(app, "-t,--threads", common.threads, "N", "threads; 0: the physical cores this process may use",
                {0, 4096});
}

void add_model_file_option(CLI::App& app, CommonOptions& common) {
    add_text(app, "-m,--model", common.model, "FILE", "the model, a GGUF file [the shipped one]");
}

void add_model_options(CLI::App& app, CommonOptions& common) {
    const char* kGroup = "Model and device";
    auto grouped = [&](CLI::Option* option) { option->group(kGroup); };
    add_model_file_option(app, common);
    app.get_option("--model")->group(kGroup);
    grouped(add_text(app, "--preset", common.preset, "NAME|FILE",
                     "random weights of these sizes instead of a model, with its tokenizer"));
    grouped(add_text(app, "--type", common.type, "TYPE", "type of the random weights [bf16]"));
    grouped(add_text(app, "--device", common.device, "DEVICE",
                     "auto, cpu, cuda or cuda:N [auto: a GPU if one works, else the CPU]"));
    add_threads_option(app, common);
    app.get_option("--threads")->group(kGroup);
    grouped(add_integer(app, "-s,--seed", common.seed, "N", "random seed [-1: draw one]", {-1, INT64_MAX}));
    grouped(add_text(app, "--ring-type", common.ring_type, "TYPE",
                     "attention window: f32, f16, bf16 or q8_0 [f32 with an F32 file, else f16]"));
    grouped(add_integer(app, "--max-context", common.max_context, "N",
                        "longest context of full attention, in tokens [32768]", {1, int64_t{1} << 40}));
}

void add_log_options(CLI::App& app, CommonOptions& common) {
    const char* kGroup = "General";
    add_flag(app, "--verbose", common.verbose, "say more on stderr")->group(kGroup);
    add_flag(app, "--quiet", common.quiet, "nothing but errors on stderr")->group(kGroup);
    add_text(app, "--log-file", common.log_file, "FILE", "append the log to a file as well")->group(kGroup);
    add_choice(app, "--color", common.color, {"auto", "on", "off"}, "colours [auto]")->group(kGroup);
    one_shot(
        add_text(app, "--config", common.config, "FILE", "options from a file, under [command] [$SAMBA_LM_CONFIG]"))
        ->group(kGroup);
}

namespace {

DType dtype_option(const std::string& option, const std::string& name, std::initializer_list<DType> allowed) {
    std::optional<DType> type = parse_dtype(name);
    if (type && std::find(allowed.begin(), allowed.end(), *type) != allowed.end()) return *type;
    std::string known;
    for (DType t : allowed) known += (known.empty() ? "" : ", ") + CLI::detail::to_lower(info(t).name);
    throw UsageError(option + ": expected one of " + known + ", found '" + visible_line(name) + "'");
}

}  // namespace

EngineOptions engine_options(const CommonOptions& common) {
    EngineOptions options;
    options.preset = name_or_path(common.preset);
    if (common.preset.empty()) {
        options.model_path = find_model(common.model);
    } else {
        options.preset_type = dtype_option("--type", common.type,
                                           {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K});
        options.preset_seed = static_cast<uint64_t>(std::max<int64_t>(common.seed, 0));
        options.model_path = common.model;
        if (common.model.empty()) {  // the shipped model's tokenizer, where there is one
            try {
                options.model_path = find_model("");
            } catch (const UsageError&) {
            }
        }
    }
    options.device = common.device;
    options.threads = static_cast<int>(common.threads);
    if (!common.ring_type.empty()) {
        options.ring_type =
            dtype_option("--ring-type", common.ring_type, {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0});
    }
    options.max_context = common.max_context;
    return options;
}

std::unique_ptr<Engine> open_engine(const EngineOptions& options) {
    if (!options.model_path.empty()) set_mapped_file(options.model_path);
    auto engine = std::make_unique<Engine>(options);
    if (!engine->fallback_reason().empty()) {
        // Worth a line where there is a GPU that does not work; a machine without one needs no excuse.
        bool has_gpu = ::access("/proc/driver/nvidia", F_OK) == 0;
        spdlog::log(has_gpu ? spdlog::level::info : spdlog::level::debug, "running on the CPU: {}",
                    engine->fallback_reason());
    }
    spdlog::debug("model: {} ({}, {})", options.preset.empty() ? options.model_path : options.preset,
                  engine->file().file_type, human_bytes(static_cast<double>(engine->file().bytes)));
    spdlog::debug("device: {} ({})", engine->backend().name(), engine->backend().description());
    spdlog::debug("loaded in {:.3f} s", engine->load_seconds());
    return engine;
}

}  // namespace samba
