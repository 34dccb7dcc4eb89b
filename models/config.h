// The hyper-parameters of a Samba and its family: blocks as data. Names are those of docs/model.md.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace samba {

enum class Mixer { kNone, kMamba, kAttention, kGla, kRetention, kMega };
const char* mixer_name(Mixer mixer);  // "", "mamba", "attention", …: the words of samba.block.mixer
// Gated linear attention and retention: a recurrence whose state decays.
inline bool is_decayed(Mixer mixer) { return mixer == Mixer::kGla || mixer == Mixer::kRetention; }

// A block: an optional mixer and an optional MLP, each x += f(rmsnorm(x)).
struct BlockConfig {
    Mixer mixer = Mixer::kNone;
    // attention
    int n_heads = 0, n_kv_heads = 0, head_dim = 0;
    int64_t window = 0;  // visible tokens, itself included; 0: full attention
    int rope_dim = 0;    // rotated values of a head; 0: no RoPE
    // MLP
    int64_t d_ff = 0;       // as the file holds it, padded to a multiple of 256; 0: no MLP
    int64_t d_ff_true = 0;  // as the checkpoint had it
    double rope_theta = 0;  // base of the attention's rotation; 0: the config's
    // attention: q, k and v pass a causal convolution over so many tokens ("+SC"); 0: none
    int conv_width = 0;
    // gla, retention: n_heads of head_dim keys and value_dim values each; gla: rows of the first of its two decay
    // matrices
    int value_dim = 0, gate_rank = 0;
    // mega: a token sees its own chunk of so many; head_dim is the width of z
    int64_t chunk = 0;

    bool operator==(const BlockConfig&) const = default;
};

struct Config {
    std::string name;
    int64_t d_model = 0, vocab_size = 0;
    int64_t context_length = 0;  // of the training; information, never a limit
    float norm_eps = 1e-5f;
    double rope_theta = 10000.0;  // of blocks that do not name their own
    // Mamba-1, the same in every Mamba block
    int d_inner = 0, d_state = 0, d_conv = 0, dt_rank = 0;
    bool tied = true;  // the head is the embedding
    std::vector<BlockConfig> blocks;
};

}  // namespace samba
