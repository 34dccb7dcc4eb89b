// From a checkpoint (a .pth of microsoft/Samba; a Hugging Face directory of flash-linear-attention's `samba` or of a
// `mamba`) to one GGUF file.
// docs/model.md has the names and the traps, docs/file-format.md what is written.
#pragma once
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "models/config.h"
#include "models/progress.h"

namespace samba {

struct ConvertOptions {
    std::string checkpoint;  // the directory, or the .pth
    std::string preset;      // of a .pth: its configuration, a name or a FILE.json; empty: the one that it names
    std::string output;      // model.gguf
    std::string type;        // a name of file_types() (models/quantize.h); empty: the checkpoint's own
    std::string tokenizer;   // a tokenizer.model or tokenizer.json; empty: the one in the directory, the former first
    bool no_tokenizer = false;  // a file for logits, bench and inspect alone
    std::string chat_template;  // a name of chat_template_names(); empty: recognised from the checkpoint's Jinja text
    std::string name;           // general.name; empty: the directory's name
    // More metadata, KEY=VALUE split at the first '='; see settable_keys() (models/quantize.h). Later ones win.
    std::vector<std::pair<std::string, std::string>> set;
    bool keep_a_log = true;  // blk.i.ssm_a_log: the way back to Hugging Face stays bit-exact
    bool force = false;      // replace an existing output
    int threads = 0;         // 0: all processors
    const std::atomic<bool>* cancel = nullptr;
    ProgressFn progress;
};

struct ConvertReport {
    std::string kind;  // what the checkpoint was: "flash-linear-attention samba", …
    std::string name, type, chat_template;
    Config config;
    size_t n_tensors = 0;
    int64_t n_parameters = 0;  // of the checkpoint: padding does not count
    uint64_t bytes = 0;        // of the file
    std::string content_hash;
    std::vector<std::string> notes;  // one line each, for stderr: what was assumed, padded, left out
};

// Throws UsageError (an option), FileError (the checkpoint or the output), Cancelled. The output appears only when
// whole.
ConvertReport convert_checkpoint(const ConvertOptions& options);

// The chat templates that convert knows by name.
std::vector<std::string> chat_template_names();

}  // namespace samba
