// A step: one pass of some rows of tokens through the model. Which rows belong to which sequence stands in its runs;
// row-wise ops look at the rows alone.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/view.h"

namespace samba {

// Decode: runs of 1 to 8 rows each, any number of runs. Prefill: runs that hold at most a chunk of rows together.
// The two never mix, and their kernels may round differently; rows of one kind have the same bits in any company.
enum class StepKind { kDecode, kPrefill };

// Consecutive tokens of one sequence.
struct Run {
    int slot = 0;          // whose state
    int64_t position = 0;  // of its first row; the state holds exactly the `position` tokens before it
    int first_row = 0;     // in the step: where the rows of the run before it end
    int n_rows = 1;
    bool from_sample = false;  // decode, one row: its token is the one that the slot's last `sample` drew
};

// Receives logits on the host: (n, vocab) f32 of wanted[first_wanted] …; at most kLogitRows rows at a time.
using LogitsSink = std::function<void(int first_wanted, View logits)>;
inline constexpr int kLogitRows = 64;
// Receives the log-probabilities of the targets of wanted[first_wanted] …, some at a time.
using LogprobsSink = std::function<void(int first_wanted, std::span<const float> logprobs)>;

struct Step {
    StepKind kind = StepKind::kPrefill;
    std::vector<Run> runs;
    std::vector<int32_t> tokens;  // (n_rows); ignored where the run is from_sample
    std::vector<int> wanted;      // rows whose logits are computed, ascending
    bool sample = false;          // each wanted row, the last of its run, draws the slot's next token on the device …
    LogitsSink on_logits;         // … and, or, the logits are handed to the host …
    std::vector<int32_t> targets;  // … and, or, each wanted row's token of interest …
    LogprobsSink on_logprobs;      // … and what the raw logits make of it: much less to move than the logits

    int n_rows() const { return static_cast<int>(tokens.size()); }
};

struct TokenLogprob {
    int32_t id = 0;
    float logprob = 0;  // of the raw logits
};

// What a sampled row drew: the token of position `position` of the slot.
struct Sampled {
    int slot = 0;
    int64_t position = 0;
    TokenLogprob token;
    std::vector<TokenLogprob> top;  // the SamplingParams::n_top best of the raw logits, best first
};

}  // namespace samba
