// A matrix of weights in device memory. F32 rows are packed; F16 and BF16 rows are padded to a multiple of 8 values, so
// that all of them are aligned; quantised ones are laid out anew (quant_layout.h).
#pragma once
#include "kernels/view.h"

namespace samba::cuda {

struct DeviceWeight {
    const unsigned char* data = nullptr;
    int rows = 0, cols = 0;
};

inline DeviceWeight device_weight(const Weight& w, size_t part) {
    const Weight::Part& p = w.parts[part];
    return {static_cast<const unsigned char*>(p.data), static_cast<int>(p.rows), static_cast<int>(w.cols)};
}

#ifdef __CUDACC__
__host__ __device__
#endif
    inline int
    padded_columns(int cols) {
    return (cols + 7) / 8 * 8;
}

}  // namespace samba::cuda
