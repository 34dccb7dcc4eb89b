#include "app/commands.h"

namespace samba {
namespace {

constexpr Command kCommands[] = {
    {"chat", "talk with the model", add_chat, true},
    {"complete", "go on with a text", add_complete, true},
    {"summarize", "read text of any length as a stream, and sum it up", add_summarize, true},
    {"convert", "make a model file from a checkpoint", add_convert, false},
    {"quantize", "make a smaller, or wider, model file from a model file", add_quantize, false},
    {"inspect", "show what a model file holds and needs", add_inspect, false},
    {"tokenize", "turn text into token ids, and back", add_tokenize, false},
    {"perplexity", "measure how well the model predicts a text", add_perplexity, false},
    {"logits", "write the raw logits of given tokens as a NumPy file", add_logits, false},
    {"bench", "measure speed", add_bench, false},
    {"doctor", "show what this machine offers and what would run where", add_doctor, false},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

const Command* find_command(std::string_view name) {
    for (const Command& command : kCommands) {
        if (command.name == name) return &command;
    }
    return nullptr;
}

}  // namespace samba
