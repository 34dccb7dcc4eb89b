// The bytes of a state file: "SAMBAST1", u32 version, then sections in a fixed order, each
//   4 letters, u64 length, u64 XXH3-64 of the contents, the contents
// all little-endian; strings and lists are a u64 count and their elements. A file is untrusted input: every count and
// length is checked against the bytes that are there before it is used.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/session_file.h"

namespace samba {

// A snapshot as a file holds it: `state` are the parts of StateLayout::for_each_part, one after another.
struct StoredSnapshot {
    int64_t position = 0;
    std::optional<Pending> pending;
    std::vector<int32_t> tokens;
    std::span<const unsigned char> state;
};

// A state file's contents, not yet tied to an engine.
struct StoredState {
    std::string model, tokenizer, chat_template;  // fingerprints
    std::string model_name, template_name;        // for people
    std::vector<int64_t> shape;                   // the numbers of the config that the state's layout follows from
    DType ring_type = DType::kF16;
    SavedState saved;  // without its snapshots
    StoredSnapshot now;
    std::optional<StoredSnapshot> before_turn;
};

std::string encode_state(const StoredState& state);

// `where` names the file in messages. With `header_only` the snapshots are left out and not looked at. Throws
// FileError.
StoredState decode_state(std::span<const unsigned char> bytes, const std::string& where, bool header_only = false);

}  // namespace samba
