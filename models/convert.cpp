#include "models/convert.h"

#include <sys/stat.h>

#include <cmath>
#include <cstdio>
#include <map>

#include "models/convert_tokenizer.h"
#include "models/file_type.h"
#include "models/gguf.h"
#include "models/json_text.h"
#include "models/metadata_settings.h"
#include "models/model_metadata.h"
#include "models/open_checkpoint.h"
#include "models/quote.h"
#include "models/tensor_encoder.h"

namespace samba {

namespace {

bool exists(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0;
}

std::string directory_name(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path.substr(path.rfind('/') + 1);
}

// "47M", "1.3B"
std::string size_label(int64_t parameters) {
    double millions = static_cast<double>(parameters) / 1e6;
    char text[32];
    if (millions < 999.5) {
        std::snprintf(text, sizeof text, "%.0fM", millions);
    } else {
        std::snprintf(text, sizeof text, "%.1fB", millions / 1e3);
    }
    return text;
}

// The type that most of the checkpoint's matrices have.
std::string own_type(const CheckpointPlan& plan) {
    std::map<DType, int64_t> values;
    for (const TensorPlan& t : plan.tensors) {
        if (!t.f32_always) values[*t.source->type] += t.rows * t.cols;
    }
    DType most = DType::kF32;
    for (const auto& [type, n] : values) {
        if (n > values[most]) most = type;
    }
    std::string name = info(most).name;
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    return name;
}

// The exact A_log beside A, for the way back.
void add_a_log(std::vector<TensorPlan>& tensors) {
    std::vector<TensorPlan> all;
    for (const TensorPlan& t : tensors) {
        all.push_back(t);
        if (!t.negative_exp) continue;
        all.push_back(t);
        all.back().name += "_log";
        all.back().negative_exp = false;
    }
    tensors = std::move(all);
}

std::vector<GgufTensor> tensor_table(const std::vector<TensorPlan>& tensors, const FileType& type) {
    std::vector<GgufTensor> table;
    for (const TensorPlan& t : tensors) {
        GgufTensor g;
        g.name = t.name;
        g.type = t.f32_always ? DType::kF32 : tensor_type(type, t.name, t.cols, *t.source->type);
        g.dims = {static_cast<uint64_t>(t.cols)};
        bool vector = t.source->shape.size() == 1;
        if (!vector) g.dims.push_back(static_cast<uint64_t>(t.rows));
        table.push_back(std::move(g));
    }
    return table;
}

// Which tensors are stored wider than the checkpoint has them: "name=BF16".
std::vector<std::string> source_types(const std::vector<TensorPlan>& tensors, const std::vector<GgufTensor>& table) {
    std::vector<std::string> list;
    for (size_t i = 0; i < tensors.size(); ++i) {
        DType source = *tensors[i].source->type;
        if (table[i].type == DType::kF32 && source != DType::kF32)
            list.push_back(table[i].name + "=" + info(source).name);
    }
    return list;
}

// Row `row` of a tensor of the file, zeros where it is padding.
void read_row(const CheckpointReader& reader, const TensorPlan& t, int64_t row, float* out) {
    int64_t cols = t.source->cols(), n = 0;
    for (const RowRange& range : t.ranges) {
        if (row < range.count) {
            reader.read_rows(*t.source, range.first + row, 1, out);
            n = cols;
            break;
        }
        row -= range.count;
    }
    for (int64_t i = n; i < t.cols; ++i) out[i] = 0;
    for (int64_t i = 0; t.negative_exp && i < n; ++i)
        out[i] = -static_cast<float>(std::exp(static_cast<double>(out[i])));
}

// The exact pieces of tokenizer.model win over a tokenizer.json, which may be made from them.
std::string tokenizer_in(const std::string& folder) {
    for (const char* name : {"/tokenizer.model", "/tokenizer.json"}) {
        if (exists(folder + name)) return folder + name;
    }
    throw FileError(in_quotes(folder) +
                    " has no tokenizer.model or tokenizer.json: name one with --tokenizer, or --no-tokenizer for "
                    "logits and bench alone");
}

GgufMetadata describe(const ConvertOptions& options, const std::string& folder, const CheckpointPlan& plan,
                      const FileType& type, ConvertReport& report) {
    GgufMetadata meta;
    report.name = options.name.empty() ? directory_name(options.checkpoint) : options.name;
    meta.set("general.architecture", std::string("samba"));
    meta.set("general.type", std::string("model"));
    meta.set("general.name", report.name);
    meta.set("general.size_label", size_label(plan.n_parameters));
    meta.set("general.file_type", type.id);
    if (info(type.base).quantized) meta.set("general.quantization_version", uint32_t{2});
    write_config(plan.config, meta);
    if (!options.no_tokenizer) {
        std::string path = options.tokenizer.empty() ? tokenizer_in(folder) : options.tokenizer;
        TokenizerSource source{folder, path, options.chat_template};
        report.chat_template = write_tokenizer(source, plan, meta, report.notes);
    }
    apply_settings(meta, options.set);
    return meta;
}

void note_padding(const Config& config, std::vector<std::string>& notes) {
    for (const BlockConfig& b : config.blocks) {
        if (b.d_ff == b.d_ff_true) continue;
        notes.push_back("MLPs padded from " + std::to_string(b.d_ff_true) + " to " + std::to_string(b.d_ff) +
                        " with zeros");
        return;
    }
}

}  // namespace

ConvertReport convert_checkpoint(const ConvertOptions& options) {
    if (!options.type.empty()) file_type(options.type);  // a wrong name is told before anything is read
    auto [reader, plan, folder] = open_checkpoint(options.checkpoint, options.preset);
    const FileType& type = file_type(options.type.empty() ? own_type(plan) : options.type);
    ConvertReport report;
    report.kind = plan.kind;
    report.type = type.name;
    report.notes = plan.notes;
    report.n_parameters = plan.n_parameters;
    note_padding(plan.config, report.notes);
    GgufMetadata meta = describe(options, folder, plan, type, report);
    report.config = plan.config;
    report.config.name = report.name;
    bool exact_way_back = options.keep_a_log && !info(type.base).quantized;
    if (exact_way_back) add_a_log(plan.tensors);
    auto table = tensor_table(plan.tensors, type);
    if (auto wider = source_types(plan.tensors, table); !wider.empty())
        meta.set("samba.source.dtypes", std::move(wider));

    GgufWriter writer(options.output, options.force, std::move(meta), table);
    TensorEncoder encoder(writer, options.threads, options.cancel);
    uint64_t done = 0;
    for (size_t i = 0; i < table.size(); ++i) {
        const TensorPlan& t = plan.tensors[i];
        if (options.progress) options.progress(t.name, done, writer.tensor_bytes());
        auto rows = [&, &source = *reader](int64_t first, int64_t n, float* out) {
            for (int64_t r = 0; r < n; ++r) read_row(source, t, first + r, out + r * t.cols);
        };
        encoder.encode(t.source->name, table[i].type, t.rows, t.cols, rows, false);
        done += static_cast<uint64_t>(t.rows) * row_bytes(table[i].type, t.cols);
    }
    report.content_hash = writer.finish();
    report.n_tensors = table.size();
    report.bytes = writer.file_bytes();
    if (options.progress) options.progress("", done, done);
    return report;
}

}  // namespace samba
