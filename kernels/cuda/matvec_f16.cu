#include "kernels/cuda/matvec_rows.cuh"

namespace samba::cuda {

void matvec_f16(const Gpu& gpu, const DeviceWeight& w, const FewRows& p) { launch_rows<F16Product>(gpu, w, p); }

}  // namespace samba::cuda
