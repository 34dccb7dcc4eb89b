// safetensors: u64 header length, a JSON header {name: {dtype, shape, data_offsets}}, data. One file, or shards named
// by an index ("weight_map": {tensor: file}). https://github.com/huggingface/safetensors
#pragma once
#include <memory>
#include <string>

#include "models/checkpoint.h"

namespace samba {

// Opens DIR/model.safetensors, else the shards of DIR/model.safetensors.index.json. Throws FileError.
std::unique_ptr<CheckpointReader> open_safetensors(const std::string& directory);

// One file's tensors over bytes in memory, which must outlive the result; `where` names them in messages.
std::unique_ptr<CheckpointReader> parse_safetensors(const unsigned char* data, size_t size, const std::string& where);

}  // namespace samba
