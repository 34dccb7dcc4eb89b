#include "kernels/cuda/matvec.cuh"

namespace samba::cuda {

void matvec_q4_k(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_matvec<Product<Q4_K>>(gpu, w, p); }

}  // namespace samba::cuda
