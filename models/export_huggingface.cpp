#include "models/export_huggingface.h"

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>

#include "kernels/quant.h"
#include "models/export_config.h"
#include "models/export_tokenizer_json.h"
#include "models/gguf.h"
#include "models/json_text.h"
#include "models/model_file.h"
#include "models/output_file.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::ordered_json;

// A tensor of model.safetensors and where its values come from.
struct ExportTensor {
    std::string name;
    DType type = DType::kF32;
    std::vector<int64_t> shape;
    Tensor source;
    int64_t rows = 0, cols = 0;    // of the checkpoint; the source may be padded
    bool log_of_negative = false;  // A_log = log(-A)
};

class Exporter {
  public:
    Exporter(const Gguf& gguf, const ModelFile& file) : file_(file) {
        if (const auto* list = gguf.metadata.texts("samba.source.dtypes")) {
            for (const std::string& entry : *list) {
                size_t equals = entry.find('=');
                auto type = equals == std::string::npos ? std::nullopt : parse_dtype(entry.substr(equals + 1));
                if (!type || info(*type).quantized) {
                    throw FileError("key \"samba.source.dtypes\": expected NAME=TYPE, found " + in_quotes(entry));
                }
                source_types_[entry.substr(0, equals)] = *type;
            }
        }
    }

    std::vector<ExportTensor> tensors(bool mamba) {
        mamba_ = mamba;
        const Config& c = file_.config;
        matrix("backbone.embeddings.weight", "token_embd.weight");
        for (size_t i = 0; i < c.blocks.size(); ++i) block(i);
        vector("backbone.norm_f.weight", "output_norm.weight");
        if (!c.tied) matrix("lm_head.weight", "output.weight");
        return std::move(out_);
    }
    // The checkpoint's own type of a tensor; exact values are kept where it had none of these.
    DType type_of(const std::string& gguf_name) const {
        auto recorded = source_types_.find(gguf_name);
        if (recorded != source_types_.end()) return recorded->second;
        DType type = file_.find(gguf_name)->type;
        return info(type).quantized ? DType::kF32 : type;
    }
    bool approximate_a_log() const { return approximate_a_log_; }

  private:
    const ModelFile& file_;
    bool mamba_ = false, approximate_a_log_ = false;
    std::map<std::string, DType> source_types_;
    std::vector<ExportTensor> out_;

    ExportTensor* add(const std::string& name, const std::string& gguf_name) {
        const Tensor* t = file_.find(gguf_name);
        if (!t) return nullptr;
        out_.push_back({name, type_of(gguf_name), {t->rows, t->cols}, *t, t->rows, t->cols, false});
        return &out_.back();
    }
    void matrix(const std::string& name, const std::string& gguf_name) { add(name, gguf_name); }
    void vector(const std::string& name, const std::string& gguf_name) {
        if (ExportTensor* t = add(name, gguf_name)) t->shape = {t->cols};
    }

    void block(size_t i) {
        const BlockConfig& b = file_.config.blocks[i];
        std::string hf = "backbone.layers." + std::to_string(i) + ".", blk = "blk." + std::to_string(i) + ".";
        vector(hf + (mamba_ ? "norm.weight" : "mixer_norm.weight"), blk + "attn_norm.weight");
        if (b.mixer == Mixer::kMamba) {
            mamba(hf + "mixer.", blk);
        } else {
            attention(hf + "mixer.", blk);
        }
        if (b.d_ff == 0) return;
        int64_t width = export_width(b);
        vector(hf + "mlp_norm.weight", blk + "ffn_norm.weight");
        for (const char* name : {"gate", "up", "down"}) {
            ExportTensor* t = add(hf + "mlp." + name + "_proj.weight", blk + "ffn_" + name + ".weight");
            (std::string_view(name) == "down" ? t->cols : t->rows) = width;
            t->shape = {t->rows, t->cols};
        }
    }

    void mamba(const std::string& hf, const std::string& blk) {
        if (ExportTensor* a = add(hf + "A_log", blk + "ssm_a_log"); !a) {
            add(hf + "A_log", blk + "ssm_a")->log_of_negative = true;
            approximate_a_log_ = true;
        }
        vector(hf + "D", blk + "ssm_d");
        matrix(hf + "in_proj.weight", blk + "ssm_in.weight");
        vector(hf + "in_proj.bias", blk + "ssm_in.bias");
        if (ExportTensor* t = add(hf + "conv1d.weight", blk + "ssm_conv1d.weight")) t->shape = {t->rows, 1, t->cols};
        vector(hf + "conv1d.bias", blk + "ssm_conv1d.bias");
        matrix(hf + "x_proj.weight", blk + "ssm_x.weight");
        matrix(hf + "dt_proj.weight", blk + "ssm_dt.weight");
        vector(hf + "dt_proj.bias", blk + "ssm_dt.bias");
        matrix(hf + "out_proj.weight", blk + "ssm_out.weight");
        vector(hf + "out_proj.bias", blk + "ssm_out.bias");
    }

