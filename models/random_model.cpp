// Random weights: what a benchmark of a preset runs. Matrices are uniform with the variance of the usual start of
// training, 1 / columns, drawn directly in the blocks of their type, so that a billion parameters take a second or two.
#include <sys/mman.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "kernels/error.h"
#include "kernels/quant.h"
#include "models/file_type.h"
#include "models/gguf.h"
#include "models/model_file.h"

namespace samba {

namespace {

// splitmix64 (Steele et al., 2014): a stream of its own for each (seed, tensor, row).
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    // In [-1, 1), two from each draw.
    void uniform(float* x, int64_t n) {
        for (int64_t i = 0; i < n; i += 2) {
            uint64_t bits = next();
            x[i] = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31f;
            if (i + 1 < n) x[i + 1] = static_cast<float>(static_cast<int32_t>(bits >> 32)) * 0x1p-31f;
        }
    }
    void bytes(void* to, size_t n) {
        auto* p = static_cast<char*>(to);
        for (; n >= 8; n -= 8, p += 8) {
            uint64_t bits = next();
            std::memcpy(p, &bits, 8);
        }
        uint64_t bits = next();
        std::memcpy(p, &bits, n);
    }
};

constexpr float kSqrt3 = 1.7320508f;  // a uniform number in ±a has the standard deviation a / sqrt(3)

// Blocks of random quants whose scale makes the values' standard deviation `sigma`.
template <class Block>
void fill_blocks(Random& random, char* to, int64_t n_blocks, void (*scale)(Block&, float), float sigma) {
    random.bytes(to, static_cast<size_t>(n_blocks) * sizeof(Block));
    for (int64_t i = 0; i < n_blocks; ++i) {
        Block b;
        char* at = to + i * static_cast<int64_t>(sizeof b);
        std::memcpy(&b, at, sizeof b);
        scale(b, sigma);
        std::memcpy(at, &b, sizeof b);
    }
}

void scale_q8_0(BlockQ8_0& b, float sigma) {
    b.d = f32_to_f16(sigma * kSqrt3 / 128);
    for (int8_t& q : b.q) q = q == -128 ? int8_t{-127} : q;
}
void scale_q4_0(BlockQ4_0& b, float sigma) { b.d = f32_to_f16(sigma * kSqrt3 / 8); }
// All sub-blocks with scale 32 and min 30: 32 d (q - 7.5) for 4 bits with dmin = 8 d, 32 d (q - 15.5) for 5.
template <class Block>
void same_scales(Block& b) {
    for (int j = 0; j < 4; ++j) {
        b.scales[j] = 32 | 2 << 6;
        b.scales[j + 4] = 30 | 1 << 6;
        b.scales[j + 8] = 0 | 14 << 4;
    }
}
void scale_q4_k(BlockQ4_K& b, float sigma) {
    float d = sigma * kSqrt3 / 8 / 32;
    b.d = f32_to_f16(d);
    b.dmin = f32_to_f16(d * 8);
    same_scales(b);
}
void scale_q5_k(BlockQ5_K& b, float sigma) {
    float d = sigma * kSqrt3 / 16 / 32;
    b.d = f32_to_f16(d);
    b.dmin = f32_to_f16(d * 32 * 15.5f / 30);
    same_scales(b);
}
void scale_q6_k(BlockQ6_K& b, float sigma) {
    b.d = f32_to_f16(sigma * kSqrt3 / 32 / 64);
    for (int8_t& s : b.scales) s = 64;
}

void fill_row(Random& random, DType type, char* to, int64_t cols, float sigma, std::vector<float>& scratch) {
    switch (type) {
        case DType::kF32:
        case DType::kF16:
        case DType::kBF16:
            scratch.resize(static_cast<size_t>(cols) + 1);
            random.uniform(scratch.data(), cols);
            for (float& x : scratch) x *= sigma * kSqrt3;
            quantize_row(type, scratch.data(), to, cols);
            break;
        case DType::kQ8_0:
            fill_blocks<BlockQ8_0>(random, to, cols / 32, scale_q8_0, sigma);
            break;
        case DType::kQ4_0:
            fill_blocks<BlockQ4_0>(random, to, cols / 32, scale_q4_0, sigma);
            break;
        case DType::kQ4_K:
            fill_blocks<BlockQ4_K>(random, to, cols / 256, scale_q4_k, sigma);
            break;
        case DType::kQ5_K:
            fill_blocks<BlockQ5_K>(random, to, cols / 256, scale_q5_k, sigma);
            break;
        case DType::kQ6_K:
            fill_blocks<BlockQ6_K>(random, to, cols / 256, scale_q6_k, sigma);
            break;
    }
}

// The F32 tensors, as a Mamba's training starts with them.
void fill_f32(const std::string& name, int64_t rows, int64_t cols, Random& random, float* x) {
    int64_t n = rows * cols;
    auto ends = [&](const char* s) { return name.ends_with(s); };
    if (ends("_conv1d.weight")) {
        random.uniform(x, n);
        for (int64_t i = 0; i < n; ++i) x[i] /= std::sqrt(static_cast<float>(cols));
    } else if (ends("ssm_dt.bias")) {  // softplus(bias) log-uniform in 0.001 … 0.1
        random.uniform(x, n);
        for (int64_t i = 0; i < n; ++i) {
            float dt = std::exp(std::log(0.01f) + x[i] * std::log(10.0f));
            x[i] = dt + std::log(-std::expm1(-dt));
        }
    } else if (ends("ssm_a")) {
        for (int64_t i = 0; i < n; ++i) x[i] = -static_cast<float>(i % cols + 1);
    } else {
        float value = ends(".bias") ? 0.0f : 1.0f;  // norms and D are 1
        std::fill(x, x + n, value);
    }
}

struct Place {
    TensorSpec spec;
    DType type = DType::kF32;
    size_t offset = 0;
};

std::vector<Place> plan_tensors(const Config& config, const FileType& file, size_t& bytes) {
    std::vector<Place> places;
    for (const TensorSpec& spec : expected_tensors(config)) {
        bool conv_bias = spec.name.ends_with("ssm_conv1d.bias");
        if (spec.optional && !conv_bias) continue;
        DType type = spec.f32_always ? DType::kF32 : tensor_type(file, spec.name, spec.cols, DType::kBF16);
        places.push_back({spec, type, bytes});
        bytes += (static_cast<size_t>(spec.rows) * row_bytes(type, spec.cols) + 63) / 64 * 64;
    }
    return places;
}

std::shared_ptr<void> zero_pages(size_t bytes) {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw MemoryError("random weights need " + std::to_string(bytes >> 20) +
                          " MiB of memory, which the system refuses");
    }
    return {memory, [bytes](void* p) { ::munmap(p, bytes); }};
}

