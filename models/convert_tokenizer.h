// The tokenizer and the chat template of a checkpoint's directory, as metadata of the model file.
#pragma once
#include <string>
#include <vector>

#include "models/checkpoint_plan.h"
#include "models/gguf.h"

namespace samba {

struct TokenizerSource {
    std::string directory;       // the checkpoint's
    std::string tokenizer_path;  // tokenizer.model or tokenizer.json
    std::string chat_template;   // a name, or empty: recognised from the directory's Jinja text, if there is one
};

// Writes tokenizer.*, samba.chat_template, samba.end_token_ids, samba.added_token_ids. What was assumed goes to
// `notes`. Returns the template's name, empty when there is none. Throws FileError, UsageError.
std::string write_tokenizer(const TokenizerSource& source, const CheckpointPlan& plan, GgufMetadata& metadata,
                            std::vector<std::string>& notes);

}  // namespace samba
