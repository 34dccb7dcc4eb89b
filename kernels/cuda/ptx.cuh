// The instructions that CUDA C++ has no name for.
#pragma once
#include <cstdint>

namespace samba::cuda {

// The next kernel may start now; it waits for our results in grid_wait().
__device__ __forceinline__ void grid_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// From here on everything that earlier kernels wrote is there.
__device__ __forceinline__ void grid_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Computed here, and kept: the compiler would rather compute a value where it is used, after the kernel's wait.
__device__ __forceinline__ void keep(int& v) { asm volatile("" : "+r"(v)); }
__device__ __forceinline__ void keep(uint32_t& v) { asm volatile("" : "+r"(v)); }
template <class T>
__device__ __forceinline__ void keep(T*& p) {
    asm volatile("" : "+l"(p));
}

// 16 bytes that an earlier kernel has written, or zeros where not `there`: asked for here, and not where they are used.
__device__ __forceinline__ uint4 load_here(const void* p, int there) {
    uint4 v = make_uint4(0, 0, 0, 0);
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
                 : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
                 : "l"(p), "r"(there)
                 : "memory");
    return v;
}

// Weights are read once: past L1. They never change, so they may be read before grid_wait().
__device__ __forceinline__ uint4 load_stream(const void* p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

// Bytes (a multiple of 16, as the address) on their way from memory to L2, in the background.
__device__ __forceinline__ void prefetch_l2(const void* p, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

// What is read later is looked for already: its page, and its line in L2.
__device__ __forceinline__ void touch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// log2(x) to 2^-22, absolute near x = 1.
__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// c (16, 8) += a (16, 16) b (16, 8), f32 sums. Lane 4g + t holds a0 = a[g][2t..], a1 = a[g+8][2t..], a2 = a[g][2t+8..],
// a3 = a[g+8][2t+8..]; b0 = b[2t..][g], b1 = b[2t+8..][g]; c0, c1 = c[g][2t..], c2, c3 = c[g+8][2t..].
__device__ __forceinline__ void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The same with a (16, 8): a0 = a[g][2t..], a1 = a[g+8][2t..].
__device__ __forceinline__ void mma_bf16_8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}

__device__ __forceinline__ void mma_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                        uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// c (16, 8) += a (16, 32) b (32, 8), integers; b: signed bytes. A word is four bytes: a0 = a[g][4t..], a1 =
// a[g+8][4t..], a2 = a[g][4t+16..], a3 = a[g+8][4t+16..], b0 = b[4t..][g], b1 = b[4t+16..][g].
__device__ __forceinline__ void mma_s8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                       uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// The same with unsigned bytes in a.
__device__ __forceinline__ void mma_u8(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                       uint32_t b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// c += a (16, 16) b (16, 8).
__device__ __forceinline__ void mma_u8_16(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 matrices of 16-bit values; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t row) {  // row: shared_address
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix_x4(r, shared_address(row)); }

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#if __CUDA_ARCH__ >= 900
inline constexpr bool kNine = true;  // Gpu::nine
#else
inline constexpr bool kNine = false;
#endif

// A barrier in shared memory that counts bytes on their way: a phase of it ends when one arrive_and_expect() and so
// many bytes have come.
__device__ __forceinline__ void init_counter(uint64_t* full) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(full)) : "memory");
#endif
}
// The copy engine and other blocks of a cluster may see them.
__device__ __forceinline__ void counters_are_set() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void init_copies(uint64_t* full) {
    init_counter(full);
    counters_are_set();
}
__device__ __forceinline__ void arrive_and_expect(uint64_t* full, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)), "r"(bytes)
                 : "memory");
#endif
}

// The same where there is nothing to wait for.
__device__ __forceinline__ void arrive(uint64_t* full) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(full)) : "memory");
#endif
}

// Counts what other blocks of a cluster send to this one's shared memory: set up by one thread, before
// cluster_arrive(). Unlike the cluster's barrier, which on its way makes all earlier writes visible, it waits for
// nothing else.
__device__ __forceinline__ void expect_bytes(uint64_t* counter, uint32_t bytes) {
    init_copies(counter);
    arrive_and_expect(counter, bytes);
}
// The bytes have arrived, all of them.
__device__ __forceinline__ void wait_for_bytes(uint64_t* counter) {
#if __CUDA_ARCH__ >= 900
    uint32_t arrived = 0;
    while (arrived == 0) {
        asm volatile(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
            "selp.u32 %0, 1, 0, p;\n}"
            : "=r"(arrived)
            : "r"(shared_address(counter))
            : "memory");
    }
#endif
}
// Sends 16 bytes to where `p` (aligned to them) and `counter`, of this block's shared memory, are in block `rank`.
__device__ __forceinline__ void send(int rank, float* p, uint64_t* counter, const float (&v)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n.reg .b32 to, count;\n"
        "mapa.shared::cluster.u32 to, %0, %2;\n"
        "mapa.shared::cluster.u32 count, %1, %2;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [to], {%3, %4, %5, %6}, [count];\n}" ::"r"(
            shared_address(p)),
        "r"(shared_address(counter)), "r"(rank), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3])
        : "memory");
#endif
}

// Bytes (a multiple of 16, as both addresses) to shared memory in the background, by the copy engine; counted by
// `full`. kOnce: they are read once, L2 may give them up first.
template <bool kOnce>
__device__ __forceinline__ void copy_bulk(void* to, const void* from, uint32_t bytes, uint64_t* full) {
#if __CUDA_ARCH__ >= 900
    if constexpr (kOnce) {
        constexpr uint64_t kEvictFirst = 0x12f0000000000000;  // what createpolicy.fractional.L2::evict_first makes
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], "
            "%4;" ::"r"(shared_address(to)),
            "l"(from), "r"(bytes), "r"(shared_address(full)), "l"(kEvictFirst)
            : "memory");
    } else {
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         shared_address(to)),
                     "l"(from), "r"(bytes), "r"(shared_address(full))
                     : "memory");
    }
#endif
}
// Until the phase of this parity has ended; of copies to this block alone.
__device__ __forceinline__ void wait_for_copies(uint64_t* full, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    uint32_t arrived = 0;
    while (arrived == 0) {
        asm volatile(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n}"
            : "=r"(arrived)
            : "r"(shared_address(full)), "r"(parity)
            : "memory");
    }
#endif
}

// All blocks of the cluster have called cluster_arrive() when cluster_wait() returns: they run, and their counters are
// set up. Nothing else that they wrote is meant to be read.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Copies N bytes to shared memory in the background, or writes zeros where not valid.
template <int N>
__device__ __forceinline__ void cp_async(void* shared, const void* global, bool valid = true) {
    static_assert(N == 4 || N == 8 || N == 16);
    const int bytes = valid ? N : 0;
    if constexpr (N == 16) {
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                     "l"(global), "r"(bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(N),
                     "r"(bytes)
                     : "memory");
    }
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// All but the newest N groups have arrived.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace samba::cuda
