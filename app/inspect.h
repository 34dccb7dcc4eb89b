// What `inspect` finds out about a model file beyond what loading it tells.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "models/gguf.h"
#include "models/model_file.h"

namespace samba {

// Bytes of memory that one session needs on the CPU.
struct Needs {
    size_t weights = 0;      // the mapped tensors
    size_t state = 0;        // a session's slot
    size_t saved_state = 0;  // a snapshot or a session file once the windows are full
    size_t work = 0;         // activations of a prefill chunk, about
    bool grows = false;      // full attention: the state is for the longest context
    size_t total() const { return weights + state + work; }
};
Needs needs_of(const ModelFile& file);

uint64_t parameter_count(const Gguf& gguf);         // as the file holds them, padding included
std::string tensor_hash(const GgufTensor& tensor);  // XXH3-64 of its bytes, 16 hex digits

// Every value finite, and the content hash what the file says. Throws FileError naming the tensor; Cancelled.
void check_tensors(const Gguf& gguf, const ModelFile& file, const std::string& path);

}  // namespace samba
