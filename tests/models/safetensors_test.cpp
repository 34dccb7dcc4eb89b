// safetensors: one file or shards; a broken header is one error, whatever is wrong.
#include "models/safetensors.h"

#include "tests/models/error_of.h"
#include "tests/models/tiny_checkpoint.h"

using namespace samba;

namespace {

std::unique_ptr<CheckpointReader> parse(const std::string& bytes) {
    return parse_safetensors(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), "x.safetensors");
}

// A file of that header and 64 bytes of data.
std::string with_header(const std::string& header) {
    return Bytes().put(static_cast<uint64_t>(header.size())).text + header + std::string(64, '\1');
}

std::string one(const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"a": {"dtype": ")") + dtype + R"(", "shape": )" + shape + R"(, "data_offsets": )" + offsets +
           "}}";
}

const std::pair<std::string, const char*> kBroken[] = {
    {"", "not valid JSON"},
    {"[]", "header is not a JSON object"},
    {"{\"a\": ", "not valid JSON at byte"},
    {R"({"a": 1})", "tensor \"a\": expected an object with dtype, shape and data_offsets"},
    {R"({"a": {"dtype": "F32", "shape": [1]}})", "expected an object with"},
    {one("F32", "[4]", "[0, 16, 32]"), "are not of their form"},
    {one("F32", "4", "[0, 16]"), "are not of their form"},
    {one("F32", "[1,1,1,1,1,1,1,1,1]", "[0, 4]"), "are not of their form"},
    {one("F99", "[4]", "[0, 16]"), "unknown dtype \"F99\""},
    {one("F32", "[-4]", "[0, 16]"), "shape: expected a whole number, found \"-4\""},
    {one("F32", "[4.5]", "[0, 16]"), "expected a whole number"},
    {one("F32", "[0]", "[0, 0]"), "a dimension is 0"},
    {one("F32", "[4]", "[16, 0]"), "lie beyond"},
    {one("F32", "[4]", "[56, 72]"), "lie beyond the file's 64 bytes of data"},
    {one("F32", "[4]", "[0, 12]"), "its shape (4) needs 16 bytes, but its data_offsets span 12"},
    {one("F32", "[4]", "[0, 99999999999999999999]"), "expected a whole number"},
    {one("F32", "[4294967296, 4294967296, 4294967296]", "[0, 16]"), "more bytes than the file has"},
    {R"({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}})",
     "the tensors \"a\" and \"b\" overlap"},
    {R"({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}})",
     "the key \"a\" comes twice"},
    {R"({"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 16]}})", "out of range"},
    {std::string(70, '['), "nested deeper than 64 levels"},
};

}  // namespace

TEST_CASE("a safetensors file gives its tensors by rows, widened to f32") {
    std::map<std::string, TinyTensor> tensors = {{"b", tiny_tensor(DType::kBF16, {3, 2, 4}, 1)},
                                                 {"a", tiny_tensor(DType::kF16, {5}, 2)},
                                                 {"c", tiny_tensor(DType::kF32, {2, 2}, 3)}};
    std::string bytes = safetensors_bytes(tensors);
    auto reader = parse(bytes);
    REQUIRE(reader->tensors().size() == 3);
    for (const auto& [name, t] : tensors) {
        INFO(name);
        const CheckpointTensor* found = reader->find(name);
        REQUIRE(found);
        std::vector<float> x(static_cast<size_t>(t.size()));
        reader->read_rows(*found, 0, found->rows(), x.data());
        CHECK(x == values_of(t));
    }
    const CheckpointTensor& b = *reader->find("b");
    CHECK(b.rows() == 3);
    CHECK(b.cols() == 8);
    CHECK(b.shape_text() == "(3, 2, 4)");
    std::vector<float> row(8);
    reader->read_rows(b, 2, 1, row.data());
    CHECK(row[7] == values_of(tensors["b"])[23]);
    CHECK(reader->find("a")->rows() == 1);
    CHECK_FALSE(reader->find("d"));
}

