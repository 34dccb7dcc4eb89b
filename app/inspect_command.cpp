// samba-lm inspect: what a model file holds and needs.
#include <CLI/App.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/inspect.h"
#include "app/model_path.h"
#include "app/model_text.h"
#include "app/output.h"
#include "app/signals.h"
#include "app/table.h"
#include "kernels/error.h"
#include "models/gguf.h"
#include "models/model_file.h"
#include "models/progress.h"
#include "models/state.h"

namespace samba {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
    std::string file;
    bool json = false, check = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm inspect\n"
    "  samba-lm inspect model.gguf --check\n"
    "  samba-lm inspect model.gguf --json | jq .config";

Json scalar_json(const GgufScalar& scalar) {
    return std::visit([](const auto& value) { return Json(value); }, scalar);
}

// Long lists (a vocabulary) are named, not shown.
Json value_json(const GgufValue& value) {
    if (const auto* scalar = std::get_if<GgufScalar>(&value)) return scalar_json(*scalar);
    return std::visit(
        [&](const auto& list) -> Json {
            constexpr size_t kShown = 64;
            if (list.size() > kShown) return std::to_string(list.size()) + " values: " + GgufMetadata::type_name(value);
            Json array = Json::array();
            for (const auto& item : list) array.push_back(item);
            return array;
        },
        std::get<GgufArray>(value));
}

std::string value_text(const GgufValue& value) {
    Json json = value_json(value);
    std::string text =
        json.is_string() ? json.get<std::string>() : json.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr size_t kShown = 200;
    if (text.size() > kShown) text = text.substr(0, kShown) + " …";
    return visible_line(text);
}

Json config_json(const Config& c) {
    return {{"d_model", c.d_model},
            {"n_blocks", c.blocks.size()},
            {"vocab_size", c.vocab_size},
            {"context_length", c.context_length},
            {"d_inner", c.d_inner},
            {"d_state", c.d_state},
            {"d_conv", c.d_conv},
            {"dt_rank", c.dt_rank},
            {"norm_eps", c.norm_eps},
            {"rope_theta", c.rope_theta},
            {"tied", c.tied}};
}

Json blocks_json(const Config& c) {
    Json blocks = Json::array();
    for (const BlockConfig& b : c.blocks) {
        blocks.push_back({{"mixer", mixer_name(b.mixer)},
                          {"n_heads", b.n_heads},
                          {"n_kv_heads", b.n_kv_heads},
                          {"head_dim", b.head_dim},
                          {"window", b.window},
                          {"rope_dim", b.rope_dim},
                          {"conv_width", b.conv_width},
                          {"value_dim", b.value_dim ? b.value_dim : b.head_dim},
                          {"gate_rank", b.gate_rank},
                          {"chunk", b.chunk},
                          {"d_ff", b.d_ff},
                          {"d_ff_true", b.d_ff_true}});
    }
    return blocks;
}

void report_json(const Gguf& gguf, const ModelFile& file, const std::string& path, const Needs& needs) {
    Json metadata = Json::object(), tensors = Json::array();
    for (const auto& [key, value] : gguf.metadata.all()) metadata[key] = value_json(value);
    for (const GgufTensor& t : gguf.tensors) {
        if (interrupted()) throw Cancelled("interrupted");
        tensors.push_back({{"name", t.name},
                           {"type", info(t.type).name},
                           {"shape", t.dims},
                           {"bytes", t.bytes},
                           {"hash", tensor_hash(t)}});
    }
    print_json({{"v", 1},
                {"file", path},
                {"file_bytes", gguf.file_bytes},
                {"file_type", file.file_type},
                {"parameters", parameter_count(gguf)},
                {"fingerprint", file.fingerprint},
                {"content_hash", file.content_hash.empty() ? Json() : Json(file.content_hash)},
                {"metadata", metadata},
                {"config", config_json(file.config)},
                {"blocks", blocks_json(file.config)},
                {"tensors", tensors},
                {"state_bytes", needs.state},
                {"saved_state_bytes", needs.saved_state},
                {"memory_bytes", needs.total()}});
}

void report_head(const Gguf& gguf, const ModelFile& file, const std::string& path, const Needs& needs) {
    const Config& c = file.config;
    auto line = [](const char* what, const std::string& value) {
        print(what + std::string(14 - std::string_view(what).size(), ' ') + value + "\n");
    };
    auto bytes = [](size_t n) { return human_bytes(static_cast<double>(n)); };
    line("file", visible_line(path) + ", " + bytes(gguf.file_bytes));
    line("model", visible_line(c.name.empty() ? "(no name)" : c.name) + ", " +
                      with_commas(static_cast<int64_t>(parameter_count(gguf))) + " parameters, " + file.file_type);
    line("content hash", file.content_hash.empty() ? "none in the file" : file.content_hash);
    line("sizes", "d_model " + std::to_string(c.d_model) + ", vocabulary " + with_commas(c.vocab_size) +
                      (c.tied ? ", tied head" : ", own head") +
                      (c.context_length > 0 ? ", trained on " + with_commas(c.context_length) + " tokens" : ""));
    line("blocks", blocks_text(c));
    line("state", bytes(needs.state) + " a session, " + bytes(needs.saved_state) + " when saved or copied" +
                      (needs.grows ? " (full attention: at most)" : ", at any position"));
    line("memory", "about " + bytes(needs.total()) + " for one session on the CPU: file " + bytes(needs.weights) +
                       ", state " + bytes(needs.state) + ", work " + bytes(needs.work));
}

std::string shape_text(const GgufTensor& t) {
    std::string text;
    for (uint64_t dim : t.dims) text += (text.empty() ? "" : " × ") + std::to_string(dim);
    return text;
}

void report_text(const Gguf& gguf, const ModelFile& file, const std::string& path, const Needs& needs) {
    report_head(gguf, file, path, needs);
    print("\n");
    for (const auto& [key, value] : gguf.metadata.all()) print(visible_line(key) + " = " + value_text(value) + "\n");
    print("\n");
    Table blocks({">block", "mixer", ">heads", ">kv heads", ">head dim", ">window", ">d_ff"});
    for (size_t i = 0; i < file.config.blocks.size(); ++i) {
        const BlockConfig& b = file.config.blocks[i];
        bool attention = b.mixer == Mixer::kAttention;
        auto number = [](int64_t n) { return n ? std::to_string(n) : std::string("-"); };
        blocks.add({std::to_string(i), b.mixer == Mixer::kNone ? "-" : mixer_name(b.mixer), number(b.n_heads),
                    number(b.n_kv_heads), number(b.head_dim),
                    attention && b.window == 0 ? "full" : number(std::max(b.window, b.chunk)), std::to_string(b.d_ff)});
    }
    print(blocks.text() + "\n");
    Table tensors({"tensor", "type", "shape (fastest first)", ">bytes"});
    for (const GgufTensor& t : gguf.tensors) {
        tensors.add({visible_line(t.name), info(t.type).name, shape_text(t), std::to_string(t.bytes)});
    }
    print(tensors.text());
}

int run(const Options& o) {
    std::string path = find_model(o.file);
    set_mapped_file(path);
    Gguf gguf = Gguf::open(path);
    ModelFile file = load_model_file(path);
    Needs needs = needs_of(file);
    if (o.check) check_tensors(gguf, file, path);  // before any output: an error is all there is then
    o.json ? report_json(gguf, file, path, needs) : report_text(gguf, file, path, needs);
    if (o.check && !o.json) {
        print("\nchecked: every value of " + std::to_string(gguf.tensors.size()) + " tensors is finite" +
              (file.content_hash.empty() ? "" : ", the content hash is right") + "\n");
    }
    return 0;
}

}  // namespace

RunCommand add_inspect(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "MODEL", o->file, "FILE", "the model file [-m, else the shipped one]");
    add_flag(app, "--check", o->check, "also read every tensor: all values finite, the content hash right");
    add_flag(app, "--json", o->json, "everything as JSON, with a hash of each tensor");
    add_model_file_option(app, common);
    app.footer(kExamples);
    return [o, &common] {
        if (o->file.empty()) o->file = common.model;
        return run(*o);
    };
}

}  // namespace samba
