// What a Samba is: its weights, its state, and THE forward pass.
#pragma once
#include <deque>
#include <memory>
#include <variant>
#include <vector>

#include "kernels/backend.h"
#include "models/config.h"
#include "models/model_file.h"
#include "models/state.h"

namespace samba {

struct MambaWeights {
    Norm norm;
    Weight in_proj;  // (2 d_inner, d_model): u, then z
    Conv conv;
    Weight x_proj;  // (dt_rank + 2 d_state, d_inner)
    ScanWeights ssm;
    Weight out_proj;  // (d_model, d_inner)
    PlaneState conv_state, ssm_state;
};

struct AttentionWeights {
    Norm norm;
    QkvWeights qkv;
    Conv conv;  // over the channels of q, k and v, or empty ("+SC")
    Weight out_proj;
    RopeTable* rope = nullptr;  // null: no rotation
    Ring ring;
    PlaneState conv_state;  // where there is a convolution
};

// Gated linear attention, or retention.
struct DecayedWeights {
    Norm norm;
    Weight qkvg;        // rows: q, k, v, the output's gate; gla: then the input of gate_proj
    Weight gate_proj;   // gla: (n_heads * key_dim, gate_rank), with bias
    Weight head_decay;  // retention: (1, n_heads)
    QkvWeights heads;   // retention: the heads of q and k, for their rotation
    RopeTable* rope = nullptr;
    Norm head_norm;   // (1, value_dim)
    Weight out_proj;  // (d_model, n_heads * value_dim)
    int n_heads = 0, key_dim = 0, value_dim = 0;
    PlaneState state;  // (n_heads, key_dim, value_dim)
};

// Mega with a selective scan for its moving average.
struct MegaWeights {
    Norm norm;
    Weight v_proj;  // (d_model, d_model)
    Conv conv;
    Weight x_proj;
    ScanWeights ssm;
    Weight mix;  // rows: u, z, r, h0
    MegaKeys keys;
    RopeTable* rope = nullptr;  // of the relative bias
    Weight out_proj;
    PlaneState conv_state, ssm_state;
    ChunkRing ring;
};

struct MlpWeights {
    Norm norm;
    Weight gate_up;  // (2 d_ff, d_model): gate, then up
    Weight down;     // (d_model, d_ff)
};

// A sub-layer: x += f(rmsnorm(x)).
using Layer = std::variant<MambaWeights, AttentionWeights, DecayedWeights, MegaWeights, MlpWeights>;

// A loaded model on a backend: weights, the states of all slots and the work memory of a step.
class Samba {
  public:
    struct Options {
        int n_slots = 1, n_planes = 8;
        DType ring_type = DType::kF16;
        int64_t max_context = 32768;  // ring rows of full attention
        int max_rows = 0;             // of a step; 0: the backend's prefill chunk
    };
    Samba(const ModelFile& file, Backend& backend, const Options& options);

    // Runs a step through all layers: one pass, the same for every backend, kind of step and number of sequences.
    void forward(const Step& step);

    const StateLayout& layout() const { return layout_; }
    char* slot(int i) const { return state_.data() + static_cast<size_t>(i) * layout_.slot_bytes; }
    int64_t max_positions() const { return max_positions_; }  // full attention ends here; 0: without end

  private:
    Backend& backend_;
    Weight embedding_, head_;
    Norm final_norm_;
    std::vector<Layer> layers_;
    std::deque<RopeTable> ropes_;  // one for each distinct (dim, theta)
    std::vector<RopeTable*> rope_list_;
    StateLayout layout_;
    int64_t max_positions_ = 0;
    Buffer state_, work_;

    struct Workspace {               // activations of a step; (max_rows, …) each
        View x;                      // the residual stream (d_model)
        View uz, dbc, y;             // Mamba: [u z], [dt B C], the gated output (d_inner)
        View qkv, attended;          // attention: [q k v], the product before W_o
        View qkvg, gates, recalled;  // gla, retention: [q k v g low], decay gates, the recurrence's output
        View normed, mix;            // mega: (d_model), [u z r h0]
        View h;                      // MLP (d_ff)
        View logits;                 // (kLogitRows, vocab)
    } ws_;
    // What weights are made of beside the file's tensors: biases and taps of q, k, v, which are used as one; decays.
    std::deque<std::vector<float>> made_;

    // next: the norm of the sub-layer after this one.
    void mamba(const Step& s, const MambaWeights& w, View x, const Norm& next);
    void attention(const Step& s, const AttentionWeights& w, View x, const Norm& next);
    void decayed(const Step& s, const DecayedWeights& w, View x, const Norm& next);
    void mega(const Step& s, const MegaWeights& w, View x, const Norm& next);
    void mlp(const Step& s, const MlpWeights& w, View x, const Norm& next);
    void load_weights(const ModelFile& file);
    void place_state(const Config& config, const Options& options);
    void plan_workspace(const Config& config, int max_rows, DType ring_type);
};

}  // namespace samba
