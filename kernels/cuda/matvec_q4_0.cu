#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

void matvec_q4_0(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_matvec<Product<Q4_0>>(gpu, w, p); }

}  // namespace samba::cuda
