// Checkpoints of torch.save are untrusted: whatever a pickle or an archive holds, nothing is called, and what is not a
// plain state dict is refused in one line.
#include <unistd.h>
#include <zip.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "kernels/error.h"
#include "models/convert.h"
#include "models/pickle.h"
#include "models/torch_checkpoint.h"

using namespace samba;
namespace fs = std::filesystem;
using Catch::Matchers::Contains;

namespace {

const fs::path kFamily = fs::path(SAMBA_SOURCE_DIR) / "tests/goldens/family";

class TemporaryPath {
  public:
    explicit TemporaryPath(const std::string& name)
        : path_((fs::temp_directory_path() / ("samba-torch-" + std::to_string(getpid()) + "-" + name)).string()) {}
    ~TemporaryPath() { fs::remove(path_); }
    const std::string& string() const { return path_; }

  private:
    std::string path_;
};

std::string slurp(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write_zip(const std::string& path, const std::vector<std::pair<std::string, std::string>>& entries) {
    zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
    REQUIRE(zip);
    for (const auto& [name, bytes] : entries) {
        zip_file_add(zip, name.c_str(), zip_source_buffer(zip, bytes.data(), bytes.size(), 0), 0);
    }
    REQUIRE(zip_close(zip) == 0);
}

// Pickle fragments.
std::string text(const std::string& s) { return std::string("\x8c") + static_cast<char>(s.size()) + s; }
std::string small(int n) { return std::string("K") + static_cast<char>(n); }
const std::string kBegin = "\x80\x02";

// {"w": a tensor of 2 x 3 floats at `offset` of storage "0" with n elements, `strides`}
std::string one_tensor(int n, int offset, int rows = 2, int cols = 3, int row_stride = 3) {
    std::string storage = "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + small(n) + "tQ";
    std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + small(offset) + small(rows) + small(cols) +
                          "\x86" + small(row_stride) + small(1) + "\x86" + "\x89" + "ccollections\nOrderedDict\n)RtR";
    return kBegin + "}" + text("w") + rebuild + "s.";
}

std::string floats(int n) {
    std::string bytes;
    for (int i = 0; i < n; ++i) {
        float f = static_cast<float>(i);
        bytes.append(reinterpret_cast<const char*>(&f), 4);
    }
    return bytes;
}

std::string pickle_error(const std::string& bytes) {
    try {
        Pickle pickle(bytes, "x.pth");
    } catch (const FileError& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("a pickle that names anything but PyTorch's own is refused by that name") {
    CHECK_THAT(pickle_error(kBegin + "cos\nsystem\n" + text("true") + "\x85R."),
               Contains("\"os.system\"") && Contains("not allowed"));
    CHECK_THAT(pickle_error(kBegin + text("builtins") + text("getattr") + "\x93."), Contains("builtins.getattr"));
    CHECK_THAT(pickle_error(kBegin + "cbuiltins\neval\n."), Contains("builtins.eval"));
    CHECK_THAT(pickle_error(kBegin + "ctorch\nload\n."), Contains("torch.load"));
}

TEST_CASE("a pickle cannot crash its reader") {
    CHECK_THAT(pickle_error(""), Contains("ends early"));
    CHECK_THAT(pickle_error(kBegin + "R."), Contains("empty"));
    CHECK_THAT(pickle_error(kBegin + "t."), Contains("no mark"));
    CHECK_THAT(pickle_error(kBegin + "h\x05."), Contains("never kept"));
    CHECK_THAT(pickle_error(kBegin + "X\xff\xff\xff\xff."), Contains("ends early"));
    CHECK_THAT(pickle_error(kBegin + "i."), Contains("opcode 105 'i'"));  // INST
    std::string deep = kBegin;
    for (int i = 0; i < 70; ++i) deep += "]";
    for (int i = 0; i < 69; ++i) deep += "a";
    CHECK_THAT(pickle_error(deep + "."), Contains("64 levels"));
    CHECK_THAT(pickle_error(kBegin + std::string(2'000'000, 'N') + "."), Contains("million"));
    std::string whole = one_tensor(6, 0);
    for (size_t n = 0; n < whole.size(); ++n) CHECK_FALSE(pickle_error(whole.substr(0, n)).empty());
    CHECK(pickle_error(whole).empty());
}

TEST_CASE("integers of any length and floats are read") {
    Pickle p(kBegin + "(\x8a\x02\xff\x7f\x8a\x01\xff\x8a\x0b" + std::string(11, '\1') + "G?\xf8" +
                 std::string(6, '\0') + "t.",
             "x");
    const auto& items = p.root().items;
    REQUIRE(items.size() == 4);
    CHECK(items[0]->integer == 0x7fff);
    CHECK(items[1]->integer == -1);
    CHECK(items[2]->kind == PickleValue::kOther);
    CHECK(items[3]->number == 1.5);
}

TEST_CASE("tensors are read through offset and strides, and only inside their storage") {
    TemporaryPath path("t.pth");
    auto open = [&](const std::string& pickle, const std::string& data) {
        write_zip(path.string(), {{"a/data.pkl", pickle}, {"a/byteorder", "little"}, {"a/data/0", data}});
        return open_torch_checkpoint(path.string());
    };
    auto rows = [](const TorchCheckpoint& c) {
        const CheckpointTensor& t = *c.reader->find("w");
        std::vector<float> values(static_cast<size_t>(t.rows() * t.cols()));
        c.reader->read_rows(t, 0, t.rows(), values.data());
        return values;
    };
    CHECK(rows(open(one_tensor(8, 2), floats(8))) == std::vector<float>{2, 3, 4, 5, 6, 7});
    CHECK(rows(open(one_tensor(9, 0, 2, 3, 4), floats(9))) == std::vector<float>{0, 1, 2, 4, 5, 6});
    CHECK_THROWS_WITH(open(one_tensor(8, 3), floats(8)), Contains("beyond its storage"));
    CHECK_THROWS_WITH(open(one_tensor(8, 2), floats(7)), Contains("expected 8 values") && Contains("28 bytes"));
    CHECK_THROWS_WITH(open(one_tensor(8, 2), floats(100000)), Contains("expected 8 values"));  // a zip bomb's way
    CHECK_THROWS_WITH(open(kBegin + "}.", floats(8)), Contains("no tensors"));
    CHECK_THROWS_WITH(open(kBegin + small(1) + ".", ""), Contains("dict"));
    write_zip(path.string(), {{"a/other", "x"}});
    CHECK_THROWS_WITH(open_torch_checkpoint(path.string()), Contains("data.pkl"));
    write_zip(path.string(), {{"a/data.pkl", one_tensor(6, 0)}});
    CHECK_THROWS_WITH(open_torch_checkpoint(path.string()), Contains("missing"));
    write_zip(path.string(), {{"a/data.pkl", one_tensor(6, 0)}, {"a/byteorder", "big"}, {"a/data/0", floats(6)}});
    CHECK_THROWS_WITH(open_torch_checkpoint(path.string()), Contains("big-endian"));
}

TEST_CASE("an archive cut short or changed anywhere is one error, and no output appears") {
    std::string whole = slurp(kFamily / "wrapped/model.pth");
    TemporaryPath broken("broken.pth"), output("out.gguf");
    auto convert = [&](const std::string& bytes) {
        std::ofstream(broken.string(), std::ios::binary) << bytes;
        ConvertOptions options;
        options.checkpoint = broken.string();
        options.preset = (kFamily / "wrapped/preset.json").string();
        options.output = output.string();
        options.no_tokenizer = true;
        convert_checkpoint(options);
    };
    for (size_t part = 1; part < 12; ++part) {
        CHECK_THROWS_AS(convert(whole.substr(0, whole.size() * part / 12)), FileError);
        CHECK_FALSE(fs::exists(output.string()));
    }
    std::string changed = whole;
    changed[whole.size() / 2] =
        static_cast<char>(changed[whole.size() / 2] ^ 0x40);  // inside deflated values: their CRC
    CHECK_THROWS_AS(convert(changed), FileError);
    CHECK_FALSE(fs::exists(output.string()));
}

TEST_CASE("what does not fit together is refused by name") {
    TemporaryPath output("out.gguf");
    auto convert = [&](const std::string& checkpoint, const std::string& preset) {
        ConvertOptions options;
        options.checkpoint = (kFamily / checkpoint).string();
        options.preset = preset;
        options.output = output.string();
        options.no_tokenizer = true;
        convert_checkpoint(options);
    };
    CHECK_THROWS_WITH(convert("samba/model.pth", ""), Contains("\"Toy\"") && Contains("--preset"));
    CHECK_THROWS_WITH(convert("samba/model.pth", "samba-421m"),
                      Contains("transformer.wte.weight") && Contains("(32000, 1536)") && Contains("(64, 32)"));
    CHECK_THROWS_WITH(convert("samba/model.pth", "no-such-preset"), Contains("no-such-preset"));
    CHECK_THROWS_WITH(convert("samba/model.pth", (kFamily / "mlp2/preset.json").string()), Contains("expects"));
    CHECK_THROWS_WITH(convert("hf_samba", "samba-421m"), Contains("--preset"));
    CHECK_THROWS_WITH(convert("samba/ids.npy", ""), Contains("torch.save"));
    CHECK_THROWS_WITH(convert("nowhere", ""), Contains("no such"));
}

TEST_CASE("the components that wrappers put into names are dropped") {
    CHECK(without_wrappers("_forward_module._orig_mod.transformer.h.3._orig_mod.norm_1.weight") ==
          "transformer.h.3.norm_1.weight");
    CHECK(without_wrappers("module.module_list.0.weight") == "module_list.0.weight");
    CHECK(without_wrappers("transformer.wte.weight") == "transformer.wte.weight");
}
