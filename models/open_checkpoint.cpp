#include "models/open_checkpoint.h"

#include <filesystem>

#include "kernels/error.h"
#include "models/huggingface.h"
#include "models/json_text.h"
#include "models/microsoft.h"
#include "models/model_file.h"
#include "models/quote.h"
#include "models/safetensors.h"
#include "models/torch_checkpoint.h"

namespace samba {
namespace {

namespace fs = std::filesystem;

OpenCheckpoint open_directory(const std::string& path) {
    fs::path folder(path), config = folder / "config.json", torch = folder / "pytorch_model.bin";
    if (!fs::exists(config))
        throw FileError(in_quotes(path) + " has no config.json: expected a Hugging Face directory");
    OpenCheckpoint open;
    open.folder = path;
    bool safetensors = fs::exists(folder / "model.safetensors") || fs::exists(folder / "model.safetensors.index.json");
    open.reader =
        !safetensors && fs::exists(torch) ? open_torch_checkpoint(torch.string()).reader : open_safetensors(path);
    open.plan = plan_huggingface(*open.reader, read_text_file(config.string()), config.string());
    return open;
}

OpenCheckpoint open_file(const std::string& path, const std::string& preset_name) {
    if (!is_zip_archive(path)) {
        throw FileError(in_quotes(path) +
                        ": not a checkpoint that is known: expected a directory with config.json, or a file of "
                        "torch.save (PyTorch 1.6 or newer)");
    }
    TorchCheckpoint torch = open_torch_checkpoint(path);
    if (!is_microsoft(*torch.reader)) {
        throw FileError(in_quotes(path) + ": expected microsoft/Samba's names (transformer.wte.weight …), found " +
                        in_quotes(torch.reader->tensors().front().name));
    }
    std::string name = !preset_name.empty() ? preset_name : torch.model_name;
    if (name.empty()) name = recognise_microsoft(*torch.reader);
    Config config;
    try {
        config = preset(name);
    } catch (const UsageError& e) {
        if (!preset_name.empty()) throw;
        throw FileError(in_quotes(path) + " names the configuration " + in_quotes(name) +
                        ", which is not known: name one with --preset NAME|FILE.json");
    }
    OpenCheckpoint open;
    open.plan = plan_microsoft(*torch.reader, config);
    open.reader = std::move(torch.reader);
    open.folder = fs::path(path).parent_path().empty() ? "." : fs::path(path).parent_path().string();
    return open;
}

}  // namespace

OpenCheckpoint open_checkpoint(const std::string& path, const std::string& preset) {
    std::error_code error;
    fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) throw FileError(in_quotes(path) + ": no such file or directory");
    if (!fs::is_directory(status)) return open_file(path, preset);
    if (!preset.empty()) throw UsageError("--preset goes with a .pth; " + in_quotes(path) + " has its own config.json");
    return open_directory(path);
}

}  // namespace samba
