// Presets: the sizes of the published models to the last parameter, and JSON of one's own.
#include <cmath>

#include "kernels/quant.h"
#include "models/model_file.h"
#include "tests/models/error_of.h"
#include "tests/models/files.h"

using namespace samba;

TEST_CASE("presets have the parameter counts of the published models") {
    const std::pair<const char*, int64_t> counts[] = {
        {"samba-421m", 421'793'280},      {"samba-1.3b", 1'330'207'488},       {"samba-1.7b", 1'742'194'688},
        {"samba-3.8b", 3'864'275'712},    {"samba-47m", 46'619'136},           {"LLaMA_438M", 438'081'024},
        {"Samba_421M_nope", 421'793'280}, {"LLaMA_438M_SWA_gla", 438'309'120}, {"LLaMA_446M_SWA_ret", 445'555'200},
        {"S6Mega_438M", 422'486'016},     {"S6Mega_1.3B", 1'329'767'424}};
    for (const auto& [name, count] : counts) {
        INFO(name);
        CHECK(n_parameters(preset(name)) == count);
    }
}

TEST_CASE("every preset's size is near the one in its name, every attention divides") {
    REQUIRE(preset_names().size() >= 40);
    for (const std::string& name : preset_names()) {
        INFO(name);
        Config c = preset(name);
        CHECK_FALSE(c.blocks.empty());
        for (const TensorSpec& spec : expected_tensors(c)) REQUIRE((spec.rows > 0 && spec.cols > 0));
        for (const BlockConfig& b : c.blocks) CHECK(b.d_ff % 256 == 0);
    }
    CHECK(preset("LLaMA_443M_full_mamba_1,5").blocks[5].mixer == Mixer::kAttention);
    CHECK(preset("LLaMA_449M_full_mamba_11").blocks[11].mixer == Mixer::kAttention);
    CHECK(preset("LLaMA_449M_full_mamba_5").blocks[5].window == 0);
    CHECK(preset("Samba_421M_512_window").blocks[1].window == 512);
    CHECK(preset("Samba_421M_nope").blocks[1].rope_dim == 0);
    CHECK(preset("LLaMA_438M_SWA_full").blocks[0].window == 2048);
    CHECK(preset("LLaMA_438M_SWA_full").blocks[1].window == 0);
    CHECK(preset("Mamba_SWA_MLP_400M").blocks[0].d_ff == 0);
    CHECK(preset("Samba_421M_abl_mamba").blocks[0].d_ff == 3072);
    CHECK(preset("samba-1.7b").blocks[0].d_ff == 8448);
    CHECK(preset("samba-1.7b").blocks[0].d_ff_true == 8196);
    CHECK(preset("LLaMA_438M_SWA_gla").blocks[0].head_dim == 192);
    CHECK(preset("LLaMA_438M_SWA_gla").blocks[0].value_dim == 384);
    CHECK(preset("LLaMA_1.4B_SWA_ret").blocks[2].head_dim == 256);
    CHECK(preset("LLaMA_1.4B_SWA_ret").blocks[2].value_dim == 512);
    CHECK(preset("LLaMA_1.4B_SWA_ret").blocks[2].rope_dim == 256);
    CHECK(preset("S6Mega_1.3B").blocks[17].chunk == 2048);
    CHECK(preset("S6Mega_1.3B").blocks[17].head_dim == 128);
    CHECK(preset("tiny").d_model == 64);
}

TEST_CASE("a preset is found whatever its case and dashes; an unknown one lists the known") {
    CHECK(preset("SAMBA_421M").name == preset("samba-421m").name);
    std::string message = error_of<UsageError>([] { preset("samba-9b"); });
    CHECK(message.find("unknown preset \"samba-9b\"; known: ") == 0);
    CHECK(message.find("samba-421m") != std::string::npos);
}

TEST_CASE("a preset of one's own is read from a file; mistakes in it are named") {
    TemporaryDirectory dir;
    auto read = [&](const std::string& json) {
        write_bytes(dir.path("p.json"), json);
        return preset(dir.path("p.json"));
    };
    const std::string head = R"({"name": "x", "d_model": 64, "vocab_size": 100, "n_heads": 4, )";
    Config c = read(head + R"("n_blocks": 4, "d_ff": 300, "pattern": ["mamba", {"mixer": "attention", "window": 7}]})");
    CHECK(c.blocks.size() == 4);
    CHECK(c.blocks[3].window == 7);
    CHECK(c.blocks[3].d_ff == 512);
    CHECK(c.dt_rank == 4);
    const std::pair<std::string, const char*> mistakes[] = {
        {"{", "not valid JSON"},
        {"[]", "expected a JSON object"},
        {"{}", "\"name\": expected a string"},
        {R"({"name": "x"})", "\"d_model\": expected a whole number from 1"},
        {head + R"("heads": 3})", "unknown key \"heads\""},
        {head + R"("n_blocks": 4})", "\"pattern\": expected a list of blocks"},
        {head + R"("n_blocks": 4, "pattern": []})", "expected a multiple of the pattern's 0 blocks"},
        {head + R"("n_blocks": 4, "pattern": ["mamba", "mamba", "mamba"]})",
         "expected a multiple of the pattern's 3 blocks, found 4"},
        {head + R"("n_blocks": 2, "pattern": ["rwkv"]})",
         "expected mamba, attention, gla, retention, mega or none, found \"\\\"rwkv\\\"\""},
        {head + R"("n_blocks": 2, "pattern": [7]})", "expected names and objects"},
        {head + R"("n_blocks": 2, "pattern": ["none"]})", "neither mixer nor MLP"},
        {head + R"("n_blocks": 2, "pattern": [{"mixer": "attention", "n_heads": 5}]})", "found 5"},
        {head + R"("n_blocks": 2, "pattern": [{"mixer": "attention", "n_kv_heads": 3}]})",
         "expected a divisor of 4, found 3"},
        {head + R"("n_blocks": 2, "pattern": [{"mixer": "gla", "n_heads": 3}]})",
         "expected heads of the same even number of keys, up to 512, from 32, found 3"},
        {head + R"("n_blocks": 2, "pattern": ["mega"]})", "\"d_inner\": expected d_model, 64, of a mega"},
        {head + R"("n_blocks": 1000000000, "pattern": ["mamba"]})", "found \"1000000000\""},
        {head + R"("n_blocks": 2, "pattern": [{"mixer": "mamba", "times": 1000000}]})", "found \"1000000\""},
        {head + R"("n_blocks": 2, "rope_theta": 0, "pattern": ["mamba"]})",
         "\"rope_theta\": expected a positive number"},
        {head + R"("n_blocks": 2, "tied": 1, "pattern": ["mamba"]})", "\"tied\": expected true or false"},
    };
    for (const auto& [json, expected] : mistakes) {
        INFO(json);
        std::string message = error_of<UsageError>([&, text = json] { read(text); });
        INFO(message);
        CHECK(message.find(expected) != std::string::npos);
    }
}

TEST_CASE("random weights: the same for a seed, of the asked type, with sensible scales") {
    Config c = preset("tiny");
    for (DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K,
                       DType::kQ6_K}) {
        INFO(info(type).name);
        ModelFile one = random_model(c, type, 7, nullptr), two = random_model(c, type, 7, nullptr),
                  other = random_model(c, type, 8, nullptr);
        CHECK(content_hash(one) == content_hash(two));
        CHECK(content_hash(one) != content_hash(other));
        CHECK(one.fingerprint != other.fingerprint);
        const Tensor& t = *one.find("blk.0.ffn_down.weight");  // rows of 256: whole blocks of every type
        CHECK(t.type == type);
        double sum = 0, squares = 0;
        std::vector<float> row(static_cast<size_t>(t.cols));
        for (int64_t r = 0; r < t.rows; ++r) {
            dequantize_row(t.type, t.row(r), row.data(), t.cols);
            for (float v : row) sum += v, squares += v * v;
        }
        double n = static_cast<double>(t.rows * t.cols), expected = 1 / std::sqrt(256.0) / std::sqrt(2.0 * 2);
        CHECK(std::sqrt(squares / n) == Approx(expected).epsilon(0.03));
        CHECK(std::fabs(sum / n) < (type == DType::kQ4_0 ? 0.15 : 0.05) * expected);  // Q4_0 has no middle
        CHECK(one.find("blk.0.ssm_a")->type == DType::kF32);
        for (const TensorSpec& spec : expected_tensors(c)) CHECK((spec.optional || one.find(spec.name)));
    }
}
