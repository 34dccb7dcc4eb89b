// Weights from a mapped file into device memory.
#include <algorithm>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/quant_layout.h"
#include "kernels/quant.h"

namespace samba::cuda {
namespace {

constexpr size_t kStagingBytes = 64 << 20;  // of blocks on their way into the device's layout

int64_t total_rows(std::span<const Tensor> tensors) {
    int64_t n = 0;
    for (const Tensor& t : tensors) n += t.rows;
    return n;
}

// Calls f(source, rows) for the pieces of tensors that make up rows first … first + n - 1 of their concatenation.
template <class F>
void for_rows(std::span<const Tensor> tensors, int64_t first, int64_t n, F&& f) {
    for (const Tensor& t : tensors) {
        const int64_t from = std::max<int64_t>(first, 0), to = std::min(first + n, t.rows);
        if (from < to) f(t.row(from), to - from);
        first -= t.rows;
    }
}

}  // namespace

Weight CudaBackend::load(std::span<const Tensor> tensors, const Tensor* bias) {
    check(cudaSetDevice(options_.device), "choice of the device");
    Weight weight;
    weight.cols = tensors.front().cols;
    auto memory = std::make_shared<std::vector<DeviceMemory>>();
    for (size_t i = 0; i < tensors.size();) {  // neighbours of one type become one part
        size_t n = 1;
        while (i + n < tensors.size() && (options_.f32_activations || tensors[i + n].type == tensors[i].type)) ++n;
        load_part(tensors.subspan(i, n), weight, *memory);
        i += n;
    }
    if (bias != nullptr) {
        std::vector<float> values(static_cast<size_t>(bias->rows * bias->cols));
        for (int64_t r = 0; r < bias->rows; ++r) {
            dequantize_row(bias->type, bias->row(r), values.data() + r * bias->cols, bias->cols);
        }
        memory->push_back(device_memory(values.size() * sizeof(float), Use::kWeights));
        weight.bias = memory->back().as<float>();
        write(memory->back().as<>(), values.data(), values.size() * sizeof(float));
    }
    weight.storage = std::move(memory);
    return weight;
}

// Tensors of one type (with f32 activations: of any, widened).
void CudaBackend::load_part(std::span<const Tensor> tensors, Weight& weight, std::vector<DeviceMemory>& memory) {
    Weight::Part part;
    part.type = options_.f32_activations ? DType::kF32 : tensors.front().type;
    part.rows = total_rows(tensors);
    if (info(part.type).quantized) {
        memory.push_back(device_memory(quant_size(part.type, part.rows, weight.cols).bytes, Use::kWeights));
        load_quantized(tensors, memory.back().as<>());
        part.data = memory.back().as<>();
    } else {
        const int64_t cols = part.type == DType::kF32 ? weight.cols : padded_columns(static_cast<int>(weight.cols));
        memory.push_back(device_memory(static_cast<size_t>(part.rows) * row_bytes(part.type, cols), Use::kWeights));
        load_plain(tensors, part.type, memory.back().as<>());
        part.data = memory.back().as<>();
    }
    weight.rows += part.rows;
    weight.parts.push_back(part);
}

void CudaBackend::load_plain(std::span<const Tensor> tensors, DType type, char* to) {
    for (const Tensor& t : tensors) {
        const size_t row = row_bytes(t.type, t.cols);
        if (t.type != type) {
            std::vector<float> values(static_cast<size_t>(t.cols));
            for (int64_t r = 0; r < t.rows; ++r, to += t.cols * 4) {
                dequantize_row(t.type, t.row(r), values.data(), t.cols);
                write(to, values.data(), values.size() * sizeof(float));
            }
            continue;
        }
        const int64_t cols = type == DType::kF32 ? t.cols : padded_columns(static_cast<int>(t.cols));
        const size_t stride = row_bytes(type, cols), bytes = static_cast<size_t>(t.rows) * stride;
        if (cols != t.cols) {
            zero(to, bytes);
            check(cudaMemcpy2DAsync(to, stride, t.data, row, row, static_cast<size_t>(t.rows), cudaMemcpyHostToDevice,
                                    gpu_.stream),
                  "copy to the device");
        } else {
            check(cudaMemcpyAsync(to, t.data, bytes, cudaMemcpyHostToDevice, gpu_.stream), "copy to the device");
        }
        to += bytes;
    }
    check(cudaStreamSynchronize(gpu_.stream), "copy to the device");
}

// The file's blocks go to the device piece by piece, where they are laid out anew.
void CudaBackend::load_quantized(std::span<const Tensor> tensors, char* groups) {
    const DType type = tensors.front().type;
    const int64_t cols = tensors.front().cols, rows = total_rows(tensors);
    const size_t row = row_bytes(type, cols);
    const int64_t piece = std::max<int64_t>(kTile, static_cast<int64_t>(kStagingBytes / row) / kTile * kTile);
    char* staging = work(kWeights, row * static_cast<size_t>(std::min(piece, rows)));
    for (int64_t first = 0; first < rows; first += piece) {
        const int64_t n = std::min(piece, rows - first);
        char* to = staging;
        for_rows(tensors, first, n, [&](const void* from, int64_t count) {
            const size_t bytes = row * static_cast<size_t>(count);
            check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, gpu_.stream), "copy to the device");
            to += bytes;
        });
        repack(gpu_, type, staging, first, n, cols, groups);
    }
    check(cudaStreamSynchronize(gpu_.stream), "loading weights");
}

}  // namespace samba::cuda
