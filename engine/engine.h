// A model ready to run: file, weights on a device, tokenizer, and slots for sequences.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/chat_template.h"
#include "engine/tokenizer.h"
#include "models/samba.h"

namespace samba {

struct EngineOptions {
    std::string model_path;
    std::string preset;  // name or file: random weights instead of a model file …
    DType preset_type = DType::kBF16;
    uint64_t preset_seed = 0;        // … and the tokenizer of model_path, if that is not empty
    std::string device = "auto";     // auto | cpu | cuda | cuda:N
    int threads = 0;                 // 0: the physical cores this process may use
    std::optional<DType> ring_type;  // none: the default of the file's type
    int64_t max_context = 32768;     // full attention only
    int n_slots = 1;
    int n_planes = 8;
    std::string chat_template;  // name, file, or empty: the file's
    int run_ahead = 0;          // CPU, tests: receive is that many steps late
};

class Engine {
  public:
    explicit Engine(const EngineOptions& options);
    ~Engine();

    const ModelFile& file() const { return file_; }
    const Config& config() const { return file_.config; }
    Backend& backend() { return *backend_; }
    Samba& model() { return *model_; }
    bool has_tokenizer() const { return tokenizer_ != nullptr; }
    const Tokenizer& tokenizer() const;  // throws FileError if the file has none
    const ChatTemplate* chat_template() const { return template_ ? &*template_ : nullptr; }
    const ChatTemplate& require_template() const;  // throws UsageError naming --template
    DType ring_type() const { return ring_type_; }
    double load_seconds() const { return load_seconds_; }
    const std::string& fallback_reason() const { return fallback_reason_; }  // why `auto` took the CPU, or empty
    size_t state_bytes() const { return model_->layout().slot_bytes; }

    // Runs a step now and gives its samples (nothing else may be in flight).
    std::vector<Sampled> run(const Step& step);
    void submit(const Step& step);

    int take_slot();  // throws Error when all are taken
    void free_slot(int slot);

  private:
    ModelFile file_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Samba> model_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::optional<ChatTemplate> template_;
    DType ring_type_ = DType::kF16;
    double load_seconds_ = 0;
    std::string fallback_reason_;
    std::vector<bool> slot_taken_;
};

// The finite number of seconds since some start.
double now_seconds();

}  // namespace samba
