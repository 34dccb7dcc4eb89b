#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

void matvec_f16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_matvec<F16Product>(gpu, w, p); }

}  // namespace samba::cuda
