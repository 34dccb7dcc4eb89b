// The large matrix products, by cuBLASLt, which is opened at run time: the program starts without it.
#pragma once
#include <memory>

#include "kernels/cuda/gpu.h"
#include "kernels/view.h"

namespace samba::cuda {

class Blas {
  public:
    static constexpr size_t kWorkspace = 32 << 20;  // bytes

    Blas();  // throws DeviceError where the library is missing or will not start
    ~Blas();

    // y (m, n) = x (m, k) w^T, or y += it; w (n, k) has `w.stride` values a row. x and w are both bf16 or both f32
    // (sums in f32, TF32 off); y is bf16 or f32. The same shape always takes the same algorithm.
    void multiply(const Gpu& gpu, void* workspace, View x, View w, View y, bool add);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace samba::cuda
