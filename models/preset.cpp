// A preset is a config as JSON, all blocks from a pattern that repeats until there are n_blocks:
//   {"name", "d_model", "vocab_size", "context_length", "tied", "n_blocks", "pattern": [block, …],
//    defaults of the blocks: "d_ff" (0: no MLP), "n_heads", "n_kv_heads", "window" (0: full), "rope" (bool),
//    "conv_width" (0: no convolution of q, k and v), "rope_theta", "norm_eps", "d_inner" (2 d_model), "d_state" (16),
//    "d_conv" (4), "dt_rank" (d_model / 16)}
// A block is "mamba", "attention", "gla" (with "gate_rank", 16), "retention", "mega" (with "z_dim", 128, and "chunk",
// 2048), "none", or an object {"mixer", "times", and what differs from the defaults}.
#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/error.h"
#include "models/checkpoint_plan.h"
#include "models/embedded.h"
#include "models/json_text.h"
#include "models/model_file.h"
#include "models/quote.h"

namespace samba {

namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 24, kMaxBlocks = 4096;
constexpr const char* kFolder = "models/presets";

class PresetReader {
  public:
    PresetReader(const json& j, std::string where) : json_(j), where_(std::move(where)) {}

    Config read() {
        if (!json_.is_object()) fail("expected a JSON object");
        check_keys(json_, {"name", "d_model", "vocab_size", "context_length", "tied", "n_blocks", "pattern", "d_ff",
                           "n_heads", "n_kv_heads", "window", "rope", "conv_width", "rope_theta", "norm_eps", "d_inner",
                           "d_state", "d_conv", "dt_rank"});
        Config c;
        if (!json_.contains("name") || !json_["name"].is_string()) fail("\"name\": expected a string");
        c.name = json_["name"].get<std::string>();
        c.d_model = integer(json_, "d_model", 1, kMaxSize, -1);
        c.vocab_size = integer(json_, "vocab_size", 1, kMaxSize, -1);
        c.context_length = integer(json_, "context_length", 0, int64_t{1} << 30, 0);
        c.tied = boolean(json_, "tied", true);
        c.norm_eps = static_cast<float>(number("norm_eps", 1e-5));
        c.rope_theta = number("rope_theta", 10000.0);
        c.d_inner = static_cast<int>(integer(json_, "d_inner", 1, kMaxSize, 2 * c.d_model));
        c.d_state = static_cast<int>(integer(json_, "d_state", 1, 4096, 16));
        c.d_conv = static_cast<int>(integer(json_, "d_conv", 1, 64, 4));
        c.dt_rank = static_cast<int>(integer(json_, "dt_rank", 1, kMaxSize, (c.d_model + 15) / 16));
        read_blocks(c);
        if (std::none_of(c.blocks.begin(), c.blocks.end(),
                         [](const auto& b) { return b.mixer == Mixer::kMamba || b.mixer == Mixer::kMega; })) {
            c.d_inner = c.d_state = c.d_conv = c.dt_rank = 0;
        }
        return c;
    }

  private:
    const json& json_;
    std::string where_;

    [[noreturn]] void fail(const std::string& what) const {
        throw UsageError("preset " + in_quotes(where_) + ": " + what);
    }

    void check_keys(const json& object, std::initializer_list<std::string_view> known) const {
        for (const auto& [key, value] : object.items()) {
            if (std::find(known.begin(), known.end(), key) == known.end()) fail("unknown key " + in_quotes(key));
        }
    }

    // fallback -1: the key must be there.
    int64_t integer(const json& object, const char* key, int64_t least, int64_t most, int64_t fallback) const {
        if (!object.contains(key) && fallback >= 0) return fallback;
        const json v = object.value(key, json());
        if (!v.is_number_integer() || v < least || v > most) {
            fail(in_quotes(key) + ": expected a whole number from " + std::to_string(least) + " to " +
                 std::to_string(most) + ", found " + in_quotes(v.dump()));
        }
        return v.get<int64_t>();
    }
    bool boolean(const json& object, const char* key, bool fallback) const {
        if (!object.contains(key)) return fallback;
        if (!object[key].is_boolean()) fail(in_quotes(key) + ": expected true or false");
        return object[key].get<bool>();
    }
    double number(const char* key, double fallback) const {
        if (!json_.contains(key)) return fallback;
        if (!json_[key].is_number() || !(json_[key].get<double>() > 0) || json_[key].get<double>() > 1e12) {
            fail(in_quotes(key) + ": expected a positive number");
        }
        return json_[key].get<double>();
    }

    // A block's own value, else the preset's default for all blocks.
    int64_t block_value(const json& block, const char* key, int64_t least, int64_t most, int64_t fallback) const {
        return integer(block.contains(key) ? block : json_, key, least, most, fallback);
    }

    void read_blocks(Config& c) const {
        auto n_blocks = static_cast<size_t>(integer(json_, "n_blocks", 1, kMaxBlocks, -1));
        if (!json_.contains("pattern") || !json_["pattern"].is_array()) fail("\"pattern\": expected a list of blocks");
        std::vector<BlockConfig> pattern;
        for (const json& entry : json_["pattern"]) {
            json block = entry.is_string() ? json{{"mixer", entry}} : entry;
            if (!block.is_object()) fail("\"pattern\": expected names and objects, found " + in_quotes(entry.dump()));
            check_keys(block, {"mixer", "times", "d_ff", "n_heads", "n_kv_heads", "window", "rope", "conv_width",
                               "gate_rank", "z_dim", "chunk"});
            int64_t times = integer(block, "times", 1, kMaxBlocks, 1);
            pattern.insert(pattern.end(), static_cast<size_t>(times), read_block(block, c));
            if (pattern.size() > n_blocks) break;
        }
        if (pattern.empty() || n_blocks % pattern.size() != 0) {
            fail("\"n_blocks\": expected a multiple of the pattern's " + std::to_string(pattern.size()) +
                 " blocks, found " + std::to_string(n_blocks));
        }
        while (c.blocks.size() < n_blocks) c.blocks.insert(c.blocks.end(), pattern.begin(), pattern.end());
    }

