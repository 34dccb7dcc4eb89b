// The names and the config of Hugging Face directories: flash-linear-attention's `samba` and `mamba`, transformers'
// `mamba`. The tensors decide what a block is; the config must agree or is refused. docs/model.md lists the traps.
#pragma once
#include <string>
#include <string_view>

#include "models/checkpoint_plan.h"

namespace samba {

// `config_json` is the text of config.json, `where` its name for messages. Throws FileError.
CheckpointPlan plan_huggingface(const CheckpointReader& reader, std::string_view config_json, const std::string& where);

// The MLP width that flash-linear-attention derives from hidden_ratio.
int64_t mlp_width(int64_t d_model, double hidden_ratio);

}  // namespace samba