    void attention(const std::string& hf, const std::string& blk) {
        for (const char* name : {"q", "k", "v"}) {
            matrix(hf + name + "_proj.weight", blk + "attn_" + name + ".weight");
            vector(hf + name + "_proj.bias", blk + "attn_" + name + ".bias");
        }
        vector(hf + "q_norm.weight", blk + "attn_q_norm.weight");
        vector(hf + "k_norm.weight", blk + "attn_k_norm.weight");
        matrix(hf + "o_proj.weight", blk + "attn_output.weight");
    }
};

size_t stored_bytes(const ExportTensor& t) { return static_cast<size_t>(t.rows) * row_bytes(t.type, t.cols); }

std::string safetensors_header(const std::vector<ExportTensor>& tensors) {
    ordered_json header;
    header["__metadata__"] = {{"format", "pt"}};
    size_t at = 0;
    for (const ExportTensor& t : tensors) {
        size_t end = at + stored_bytes(t);
        header[t.name] = {{"dtype", info(t.type).name}, {"shape", t.shape}, {"data_offsets", {at, end}}};
        at = end;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    uint64_t length = text.size();
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

void write_tensor(OutputFile& out, const ExportTensor& t) {
    std::vector<float> row(static_cast<size_t>(t.source.cols));
    std::vector<char> bytes(row_bytes(t.type, t.cols));
    for (int64_t r = 0; r < t.rows; ++r) {
        dequantize_row(t.source.type, t.source.row(r), row.data(), t.source.cols);
        for (int64_t i = 0; t.log_of_negative && i < t.cols; ++i) {
            row[static_cast<size_t>(i)] =
                static_cast<float>(std::log(-static_cast<double>(row[static_cast<size_t>(i)])));
        }
        quantize_row(t.type, row.data(), bytes.data(), t.cols);
        out.write(bytes.data(), bytes.size());
    }
}

void write_text(OutputFile& out, const std::string& text) { out.write(text.data(), text.size()); }

// The files of the tokenizer and their text.
std::vector<std::pair<std::string, std::string>> tokenizer_files(const Gguf& gguf, const ModelFile& file) {
    const TokenizerData& t = file.tokenizer;
    std::vector<std::pair<std::string, std::string>> files;
    if (!t.sentencepiece_model.empty()) {
        files.emplace_back("tokenizer.model", t.sentencepiece_model);
    } else if (t.kind == "gpt2") {
        files.emplace_back("tokenizer.json", export_tokenizer_json(t));
    } else {
        return files;
    }
    std::string jinja = gguf.metadata.text("tokenizer.chat_template").value_or("");
    files.emplace_back("tokenizer_config.json", export_tokenizer_config(file, jinja));
    if (std::string ends = export_generation_config(t); !ends.empty()) {
        files.emplace_back("generation_config.json", std::move(ends));
    }
    return files;
}

}  // namespace

ExportReport export_huggingface(const ExportOptions& options) {
    Gguf gguf = Gguf::open(options.input);
    ModelFile file = model_of(gguf);
    ExportReport report;
    Exporter exporter(gguf, file);
    ExportConfig config = export_config(file, exporter.type_of("token_embd.weight"), report.notes);
    report.kind = config.model_type;
    std::vector<ExportTensor> tensors = exporter.tensors(config.model_type == "mamba");
    if (exporter.approximate_a_log())
        report.notes.push_back("the file does not hold A_log: it comes back from A within 6e-8");

    if (::mkdir(options.output.c_str(), 0777) != 0 && errno != EEXIST) {
        throw FileError("cannot make the directory " + in_quotes(options.output) + ": " + std::strerror(errno));
    }
    OutputFile config_file(options.output + "/config.json", options.force);
    write_text(config_file, config.json);
    OutputFile tensor_file(options.output + "/model.safetensors", options.force);
    std::vector<std::unique_ptr<OutputFile>> texts;
    for (const auto& [name, text] : tokenizer_files(gguf, file)) {
        texts.push_back(std::make_unique<OutputFile>(options.output + "/" + name, options.force));
        write_text(*texts.back(), text);
    }
    uint64_t total = 0;
    for (const ExportTensor& t : tensors) total += stored_bytes(t);
    write_text(tensor_file, safetensors_header(tensors));
    uint64_t done = 0;
    for (const ExportTensor& t : tensors) {
        if (options.cancel && options.cancel->load()) throw Cancelled("interrupted");
        if (options.progress) options.progress(t.name, done, total);
        write_tensor(tensor_file, t);
        done += stored_bytes(t);
    }
    report.n_tensors = tensors.size();
    report.bytes = tensor_file.written();
    tensor_file.finish();
    for (auto& text : texts) text->finish();
    config_file.finish();
    if (options.progress) options.progress("", total, total);
    return report;
}

}  // namespace samba
