#include "kernels/cuda/matvec_int8.cuh"

namespace samba::cuda {

void matvec_q4_0(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_int8<Q4_0>(gpu, w, p); }

}  // namespace samba::cuda
