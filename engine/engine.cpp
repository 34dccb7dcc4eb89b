#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "engine/device.h"
#include "kernels/error.h"

namespace samba {

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

ModelFile open_model(const EngineOptions& options) {
    if (options.preset.empty()) return load_model_file(options.model_path);
    Config config = preset(options.preset);
    if (options.model_path.empty()) return random_model(config, options.preset_type, options.preset_seed, nullptr);
    ModelFile tokenizer_from = load_model_file(options.model_path);
    return random_model(config, options.preset_type, options.preset_seed, &tokenizer_from);
}

}  // namespace

Engine::Engine(const EngineOptions& options) {
    double start = now_seconds();
    file_ = open_model(options);
    bool f32_file = file_.weight_type == DType::kF32;
    ring_type_ = options.ring_type.value_or(f32_file ? DType::kF32 : DType::kF16);

    if (!options.chat_template.empty()) {
        template_ = ChatTemplate::named(options.chat_template);
    } else if (!file_.chat_template.empty()) {
        template_ = ChatTemplate::parse(file_.chat_template, file_.path + ": samba.chat_template");
    }
    if (!file_.tokenizer.kind.empty()) {
        std::vector<std::string> control = template_ ? template_->control_pieces() : std::vector<std::string>{};
        tokenizer_ = std::make_unique<Tokenizer>(file_.tokenizer, config().vocab_size, control);
    }

    backend_ = open_device(options.device, {options.threads, options.run_ahead, f32_file}, fallback_reason_);
    Samba::Options model{.n_slots = options.n_slots,
                         .n_planes = options.n_planes,
                         .ring_type = ring_type_,
                         .max_context = options.max_context,
                         .max_rows = 0};
    model.max_rows = std::max(backend_->prefill_chunk(), 8 * options.n_slots);
    model_ = std::make_unique<Samba>(file_, *backend_, model);
    slot_taken_.assign(static_cast<size_t>(options.n_slots), false);
    load_seconds_ = now_seconds() - start;
}

Engine::~Engine() = default;

const Tokenizer& Engine::tokenizer() const {
    if (!tokenizer_) {
        throw FileError((file_.path.empty() ? "these random weights" : file_.path) +
                        std::string(": no tokenizer inside; convert with --tokenizer tokenizer.model"));
    }
    return *tokenizer_;
}

const ChatTemplate& Engine::require_template() const {
    if (!template_) {
        throw UsageError((file_.path.empty() ? "these random weights" : file_.path) +
                         std::string(": no chat template inside; name one with --template NAME|FILE"));
    }
    return *template_;
}

void Engine::submit(const Step& step) {
    backend_->submit(step, [this](const Step& s) { model_->forward(s); });
}

std::vector<Sampled> Engine::run(const Step& step) {
    submit(step);
    return backend_->receive();
}

int Engine::take_slot() {
    auto free = std::find(slot_taken_.begin(), slot_taken_.end(), false);
    if (free == slot_taken_.end()) {
        throw Error("all " + std::to_string(slot_taken_.size()) + " sequence slots are in use");
    }
    *free = true;
    return static_cast<int>(free - slot_taken_.begin());
}

void Engine::free_slot(int slot) { slot_taken_[static_cast<size_t>(slot)] = false; }

}  // namespace samba