void fill(const std::vector<Place>& places, uint64_t seed, float depth_scale, char* memory) {
    std::atomic<size_t> next{0};
    auto work = [&] {
        std::vector<float> scratch;
        for (size_t i = next++; i < places.size(); i = next++) {
            const auto& [spec, type, offset] = places[i];
            char* to = memory + offset;
            Random start{seed ^ (i + 1) * 0xd1342543de82ef95u};
            if (spec.f32_always) {
                fill_f32(spec.name, spec.rows, spec.cols, start, reinterpret_cast<float*>(to));
                continue;
            }
            float sigma = 1.0f / std::sqrt(static_cast<float>(spec.cols));
            if (spec.name.starts_with("token_embd")) sigma = 0.02f;
            bool into_residual = spec.name.ends_with("_out.weight") || spec.name.ends_with("_output.weight") ||
                                 spec.name.ends_with("_down.weight");
            if (into_residual) sigma *= depth_scale;
            size_t stride = row_bytes(type, spec.cols);
            for (int64_t r = 0; r < spec.rows; ++r)
                fill_row(start, type, to + static_cast<size_t>(r) * stride, spec.cols, sigma, scratch);
        }
    };
    std::vector<std::jthread> helpers;
    for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) helpers.emplace_back(work);
    work();
}

}  // namespace

ModelFile random_model(const Config& config, DType type, uint64_t seed, const ModelFile* tokenizer_from) {
    ModelFile file;
    file.config = config;
    std::string type_name = info(type).name;
    const FileType& wanted = file_type(type_name);
    size_t bytes = 0;
    auto places = plan_tensors(config, wanted, bytes);
    file.memory = zero_pages(bytes);
    auto* memory = static_cast<char*>(file.memory.get());
    // The residual stream's variance stays that of a few sub-layers, however deep the model is.
    fill(places, seed, 1.0f / std::sqrt(2.0f * static_cast<float>(config.blocks.size())), memory);
    for (const Place& p : places) {
        Tensor tensor{p.type, p.spec.rows, p.spec.cols, memory + p.offset};
        file.bytes += tensor.bytes();
        file.tensors[p.spec.name] = tensor;
    }
    file.file_type = type_name;
    file.weight_type = type;
    file.fingerprint = hex64(seed) + type_name + config.name;
    file.content_hash = file.fingerprint;
    if (tokenizer_from) {
        file.tokenizer = tokenizer_from->tokenizer;
        file.chat_template = tokenizer_from->chat_template;
    }
    return file;
}

}  // namespace samba