TEST_CASE("broken safetensors headers: each is one error that names the trouble") {
    for (const auto& [header, expected] : kBroken) {
        INFO(header.substr(0, 100));
        std::string bytes = with_header(header);
        std::string message = error_of<FileError>([&] { parse(bytes); });
        INFO(message);
        CHECK(message.find("\"x.safetensors\"") == 0);
        CHECK(message.find(expected) != std::string::npos);
    }
}

TEST_CASE("a safetensors file cut anywhere is an error") {
    std::string whole = safetensors_bytes({{"a", tiny_tensor(DType::kF32, {2, 3}, 1)}});
    for (size_t n = 0; n < whole.size(); ++n) {
        std::string cut(whole.data(), n);
        REQUIRE_THROWS_AS(parse(cut), FileError);
    }
}

TEST_CASE("header lengths beyond the file or the format's limit are refused") {
    for (uint64_t length : {uint64_t{1000}, uint64_t{100'000'001}, ~uint64_t{0}, ~uint64_t{7}}) {
        std::string bytes = Bytes().put(length).text + "{}";
        CHECK(error_of<FileError>([&] { parse(bytes); }).find("its header would have " + std::to_string(length)) !=
              std::string::npos);
    }
}

TEST_CASE("types that are no weights are listed, and refused only when they are read") {
    std::string bytes = with_header(one("I64", "[2]", "[0, 16]"));
    auto reader = parse(bytes);
    float x[2];
    CHECK(error_of<FileError>([&] {
              reader->read_rows(*reader->find("a"), 0, 1, x);
          }).find("expected type F32, F16 or BF16, found I64") != std::string::npos);
}

TEST_CASE("shards are found through the index, by plain names only") {
    TemporaryDirectory dir;
    auto a = tiny_tensor(DType::kF32, {2, 2}, 1), b = tiny_tensor(DType::kBF16, {3}, 2);
    write_bytes(dir.path("one.safetensors"), safetensors_bytes({{"a", a}, {"unlisted", b}}));
    write_bytes(dir.path("two.safetensors"), safetensors_bytes({{"b", b}}));
    auto index = [&](const std::string& shard) {
        write_bytes(dir.path("model.safetensors.index.json"),
                    R"({"metadata": {}, "weight_map": {"a": "one.safetensors", "b": ")" + shard + "\"}}");
        return open_safetensors(dir.path());
    };
    auto message = [&](const std::string& shard) { return error_of<FileError>([&] { index(shard); }); };
    auto reader = index("two.safetensors");
    REQUIRE(reader->tensors().size() == 2);
    std::vector<float> x(3);
    reader->read_rows(*reader->find("b"), 0, 1, x.data());
    CHECK(x == values_of(b));
    for (const char* name :
         {"../two.safetensors", "/etc/passwd", "sub/two.safetensors", "..", ".", "", "two.safetensors\\u0000x"}) {
        INFO(name);
        CHECK(message(name).find("tensor \"b\": expected a plain file name, found") != std::string::npos);
    }
    CHECK(message("three.safetensors").find("cannot open") != std::string::npos);
    CHECK(message("one.safetensors").find("tensor \"b\", which the index places here, is missing") !=
          std::string::npos);
    std::filesystem::create_symlink("two.safetensors", dir.path("link.safetensors"));
    CHECK(index("link.safetensors")->find("b"));
}

TEST_CASE("a directory without weights says what was looked for") {
    TemporaryDirectory dir;
    CHECK(error_of<FileError>([&] {
              open_safetensors(dir.path());
          }).find("neither model.safetensors nor model.safetensors.index.json") != std::string::npos);
    write_bytes(dir.path("model.safetensors.index.json"), "{}");
    CHECK(error_of<FileError>([&] { open_safetensors(dir.path()); }).find("\"weight_map\"") != std::string::npos);
}
