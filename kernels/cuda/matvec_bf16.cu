#include "kernels/cuda/matvec_rows.cuh"

namespace samba::cuda {

void matvec_bf16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_rows<Bf16Product>(gpu, w, p); }

}  // namespace samba::cuda
