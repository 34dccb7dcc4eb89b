// Between GGUF metadata and what the program works with: Config, tokenizer, sampling defaults (docs/file-format.md).
#pragma once
#include "models/config.h"
#include "models/gguf.h"
#include "models/model_file.h"

namespace samba {

// The config of an architecture "samba"; what a block is, is decided by its tensors, and the metadata must agree.
// Throws FileError naming the key.
Config read_config(const Gguf& gguf);
// Per-block values as arrays where the blocks differ, as scalars where they agree.
void write_config(const Config& config, GgufMetadata& metadata);

TokenizerData read_tokenizer(const GgufMetadata& metadata, int64_t vocab_size);
SamplingDefaults read_sampling(const GgufMetadata& metadata);

}  // namespace samba
