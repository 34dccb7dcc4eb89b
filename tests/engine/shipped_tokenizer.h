// The shipped model's tokenizer, out of the committed model file, and texts that are hard for any tokenizer.
#pragma once
#include <random>
#include <string>
#include <vector>

#include "engine/tokenizer.h"
#include "models/model_file.h"

namespace samba {

inline const TokenizerData& shipped_tokenizer_data() {
    static const TokenizerData data =
        load_model_file(std::string(SAMBA_SOURCE_DIR) + "/models/samba-47m-q4_k_m.gguf").tokenizer;
    return data;
}

inline const std::vector<std::string>& shipped_control_pieces() {
    static const std::vector<std::string> pieces = {"<s>",      "</s>",          "<|system|>",
                                                    "<|user|>", "<|assistant|>", "<|end|>"};
    return pieces;
}

inline const Tokenizer& shipped_tokenizer() {
    static const Tokenizer tokenizer(shipped_tokenizer_data(), 8192, shipped_control_pieces());
    return tokenizer;
}

// Words, white space, scripts, digits, emoji with joiners, combining marks, NUL, U+2581, and text that looks like
// tokens.
inline std::string random_text(std::mt19937& random, size_t pieces) {
    static const std::vector<std::string> atoms = {" ",
                                                   "  ",
                                                   "    ",
                                                   "\n",
                                                   "\n\n",
                                                   "\r\n",
                                                   "\t",
                                                   "a",
                                                   "ab",
                                                   "the",
                                                   "The",
                                                   " house",
                                                   "'s",
                                                   "n't",
                                                   "1",
                                                   "2024",
                                                   "3.14",
                                                   "…",
                                                   "—",
                                                   "“",
                                                   "...",
                                                   "!?",
                                                   "é",
                                                   "e\u0301",
                                                   "\u0301",
                                                   "ß",
                                                   "Ω",
                                                   "中",
                                                   "文字",
                                                   "日本語",
                                                   "가",
                                                   "नमस्ते",
                                                   "👍",
                                                   "👩‍👩‍👧",
                                                   "\u200d",
                                                   "\u2581",
                                                   "\u00a0",
                                                   "\u3000",
                                                   "<|end|>",
                                                   "<|user|>",
                                                   "<s>",
                                                   "</s>",
                                                   "<unk>",
                                                   "<0x41>",
                                                   "[INST]",
                                                   "{",
                                                   "\"",
                                                   "\ufffd",
                                                   std::string(1, '\0'),
                                                   "\x7f"};
    std::string text;
    for (size_t i = 0; i < pieces; ++i) text += atoms[random() % atoms.size()];
    return text;
}

// The ids of a text that arrives in pieces of 1 to `most` bytes.
inline std::vector<int32_t> encode_in_pieces(const Tokenizer& tokenizer, std::string_view text, size_t most,
                                             std::mt19937& random, int64_t* forced_cuts = nullptr) {
    StreamEncoder stream(tokenizer);
    std::vector<int32_t> ids;
    while (!text.empty()) {
        size_t n = std::min<size_t>(1 + random() % most, text.size());
        stream.push(text.substr(0, n), ids);
        text.remove_prefix(n);
    }
    stream.finish(ids);
    if (forced_cuts) *forced_cuts = stream.forced_cuts();
    return ids;
}

}  // namespace samba
