// samba-lm quantize: a model file becomes one of another type.
#include "models/quantize.h"

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/model_text.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/table.h"

namespace samba {
namespace {

struct Options {
    QuantizeOptions quantize;
    std::vector<std::string> set;
    bool json = false;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm quantize model.gguf small.gguf q4_k_m\n"
    "  samba-lm quantize small.gguf wide.gguf f32        # the same values, any machine's reference";

std::string percent(double share) { return fixed(100 * share, 3) + " %"; }

// Tensors of one kind (blk.*.ssm_in.weight) that went the same way, in one row.
struct Kind {
    std::string name;
    DType from, to;
    size_t n = 0;
    uint64_t before = 0, after = 0;
    double worst_error = 0;
};

std::vector<Kind> kinds_of(const QuantizeReport& report) {
    std::vector<Kind> kinds;
    for (const TensorReport& t : report.tensors) {
        std::string name = t.name;
        if (name.starts_with("blk.")) name = "blk.*" + name.substr(std::min(name.find('.', 4), name.size()));
        auto same = std::find_if(kinds.begin(), kinds.end(),
                                 [&](const Kind& k) { return k.name == name && k.from == t.from && k.to == t.to; });
        if (same == kinds.end()) same = kinds.insert(same, Kind{name, t.from, t.to});
        ++same->n;
        same->before += t.bytes_before;
        same->after += t.bytes_after;
        same->worst_error = std::max(same->worst_error, t.relative_error);
    }
    return kinds;
}

void report(const QuantizeReport& r, const std::string& output) {
    Table table({"tensor", ">count", "from", "to", ">before", ">after", ">error (worst)"});
    for (const Kind& k : kinds_of(r)) {
        table.add({visible_line(k.name), std::to_string(k.n), info(k.from).name, info(k.to).name,
                   human_bytes(static_cast<double>(k.before)), human_bytes(static_cast<double>(k.after)),
                   percent(k.worst_error)});
    }
    print(table.text());
    print("\n" + visible_line(output) + ": " + r.type + ", " + human_bytes(static_cast<double>(r.bytes_after)) +
          " from " + human_bytes(static_cast<double>(r.bytes_before)) + ", error of all matrices " +
          percent(r.relative_error) + ", content hash " + r.content_hash + "\n");
}

void report_json(const QuantizeReport& r, const std::string& output) {
    auto tensors = nlohmann::ordered_json::array();
    for (const TensorReport& t : r.tensors) {
        tensors.push_back({{"name", t.name},
                           {"shape", {t.rows, t.cols}},
                           {"from", info(t.from).name},
                           {"to", info(t.to).name},
                           {"bytes_before", t.bytes_before},
                           {"bytes_after", t.bytes_after},
                           {"relative_error", t.relative_error},
                           {"max_error", t.max_error}});
    }
    print_json({{"v", 1},
                {"file", output},
                {"type", r.type},
                {"bytes_before", r.bytes_before},
                {"bytes_after", r.bytes_after},
                {"relative_error", r.relative_error},
                {"content_hash", r.content_hash},
                {"tensors", tensors}});
}

int run(Options& o, const CommonOptions& common) {
    o.quantize.threads = static_cast<int>(common.threads);
    o.quantize.set = key_values("--set", o.set);
    o.quantize.cancel = &interrupt_flag();
    set_mapped_file(o.quantize.input);
    Progress progress("quantizing", "B");
    o.quantize.progress = [&](const std::string& tensor, uint64_t done, uint64_t total) {
        progress.set_total(total);
        progress.update(done, tensor);
    };
    QuantizeReport r = quantize_model(o.quantize);
    hide_progress();
    o.json ? report_json(r, o.quantize.output) : report(r, o.quantize.output);
    return 0;
}

}  // namespace

RunCommand add_quantize(CLI::App& app, CommonOptions& common) {
    auto o = std::make_shared<Options>();
    add_text(app, "INPUT", o->quantize.input, "FILE", "the model file to read")->required();
    add_text(app, "OUTPUT", o->quantize.output, "FILE", "the model file to write")->required();
    add_text(app, "TYPE", o->quantize.type, "TYPE",
             joined(file_types()) + "; also upward: f32 keeps every value, f16 and bf16 round")
        ->required();
    one_shot(add_texts(app, "--set", o->set, "KEY=VALUE", "metadata to change: " + settable_text() + " (repeatable)"));
    one_shot(add_flag(app, "--force", o->quantize.force, "replace an existing output file"));
    add_flag(app, "--json", o->json, "the report as JSON, tensor by tensor");
    add_threads_option(app, common);
    app.footer(kExamples);
    return [o, &common] { return run(*o, common); };
}

}  // namespace samba
