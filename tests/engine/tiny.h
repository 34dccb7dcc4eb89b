// A tiny random Samba (2 blocks, d_model 64) for tests that need a model but no sense; and the shipped one.
#pragma once
#include <string>

#include "engine/engine.h"

namespace samba {

inline std::string shipped_model() { return std::string(SAMBA_SOURCE_DIR) + "/models/samba-47m-q4_k_m.gguf"; }

inline EngineOptions tiny_options(int n_slots = 1, int run_ahead = 0) {
    EngineOptions options;
    options.preset = "tiny";
    options.preset_type = DType::kF32;
    options.preset_seed = 7;
    options.model_path = shipped_model();  // for its tokenizer
    options.device = "cpu";
    options.threads = 2;
    options.n_slots = n_slots;
    options.run_ahead = run_ahead;
    return options;
}

// A reproducible sequence of ids that are plain text tokens.
inline std::vector<int32_t> some_ids(int n, uint32_t seed = 1) {
    std::vector<int32_t> ids;
    for (int i = 0; i < n; ++i) {
        seed = seed * 1664525u + 1013904223u;
        ids.push_back(static_cast<int32_t>(300 + (seed >> 8) % 7000));
    }
    return ids;
}

}  // namespace samba
