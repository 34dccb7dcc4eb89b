// A checkpoint that torch.save wrote (.pth, .pt, .bin): a zip archive with a pickle of names and shapes, and one entry
// of raw values for each storage. Optimizer states are skipped unread.
#pragma once
#include <memory>
#include <string>

#include "models/checkpoint.h"

namespace samba {

struct TorchCheckpoint {
    std::unique_ptr<CheckpointReader> reader;  // the model's tensors; wrapper components of names dropped
    std::string model_name;                    // hparams["model_name"], or empty
};

// True when the file begins like a zip archive.
bool is_zip_archive(const std::string& path);

// Throws FileError.
TorchCheckpoint open_torch_checkpoint(const std::string& path);

// The name without the components that wrappers of PyTorch put into it: `_forward_module._orig_mod.transformer.h.3.
// _orig_mod.norm_1.weight` is `transformer.h.3.norm_1.weight`.
std::string without_wrappers(const std::string& name);

}  // namespace samba
