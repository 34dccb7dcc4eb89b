#include "models/quantize.h"

#include <cmath>
#include <set>

#include "kernels/quant.h"
#include "models/file_type.h"
#include "models/gguf.h"
#include "models/metadata_settings.h"
#include "models/model_file.h"
#include "models/model_metadata.h"
#include "models/tensor_encoder.h"

namespace samba {

namespace {

// The new table and what it comes from. A quantised file is no way back to the checkpoint: A_log is dropped.
struct Job {
    std::vector<GgufTensor> table;
    std::vector<const GgufTensor*> sources;
};

Job plan_tensors(const Gguf& gguf, const Config& config, const FileType& type) {
    std::set<std::string> f32_always;
    for (const TensorSpec& spec : expected_tensors(config)) {
        if (spec.f32_always) f32_always.insert(spec.name);
    }
    Job job;
    for (const GgufTensor& t : gguf.tensors) {
        if (t.name.ends_with(".ssm_a_log") && info(type.base).quantized) continue;
        GgufTensor out = t;
        out.data = nullptr;
        if (!f32_always.count(t.name)) {
            out.type = tensor_type(type, t.name, static_cast<int64_t>(t.dims[0]), t.type);
        }
        job.sources.push_back(&t);
        job.table.push_back(std::move(out));
    }
    return job;
}

GgufMetadata describe(const Gguf& gguf, const QuantizeOptions& options, const FileType& type) {
    GgufMetadata meta = gguf.metadata;
    meta.set("general.file_type", type.id);
    if (info(type.base).quantized) {
        meta.set("general.quantization_version", uint32_t{2});
        meta.remove("samba.source.dtypes");
    } else {
        meta.remove("general.quantization_version");
    }
    apply_settings(meta, options.set);
    return meta;
}

}  // namespace

QuantizeReport quantize_model(const QuantizeOptions& options) {
    const FileType& type = file_type(options.type);
    Gguf gguf = Gguf::open(options.input);
    Config config = model_of(gguf).config;
    Job job = plan_tensors(gguf, config, type);
    GgufWriter writer(options.output, options.force, describe(gguf, options, type), job.table);
    TensorEncoder encoder(writer, options.threads, options.cancel);
    QuantizeReport report;
    report.type = type.name;
    double error = 0, norm = 0;
    uint64_t done = 0;
    for (size_t i = 0; i < job.table.size(); ++i) {
        const GgufTensor &from = *job.sources[i], &to = job.table[i];
        auto cols = static_cast<int64_t>(from.dims[0]);
        auto rows = static_cast<int64_t>(from.bytes / row_bytes(from.type, cols));
        if (options.progress) options.progress(to.name, done, writer.tensor_bytes());
        TensorReport t{to.name,
                       from.type,
                       to.type,
                       rows,
                       cols,
                       from.bytes,
                       static_cast<uint64_t>(rows) * row_bytes(to.type, cols)};
        if (from.type == to.type) {  // the same bytes: quantising them again could only lose
            if (options.cancel && options.cancel->load()) throw Cancelled("interrupted");
            writer.write(from.data, from.bytes);
        } else {
            auto source = [&](int64_t first, int64_t n, float* out) {
                const char* at =
                    static_cast<const char*>(from.data) + static_cast<size_t>(first) * row_bytes(from.type, cols);
                dequantize_row(from.type, at, out, n * cols);
            };
            EncodeError e = encoder.encode(to.name, to.type, rows, cols, source, true);
            t.relative_error = e.squared_norm > 0 ? std::sqrt(e.squared_error / e.squared_norm) : 0;
            t.max_error = e.max_error;
            error += e.squared_error;
            norm += e.squared_norm;
        }
        done += t.bytes_after;
        report.tensors.push_back(std::move(t));
    }
    report.relative_error = norm > 0 ? std::sqrt(error / norm) : 0;
    report.bytes_before = gguf.file_bytes;
    report.content_hash = writer.finish();
    report.bytes_after = writer.file_bytes();
    if (options.progress) options.progress("", done, done);
    return report;
}

}  // namespace samba
