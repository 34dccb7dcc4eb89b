#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

void matvec_bf16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_matvec<Bf16Product>(gpu, w, p); }

}  // namespace samba::cuda
