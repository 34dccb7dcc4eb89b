#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstdio>

#include "kernels/error.h"

namespace samba {

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
    return std::make_unique<cuda::CudaBackend>(options);
}

}  // namespace samba

namespace samba::cuda {
namespace {

std::string gib(size_t bytes) {
    char text[32];
    const double g = static_cast<double>(bytes) / (1 << 30);
    std::snprintf(text, sizeof text, g < 0.1 ? "%.3f GiB" : "%.1f GiB", g);
    return text;
}

std::string version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

// The device exists, and the driver can run this program.
void check_device(int device) {
    int driver = 0, count = 0;
    constexpr int kNeeded = 13000;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        throw DeviceError("cuda: no NVIDIA driver is loaded");
    if (driver < kNeeded) {
        throw DeviceError("cuda: the driver is for CUDA " + version(driver) + ", this program needs " +
                          version(kNeeded) + ": update the driver");
    }
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
        cudaGetLastError();
        throw DeviceError(std::string("cuda: no GPU answers") +
                          (status == cudaSuccess ? "" : std::string(" (") + cudaGetErrorString(status) + ")"));
    }
    if (device < 0 || device >= count) {
        throw DeviceError("cuda: there is no device cuda:" + std::to_string(device) +
                          "; the last one is cuda:" + std::to_string(count - 1));
    }
}

}  // namespace

void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();
    throw DeviceError(std::string("cuda: ") + what + ": " + cudaGetErrorString(status));
}

CudaBackend::CudaBackend(const CudaOptions& options) : options_(options) {
    check_device(options.device);
    check(cudaSetDevice(options.device), "choice of the device");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, options.device), "properties of the device");
    device_name_ = properties.name;
    major_ = properties.major, minor_ = properties.minor;
    total_memory_ = properties.totalGlobalMem;
    if (major_ < 8) {
        throw DeviceError("cuda: " + device_name_ + " has compute capability " + std::to_string(major_) + "." +
                          std::to_string(minor_) + ", this program needs 8.0 or newer");
    }
    const int compiled_for = check_kernels();
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    stream_ = Stream(stream);
    gpu_ = {stream, properties.multiProcessorCount, properties.sharedMemPerBlockOptin,
            major_ >= 9 && compiled_for >= 90};
    gpu_.max_cluster = largest_cluster(gpu_);
    for (int i = 1; i < 3; ++i) gpu_.n_clusters[i] = active_clusters(gpu_, 1 << i);
    blas_ = std::make_unique<Blas>();
    blas_workspace_ = device_memory(Blas::kWorkspace, Use::kWorkspace);
    turns_memory_ = device_memory(kMaxTurns * sizeof(uint64_t), Use::kWorkspace);
    prepare({.max_rows = 64, .n_slots = 1});
}

CudaBackend::~CudaBackend() {
    if (stream_) cudaStreamSynchronize(stream_.get());
}

std::string CudaBackend::name() const { return "cuda:" + std::to_string(options_.device); }

std::string CudaBackend::description() const {
    return device_name_ + ", " + std::to_string(gpu_.n_multiprocessors) + " multiprocessors, " + gib(total_memory_) +
           ", compute capability " + std::to_string(major_) + "." + std::to_string(minor_) +
           (options_.f32_activations ? ", f32" : ", bf16");
}

std::string CudaBackend::memory_message(size_t bytes, Use use) const {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    const char* const kNames[] = {"weights", "session states and activations", "workspace"};
    const char* const kAdvice[] = {
        "a more quantised model file (quantize Q8_0 or Q4_K) would need less",
        "fewer sessions at once or a smaller --max-context would need less",
        "fewer sessions at once would need less",
    };
    const auto i = static_cast<size_t>(use);
    std::string text = name() + " (" + device_name_ + "): not enough device memory for " + kNames[i] + ": " +
                       gib(bytes) + " more needed, " + gib(free) + " of " + gib(total) + " free; so far";
    for (size_t k = 0; k < 3; ++k) text += std::string(k ? ", " : " ") + gib(used_[k]) + " of " + kNames[k];
    return text + "; " + kAdvice[i];
}

DeviceMemory CudaBackend::device_memory(size_t bytes, Use use) {
    void* p = nullptr;
    const cudaError_t status = cudaMalloc(&p, std::max<size_t>(bytes, 1));
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw MemoryError(memory_message(bytes, use));
    }
    check(status, "device memory");
    used_[static_cast<size_t>(use)] += bytes;
    return {DevicePointer(p), bytes};
}

