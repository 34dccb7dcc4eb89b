// What is this checkpoint? A directory with config.json, or a file of torch.save; whose names does it use?
#pragma once
#include <memory>
#include <string>

#include "models/checkpoint_plan.h"

namespace samba {

struct OpenCheckpoint {
    std::unique_ptr<CheckpointReader> reader;
    CheckpointPlan plan;
    std::string folder;  // where a tokenizer would lie beside it
};

// `preset`: the configuration of a .pth, or empty. Throws FileError, UsageError.
OpenCheckpoint open_checkpoint(const std::string& path, const std::string& preset);

}  // namespace samba
