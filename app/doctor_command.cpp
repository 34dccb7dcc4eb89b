// samba-lm doctor: what this machine offers, what would run where, and why.
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/inspect.h"
#include "app/machine.h"
#include "app/model_path.h"
#include "app/output.h"
#include "engine/device.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/error.h"
#include "version.h"

namespace samba {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kExamples[] =
    "Examples:\n"
    "  samba-lm doctor\n"
    "  samba-lm doctor --json";

// What opening a device says: its description, or why there is none.
struct Probe {
    std::string name, text;
    bool works = false;
};

Probe probe(const std::string& device, const CommonOptions& common) {
    std::string reason;
    try {
        auto backend = open_device(device, {.threads = static_cast<int>(common.threads)}, reason);
        return {backend->name(), backend->description(), true};
    } catch (const Error& e) {
        return {device, e.what(), false};
    }
}

std::vector<Probe> probe_gpus(const CommonOptions& common) {
    std::vector<Probe> gpus;
    constexpr int kMost = 64;
    for (int i = 0; i < kMost; ++i) {
        Probe gpu = probe("cuda:" + std::to_string(i), common);
        if (!gpu.works && i > 0) break;  // the first one's failure is the answer to "why no GPU"
        gpus.push_back(gpu);
        if (!gpu.works) break;
    }
    return gpus;
}

struct Findings {
    std::string cpu, driver, model, model_error;
    std::vector<std::string> features;
    std::vector<Probe> gpus;
    Probe chosen;
    std::string why;
    int64_t total = 0, available = 0;
    size_t needed = 0;
};

void find_model_needs(Findings& f, const CommonOptions& common) {
    try {
        f.model = find_model(common.model);
        f.needed = needs_of(load_model_file(f.model)).total();
    } catch (const Error& e) {
        f.model_error = e.what();
    }
}

Findings look(const CommonOptions& common) {
    Findings f;
    f.cpu = cpu_name();
    f.features = cpu_features();
    f.driver = nvidia_driver();
    f.gpus = probe_gpus(common);
    f.total = total_memory();
    f.available = available_memory();
    bool gpu = f.gpus.front().works;
    f.chosen = gpu ? f.gpus.front() : probe("cpu", common);
    f.why = gpu ? "--device auto takes the first GPU that works" : "no GPU: " + f.gpus.front().text;
    find_model_needs(f, common);
    return f;
}

void report_text(const Findings& f) {
    auto line = [](const char* what, const std::string& value) {
        print(what + std::string(12 - std::string_view(what).size(), ' ') + visible_line(value) + "\n");
    };
    std::string features;
    for (const std::string& feature : f.features) features += (features.empty() ? "" : " ") + feature;
    line("version", "samba-lm " SAMBA_VERSION " (" SAMBA_COMMIT ")");
    line("CPU", f.cpu + ", " + std::to_string(usable_cores()) + " physical cores for this process");
    line("features", features.empty() ? "none of those that kernels are written for" : features);
    line("kernels", isa_name(cpu_isa()));
    line("memory",
         human_bytes(static_cast<double>(f.available)) + " available of " + human_bytes(static_cast<double>(f.total)));
    line("driver", f.driver.empty() ? "no NVIDIA driver" : f.driver);
    for (const Probe& gpu : f.gpus) line(gpu.works ? gpu.name.c_str() : "GPU", gpu.text);
    if (f.model_error.empty()) {
        bool fits = static_cast<int64_t>(f.needed) <= f.available;
        line("model", f.model + ": needs about " + human_bytes(static_cast<double>(f.needed)) +
                          (fits ? ", fits" : ", more than is available"));
    } else {
        line("model", f.model_error);
    }
    line("runs on", f.chosen.name + " (" + f.chosen.text + "); " + f.why);
}

void report_json(const Findings& f) {
    Json gpus = Json::array();
    for (const Probe& gpu : f.gpus) {
        if (gpu.works) gpus.push_back({{"name", gpu.name}, {"description", gpu.text}});
    }
    print_json(
        {{"v", 1},
         {"version", SAMBA_VERSION},
         {"commit", SAMBA_COMMIT},
         {"cpu",
          {{"name", f.cpu}, {"cores", usable_cores()}, {"features", f.features}, {"kernels", isa_name(cpu_isa())}}},
         {"memory", {{"total_bytes", f.total}, {"available_bytes", f.available}}},
         {"driver", f.driver.empty() ? Json() : Json(f.driver)},
         {"gpus", gpus},
         {"no_gpu_because", f.gpus.front().works ? Json() : Json(f.gpus.front().text)},
         {"model",
          {{"file", f.model.empty() ? Json() : Json(f.model)},
           {"memory_bytes", f.needed},
           {"error", f.model_error.empty() ? Json() : Json(f.model_error)}}},
         {"device", {{"name", f.chosen.name}, {"description", f.chosen.text}, {"why", f.why}}}});
}

}  // namespace

RunCommand add_doctor(CLI::App& app, CommonOptions& common) {
    auto json = std::make_shared<bool>(false);
    add_flag(app, "--json", *json, "the findings as JSON");
    add_model_file_option(app, common);
    add_threads_option(app, common);
    app.footer(kExamples);
    return [json, &common] {
        Findings findings = look(common);
        *json ? report_json(findings) : report_text(findings);
        return 0;
    };
}

}  // namespace samba
