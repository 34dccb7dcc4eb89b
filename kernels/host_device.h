// What host and device both compute.
#pragma once

#ifdef __CUDACC__
#define SAMBA_HOST_DEVICE __host__ __device__
#else
#define SAMBA_HOST_DEVICE
#endif