    void read_mega(const json& block, const Config& c, BlockConfig& b) const {
        if (c.d_inner != c.d_model) fail("\"d_inner\": expected d_model, " + std::to_string(c.d_model) + ", of a mega");
        b.n_heads = 1;
        b.head_dim = b.rope_dim = static_cast<int>(block_value(block, "z_dim", 2, kMaxKeyDim / 2, 128));
        if (b.head_dim % 2 != 0) fail("\"z_dim\": expected an even number, found " + std::to_string(b.head_dim));
        b.value_dim = static_cast<int>(c.d_model);
        b.chunk = block_value(block, "chunk", 1, int64_t{1} << 30, 2048);
    }

    // Heads share d_model / 2 keys and d_model values (gla), or d_model keys and twice as many values (retention).
    void read_decayed(const json& block, const Config& c, BlockConfig& b) const {
        bool gla = b.mixer == Mixer::kGla;
        int64_t keys = gla ? c.d_model / 2 : c.d_model;
        b.n_heads = static_cast<int>(block_value(block, "n_heads", 1, kMaxSize, -1));
        b.head_dim = static_cast<int>(keys / b.n_heads);
        b.value_dim = 2 * b.head_dim;
        if (int64_t{b.n_heads} * b.value_dim != 2 * keys || b.head_dim > kMaxKeyDim || b.head_dim % 2 != 0) {
            fail("\"n_heads\": expected heads of the same even number of keys, up to " + std::to_string(kMaxKeyDim) +
                 ", from " + std::to_string(keys) + ", found " + std::to_string(b.n_heads));
        }
        if (gla) b.gate_rank = static_cast<int>(block_value(block, "gate_rank", 1, kMaxSize, 16));
        if (!gla) b.rope_dim = boolean(block.contains("rope") ? block : json_, "rope", true) ? b.head_dim : 0;
    }

    BlockConfig read_block(const json& block, const Config& c) const {
        BlockConfig b;
        const json mixer = block.value("mixer", json());
        bool known = mixer == "none";
        for (Mixer m : {Mixer::kMamba, Mixer::kAttention, Mixer::kGla, Mixer::kRetention, Mixer::kMega}) {
            if (mixer == mixer_name(m)) b.mixer = m;
            known |= mixer == mixer_name(m);
        }
        if (!known) {
            fail("\"mixer\": expected mamba, attention, gla, retention, mega or none, found " +
                 in_quotes(mixer.dump()));
        }
        b.d_ff_true = block_value(block, "d_ff", 0, kMaxSize, 0);
        b.d_ff = padded_width(b.d_ff_true);
        if (b.mixer == Mixer::kNone && b.d_ff == 0) fail("\"pattern\": a block has neither mixer nor MLP");
        if (is_decayed(b.mixer)) read_decayed(block, c, b);
        if (b.mixer == Mixer::kMega) read_mega(block, c, b);
        if (b.mixer != Mixer::kAttention) return b;
        b.n_heads = static_cast<int>(block_value(block, "n_heads", 1, kMaxSize, -1));
        b.n_kv_heads = static_cast<int>(block_value(block, "n_kv_heads", 1, kMaxSize, b.n_heads));
        if (c.d_model % b.n_heads != 0 || c.d_model / b.n_heads % 2 != 0) {
            fail("\"n_heads\": expected heads of the same even width from d_model " + std::to_string(c.d_model) +
                 ", found " + std::to_string(b.n_heads));
        }
        if (b.n_heads % b.n_kv_heads != 0) {
            fail("\"n_kv_heads\": expected a divisor of " + std::to_string(b.n_heads) + ", found " +
                 std::to_string(b.n_kv_heads));
        }
        b.head_dim = static_cast<int>(c.d_model / b.n_heads);
        b.window = block_value(block, "window", 0, int64_t{1} << 30, 0);
        b.conv_width = static_cast<int>(block_value(block, "conv_width", 0, 16, 0));
        b.rope_dim = boolean(block.contains("rope") ? block : json_, "rope", true) ? b.head_dim : 0;
        return b;
    }
};

std::string file_name(const std::string& name) {
    std::string out = name;
    for (char& c : out) c = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return out;
}

}  // namespace

std::vector<std::string> preset_names() { return embedded_names(kFolder); }

Config preset(const std::string& name_or_file) {
    bool is_file = name_or_file.find('/') != std::string::npos || name_or_file.ends_with(".json");
    std::string text;
    if (is_file) {
        text = read_text_file(name_or_file);
    } else {
        auto found = embedded_file(std::string(kFolder) + "/" + file_name(name_or_file) + ".json");
        if (!found) {
            std::string known;
            for (const std::string& n : preset_names()) known += (known.empty() ? "" : ", ") + n;
            throw UsageError("unknown preset " + in_quotes(name_or_file) + "; known: " + known);
        }
        text = *found;
    }
    return parse_preset(text, name_or_file);
}

Config parse_preset(std::string_view text, const std::string& where) {
    json j;
    try {
        j = parse_json(text, where);
    } catch (const FileError& e) {
        throw UsageError(std::string("preset ") + e.what());
    }
    return PresetReader(j, where).read();
}

}  // namespace samba
