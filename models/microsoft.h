// The names of microsoft/Samba's checkpoints (lit-gpt style, docs/model.md and docs/checkpoints.md). Heads, window and
// rotation are not in the tensors: they come from the named configuration.
#pragma once
#include <string>

#include "models/checkpoint_plan.h"

namespace samba {

// True when the tensors have the names of the public training code.
bool is_microsoft(const CheckpointReader& reader);

// `config` is the preset that the checkpoint names; every shape is checked against it. Throws FileError.
CheckpointPlan plan_microsoft(const CheckpointReader& reader, const Config& config);

// The preset whose shapes are the checkpoint's, for one that names none. Throws FileError when none or several fit.
std::string recognise_microsoft(const CheckpointReader& reader);

}  // namespace samba
