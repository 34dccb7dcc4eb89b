// One move-only owner for each thing that CUDA hands out.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

namespace samba::cuda {

template <class T, cudaError_t (*kDestroy)(T)>
class Handle {
  public:
    Handle() = default;
    explicit Handle(T value) : value_(value) {}
    Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, T())) {}
    Handle& operator=(Handle&& other) noexcept {
        if (this != &other) {
            reset();
            value_ = std::exchange(other.value_, T());
        }
        return *this;
    }
    ~Handle() { reset(); }

    T get() const { return value_; }
    explicit operator bool() const { return value_ != T(); }
    void reset() {
        if (value_ != T()) kDestroy(value_);
        value_ = T();
    }

  private:
    T value_ = T();
};

using Stream = Handle<cudaStream_t, cudaStreamDestroy>;
using Event = Handle<cudaEvent_t, cudaEventDestroy>;
using Graph = Handle<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Handle<cudaGraphExec_t, cudaGraphExecDestroy>;
using DevicePointer = Handle<void*, cudaFree>;
using HostPointer = Handle<void*, cudaFreeHost>;

// Device memory and its size.
struct DeviceMemory {
    DevicePointer memory;
    size_t bytes = 0;

    template <class T = char>
    T* as() const {
        return static_cast<T*>(memory.get());
    }
};

}  // namespace samba::cuda