char* CudaBackend::work(int id, size_t bytes) {
    DeviceMemory& memory = work_[id];
    if (memory.bytes < bytes) {
        if (capturing_) throw Error("cuda: a decode step needs more work memory than prepare() was told of");
        forget_plans();  // their graphs hold the old address
        check(cudaStreamSynchronize(gpu_.stream), "waiting for the device");
        used_[static_cast<size_t>(Use::kWorkspace)] -= memory.bytes;
        memory = DeviceMemory();
        memory = device_memory(bytes, Use::kWorkspace);
        zero(memory.as<>(), bytes);  // padding between rows is copied with them, but written by nobody
    }
    return memory.as<>();
}

View CudaBackend::scratch(int id, int64_t rows, int64_t cols, DType type) {
    return View(work(id, static_cast<size_t>(rows) * row_bytes(type, cols)), rows, cols, type);
}

Buffer CudaBackend::allocate(size_t bytes) {
    check(cudaSetDevice(options_.device), "choice of the device");
    DeviceMemory memory = device_memory(bytes, Use::kState);
    check(cudaMemsetAsync(memory.as<>(), 0, bytes, gpu_.stream), "clearing memory");
    auto owner = std::make_shared<DeviceMemory>(std::move(memory));
    void* p = owner->as<>();
    return Buffer(std::shared_ptr<void>(std::move(owner), p), bytes);
}

void CudaBackend::copy(void* to, const void* from, size_t bytes) {
    launch_held();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, gpu_.stream), "copy on the device");
}

void CudaBackend::zero(void* to, size_t bytes) {
    launch_held();
    check(cudaMemsetAsync(to, 0, bytes, gpu_.stream), "clearing memory");
}

void CudaBackend::read(void* host, const void* from, size_t bytes) {
    launch_held();
    check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, gpu_.stream), "copy from the device");
    check(cudaStreamSynchronize(gpu_.stream), "copy from the device");
}

void CudaBackend::write(void* to, const void* host, size_t bytes) {
    launch_held();
    check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, gpu_.stream), "copy to the device");
    check(cudaStreamSynchronize(gpu_.stream), "copy to the device");
}

// Sizes everything that a decode step needs, so that nothing is allocated afterwards.
void CudaBackend::prepare(const Limits& limits) {
    check(cudaSetDevice(options_.device), "choice of the device");
    launch_held();
    check(cudaStreamSynchronize(gpu_.stream), "waiting for the device");
    limits_ = limits;
    forget_plans();
    const auto rows = static_cast<size_t>(limits.max_rows), cols = static_cast<size_t>(limits.max_cols);
    const size_t value = options_.f32_activations ? 4 : 2, d_model = static_cast<size_t>(limits.d_model);
    constexpr size_t kPiece = 32 << 20;  // bytes of a product's input or output that must be converted
    work(0, rows * d_model * value);
    work(1, rows * cols * sizeof(float) / 2);  // dt: half of the widest, [u z]
    work(2, rows * cols * value);
    work(3, kLogitRows * d_model * sizeof(float));
    work(kInput, std::min(rows * cols * sizeof(float), kPiece));
    work(kOutput, std::min(rows * cols * sizeof(float), kPiece));
    work(kPrepared, prepared_bytes(limits.max_cols));
    work(kHandedOn, prepared_bytes(limits.d_model));
    // Attention's partial sums of at least one run of 8 rows; n_heads * head_dim is no wider than an activation.
    const size_t run =
        kRunRows * cols * sizeof(float) * 5 / 4 * static_cast<size_t>(decode_splits(limits.max_ring_rows));
    work(kPartial, std::max(run, std::min(run * static_cast<size_t>(limits.n_slots), size_t{64} << 20)));
    const int decode_rows = kRunRows * limits.n_slots, n_rows = std::max({limits.max_rows, decode_rows, kLogitRows});
    const int n_runs = std::max(limits.n_slots, kLogitRows), n_tiles = limits.max_rows / kTileRows + n_runs;
    work(kEdges, static_cast<size_t>(n_tiles) * 3 * cols / 2 * sizeof(float));
    reserve_tables(n_runs, n_rows, n_tiles);
    reserve_slots();
}

}  // namespace samba::cuda
