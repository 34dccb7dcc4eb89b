// samba-lm convert: a checkpoint becomes a model file.
#include "models/convert.h"
#include "models/export_huggingface.h"

#include <spdlog/spdlog.h>

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/model_text.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "models/quantize.h"

namespace samba {
namespace {

struct Options {
    ConvertOptions convert;
    std::vector<std::string> set;
    std::string to;  // "hf": the way back
    bool no_a_log = false, json = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm convert checkpoint/ -o model.gguf\n"
    "  samba-lm convert checkpoint/ -o model.gguf --tokenizer llama/tokenizer.model\n"
    "  samba-lm convert checkpoint/ -o small.gguf --type q4_k_m --template samba\n"
    "  samba-lm convert iter-100000-ckpt.pth -o model.gguf --tokenizer tokenizer.model\n"
    "  samba-lm convert model.gguf -o checkpoint/ --to hf";

void report(const ConvertReport& r, const std::string& output) {
    auto line = [](const char* what, const std::string& value) {
        print(what + std::string(14 - std::string(what).size(), ' ') + visible_line(value) + "\n");
    };
    line("checkpoint", r.kind);
    line("name", r.name);
    line("parameters", with_commas(r.n_parameters));
    line("blocks", blocks_text(r.config));
    line("template", r.chat_template.empty() ? "none" : r.chat_template);
    line("written", output + ": " + r.type + ", " + std::to_string(r.n_tensors) + " tensors, " +
                        human_bytes(static_cast<double>(r.bytes)) + ", content hash " + r.content_hash);
}

void report_json(const ConvertReport& r, const std::string& output) {
    print_json(
        {{"v", 1},
         {"file", output},
         {"checkpoint", r.kind},
         {"name", r.name},
         {"type", r.type},
         {"template", r.chat_template.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(r.chat_template)},
         {"parameters", r.n_parameters},
         {"tensors", r.n_tensors},
         {"bytes", r.bytes},
         {"content_hash", r.content_hash},
         {"notes", r.notes}});
}

// A model file back to a Hugging Face directory.
int run_back(const Options& o, const ProgressFn& progress) {
    ExportOptions back;
    back.input = o.convert.checkpoint;
    back.output = o.convert.output;
    back.force = o.convert.force;
    back.cancel = &interrupt_flag();
    back.progress = progress;
    ExportReport r = export_huggingface(back);
    for (const std::string& note : r.notes) spdlog::info("{}", note);
    hide_progress();
    if (o.json) {
        print_json({{"v", 1},
                    {"directory", back.output},
                    {"kind", r.kind},
                    {"tensors", r.n_tensors},
                    {"bytes", r.bytes},
                    {"notes", r.notes}});
    } else {
        print("written       " + visible_line(back.output) + ": a Hugging Face directory (" + r.kind + "), " +
              std::to_string(r.n_tensors) + " tensors, " + human_bytes(static_cast<double>(r.bytes)) + "\n");
    }
    return 0;
}

int run(Options& o, const CommonOptions& common) {
    o.convert.threads = static_cast<int>(common.threads);
    o.convert.set = key_values("--set", o.set);
    o.convert.keep_a_log = !o.no_a_log;
    o.convert.cancel = &interrupt_flag();
    Progress progress("converting", "B");
    o.convert.progress = [&](const std::string& tensor, uint64_t done, uint64_t total) {
        progress.set_total(total);
        progress.update(done, tensor);
    };
    if (!o.to.empty() && o.to != "hf") throw UsageError("--to " + o.to + ": expected hf");
    if (!o.to.empty()) return run_back(o, o.convert.progress);
    ConvertReport r = convert_checkpoint(o.convert);
    for (const std::string& note : r.notes) spdlog::info("{}", note);
    hide_progress();
    o.json ? report_json(r, o.convert.output) : report(r, o.convert.output);
    return 0;
}

}  // namespace

RunCommand add_convert(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "CHECKPOINT", o->convert.checkpoint, "PATH",
             "the checkpoint: a Hugging Face directory, or a .pth of microsoft/Samba")
        ->required();
    one_shot(add_text(app, "-o,--output", o->convert.output, "FILE", "the model file to write"));
    one_shot(add_text(app, "--preset", o->convert.preset, "NAME|FILE.json",
                      "the configuration of a .pth [the one that it names]"));
    one_shot(add_text(app, "--to", o->to, "hf", "the way back: a model file becomes a Hugging Face directory"));
    one_shot(add_text(app, "--tokenizer", o->convert.tokenizer, "FILE",
                      "a tokenizer.model or tokenizer.json, if it does not lie in the checkpoint"));
    one_shot(add_flag(app, "--no-tokenizer", o->convert.no_tokenizer,
                      "write a file without tokenizer, for logits, bench and inspect"));
    add_text(app, "--type", o->convert.type, "TYPE", joined(file_types()) + " [the checkpoint's own]");
    one_shot(add_text(app, "--template", o->convert.chat_template, "NAME",
                      "the chat template: " + joined(chat_template_names()) + " [recognised from the checkpoint]"));
    one_shot(add_text(app, "--name", o->convert.name, "TEXT", "the model's name [the directory's]"));
    one_shot(add_texts(app, "--set", o->set, "KEY=VALUE", "metadata to write: " + settable_text() + " (repeatable)"));
    one_shot(add_flag(app, "--no-a-log", o->no_a_log,
                      "leave out the exact A_log, which only the way back to Hugging Face needs"));
    one_shot(add_flag(app, "--force", o->convert.force, "replace an existing output file"));
    add_flag(app, "--json", o->json, "the report as JSON");
    add_threads_option(app, common);
    app.footer(kExamples);
    return [o, &common] {
        require("-o/--output", !o->convert.output.empty());
        return run(*o, common);
    };
}

}  // namespace samba
