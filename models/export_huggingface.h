// The way back: a GGUF model file as a Hugging Face directory that flash-linear-attention loads (config.json,
// model.safetensors, tokenizer.model or tokenizer.json). Bit-exact for files that convert made as f32, f16 or bf16 of
// that type.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "models/progress.h"

namespace samba {

struct ExportOptions {
    std::string input;   // model.gguf
    std::string output;  // a directory; made if it is missing
    bool force = false;  // replace files that are there
    const std::atomic<bool>* cancel = nullptr;
    ProgressFn progress;
};

struct ExportReport {
    std::string kind;  // "samba" or "mamba": the model_type written
    size_t n_tensors = 0;
    uint64_t bytes = 0;  // of model.safetensors
    std::vector<std::string> notes;
};

// Throws UsageError (an existing output; a model that such a directory cannot hold), FileError, Cancelled.
ExportReport export_huggingface(const ExportOptions& options);

}  // namespace samba
