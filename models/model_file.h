// What a model file gives: hyper-parameters, tensors, tokenizer, template, defaults. The tensors point into `memory`
// (the mapped file, or the random weights of a preset).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.h"
#include "models/config.h"

namespace samba {

// The tokenizer as the file holds it (tokenizer.ggml.*, tokenizer.sentencepiece.model).
struct TokenizerData {
    std::string kind;                 // "llama": sentencepiece; "gpt2": byte-level BPE; empty: none in the file
    std::string sentencepiece_model;  // the bytes of tokenizer.model
    std::vector<std::string> tokens, merges;
    std::vector<float> scores;
    std::vector<int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
    std::string pre;
    int32_t bos = -1, eos = -1, unk = -1, eot = -1;  // -1: none
    bool add_bos = false, add_space_prefix = true;
    std::vector<uint32_t> end_ids, added_ids;  // samba.end_token_ids, samba.added_token_ids
};

// general.sampling.*; absent keys leave the program's defaults.
struct SamplingDefaults {
    std::optional<float> temp, top_p, min_p, repeat_penalty;
    std::optional<int> top_k, repeat_last_n;
};

struct ModelFile {
    std::string path;  // empty for random weights
    Config config;
    std::map<std::string, Tensor> tensors;  // GGUF names (docs/file-format.md)
    TokenizerData tokenizer;
    std::string chat_template;  // samba.chat_template: our JSON; empty: none
    SamplingDefaults sampling;
    std::string summary_method;       // samba.summary_method; empty: not said
    int64_t recall_length = 0;        // samba.recall_length; 0: not said
    std::string file_type;            // "BF16", "Q8_0", "q4_k_m", … for people
    DType weight_type = DType::kF32;  // of most of the weights
    size_t bytes = 0;                 // of all tensors
    std::string fingerprint;          // hex XXH3 of metadata and tensor table (holds samba.content_hash)
    std::string content_hash;  // samba.content_hash: hex XXH3 of the tensors' bytes; empty: the file does not say
    std::shared_ptr<void> memory;

    const Tensor* find(const std::string& name) const {
        auto it = tensors.find(name);
        return it == tensors.end() ? nullptr : &it->second;
    }
};

// Reads and checks a GGUF file: every tensor that the config needs is there with its shape. Throws FileError.
ModelFile load_model_file(const std::string& path);

// The same for a parsed file.
class Gguf;
ModelFile model_of(const Gguf& gguf);

// XXH3-64 of all tensors' bytes in the order of the file, 16 hex digits; equals `content_hash` where nothing was
// changed.
std::string content_hash(const ModelFile& file);

// The tensors that a config needs, with their shapes: what the loader checks and a random model makes.
struct TensorSpec {
    std::string name;
    int64_t rows = 0, cols = 0;
    bool f32_always = false;  // norms, biases, A, D, convolution
    bool optional = false;    // biases, head norms, ssm_a_log; the head is listed where it is not the embedding
};
std::vector<TensorSpec> expected_tensors(const Config& config);

// Parameters of the checkpoint: MLPs at their true width; of the optional tensors the convolution's biases alone.
int64_t n_parameters(const Config& config);

// Random weights of that type with sensible scales (activations stay finite at any depth), the tokenizer of
// `tokenizer_from`; made in a second or two for a billion parameters. Same seed, same weights.
ModelFile random_model(const Config& config, DType type, uint64_t seed, const ModelFile* tokenizer_from);

// A named preset ("samba-421m", case and -/_ do not matter), or a JSON file of the same form. Throws UsageError.
Config preset(const std::string& name_or_file);
Config parse_preset(std::string_view json, const std::string& where);
std::vector<std::string> preset_names();

}  // namespace samba
