// The kernels of selective_scan.py, compiled by NVRTC. Each block owns 32 channels of one sequence; lane = channel,
// warp w owns states 4w … 4w+3; the state is float32.
#include <cuda_bf16.h>
typedef __nv_bfloat16 bf16;
#define NS 16
#define CH 16
#define LOG2E 1.4426950408889634f

__device__ __forceinline__ float softplus(float x) { return x > 20.f ? x : log1pf(__expf(x)); }
__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }

template <int K>
struct Pack;
template <>
struct Pack<8> {
    typedef uint4 T;
};
template <>
struct Pack<4> {
    typedef uint2 T;
};

template <int K>
__device__ __forceinline__ void unpack(typename Pack<K>::T v, float* f) {
    const bf16* p = reinterpret_cast<const bf16*>(&v);
#pragma unroll
    for (int i = 0; i < K; i++) f[i] = __bfloat162float(p[i]);
}
template <int K>
__device__ __forceinline__ typename Pack<K>::T pack(const float* f) {
    typename Pack<K>::T v;
    bf16* p = reinterpret_cast<bf16*>(&v);
#pragma unroll
    for (int i = 0; i < K; i++) p[i] = __float2bfloat16(f[i]);
    return v;
}

// grid (d_inner/32, batch), block 128
extern "C" __global__ void __launch_bounds__(128)
    scan_fwd(const bf16* __restrict__ u, const bf16* __restrict__ dt, const float* __restrict__ A,
             const bf16* __restrict__ Bm, const bf16* __restrict__ Cm, const float* __restrict__ Dv,
             const float* __restrict__ bias, const bf16* __restrict__ z, bf16* __restrict__ out, float* __restrict__ hs,
             int L, int D) {
    const int T = 32;
    __shared__ float su[T][32], sd[T][32], sB[T][NS], sC[T][NS], sy[4][T][32];
    int tid = threadIdx.x, w = tid >> 5, lane = tid & 31;
    int d0 = blockIdx.x * 32;
    long b = blockIdx.y;
    int row = tid >> 2, seg = tid & 3;
    float A2[4], h[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        A2[j] = A[(d0 + lane) * NS + 4 * w + j] * LOG2E;
        h[j] = 0.f;
    }
    float dskip[8], db[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        dskip[i] = Dv[d0 + seg * 8 + i];
        db[i] = bias[d0 + seg * 8 + i];
    }
    const bf16* bc = seg < 2 ? Bm + seg * 8 : Cm + (seg - 2) * 8;
    float(*sbc)[NS] = seg < 2 ? sB : sC;
    int bcoff = (seg & 1) * 8;
    long base = (b * L + row) * (long)D + d0 + seg * 8;
    long bcbase = (b * L + row) * (long)NS;
    uint4 vu = *(const uint4*)(u + base), vd = *(const uint4*)(dt + base), vz = *(const uint4*)(z + base);
    uint4 vbc = *(const uint4*)(bc + bcbase);
    for (int t0 = 0; t0 < L; t0 += T) {
        float fu[8], fd[8], fz[8], fbc[8];
        unpack<8>(vu, fu);
        unpack<8>(vd, fd);
        unpack<8>(vz, fz);
        unpack<8>(vbc, fbc);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            su[row][seg * 8 + i] = fu[i];
            sd[row][seg * 8 + i] = softplus(fd[i] + db[i]);
            sbc[row][bcoff + i] = fbc[i];
        }
        __syncthreads();
        if (t0 + T < L) {
            long nb = base + (long)(t0 + T) * D, nbc = bcbase + (long)(t0 + T) * NS;
            vu = *(const uint4*)(u + nb);
            vd = *(const uint4*)(dt + nb);
            vz = *(const uint4*)(z + nb);
            vbc = *(const uint4*)(bc + nbc);
        }
#pragma unroll 8
        for (int t = 0; t < T; t++) {
            if ((t & (CH - 1)) == 0) {
                long c = (b * (L / CH) + (t0 + t) / CH) * (long)D + d0 + lane;
                *(float4*)(hs + c * NS + 4 * w) = make_float4(h[0], h[1], h[2], h[3]);
            }
            float dl = sd[t][lane], du = dl * su[t][lane], y = 0.f;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                h[j] = exp2f(dl * A2[j]) * h[j] + du * sB[t][4 * w + j];
                y += h[j] * sC[t][4 * w + j];
            }
            sy[w][t][lane] = y;
        }
        __syncthreads();
        float o[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int c = seg * 8 + i;
            float y = sy[0][row][c] + sy[1][row][c] + sy[2][row][c] + sy[3][row][c] + dskip[i] * fu[i];
            o[i] = y * fz[i] * sigmoid(fz[i]);
        }
        *(uint4*)(out + base + (long)t0 * D) = pack<8>(o);
    }
}

// Sums 8 values over the 32 lanes of a warp; lane 4k ends up with the total of v[k].
__device__ __forceinline__ float reduce8(float* v, int lane) {
    const unsigned M = 0xffffffffu;
    bool hi = lane & 16;
    float r4[4], r2[2], r;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float s = hi ? v[i] : v[i + 4];
        s = __shfl_xor_sync(M, s, 16);
        r4[i] = (hi ? v[i + 4] : v[i]) + s;
    }
    hi = lane & 8;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float s = hi ? r4[i] : r4[i + 2];
        s = __shfl_xor_sync(M, s, 8);
        r2[i] = (hi ? r4[i + 2] : r4[i]) + s;
    }
    hi = lane & 4;
    {
        float s = hi ? r2[0] : r2[1];
        s = __shfl_xor_sync(M, s, 4);
        r = (hi ? r2[1] : r2[0]) + s;
    }
    r += __shfl_xor_sync(M, r, 2);
    r += __shfl_xor_sync(M, r, 1);
    return r;
}

// grid (d_inner/32, batch), block 128. dBC: (d_inner/32, batch, L, 32) = 16 dB then 16 dC.
extern "C" __global__ void __launch_bounds__(128)
    scan_bwd(const bf16* __restrict__ u, const bf16* __restrict__ dt, const float* __restrict__ A,
             const bf16* __restrict__ Bm, const bf16* __restrict__ Cm, const float* __restrict__ Dv,
             const float* __restrict__ bias, const bf16* __restrict__ z, const float* __restrict__ hs,
             const bf16* __restrict__ dout, bf16* __restrict__ du_, bf16* __restrict__ ddt_, bf16* __restrict__ dz_,
             float* __restrict__ dA_, float* __restrict__ dD_, float* __restrict__ dbias_, float* __restrict__ dBC,
             int L, int D, int batch) {
    __shared__ float su[CH][32], sd[CH][32], sB[CH][NS], sC[CH][NS], sdy[CH][32];
    __shared__ float p0[4][CH][32], p1[4][CH][32], sbc[CH][32];
    int tid = threadIdx.x, w = tid >> 5, lane = tid & 31;
    int d0 = blockIdx.x * 32;
    long b = blockIdx.y;
    int row = tid >> 3, seg = tid & 7;  // 16 rows x 8 segments of 4
    float Av[4], dh[4], dA[4], dD = 0.f;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        Av[j] = A[(d0 + lane) * NS + 4 * w + j];
        dh[j] = 0.f;
        dA[j] = 0.f;
    }
    float dskip[4], db[4], gb[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        dskip[i] = Dv[d0 + seg * 4 + i];
        db[i] = bias[d0 + seg * 4 + i];
    }
    const bf16* bc = seg < 4 ? Bm + seg * 4 : Cm + (seg - 4) * 4;
    float(*sBC)[NS] = seg < 4 ? sB : sC;
    int bcoff = (seg & 3) * 4;
    long base = (b * L + row) * (long)D + d0 + seg * 4, bcbase = (b * L + row) * (long)NS;
    int nc = L / CH;
    long last = (long)(nc - 1) * CH;
    uint2 vu = *(const uint2*)(u + base + last * D), vd = *(const uint2*)(dt + base + last * D);
    uint2 vz = *(const uint2*)(z + base + last * D), vo = *(const uint2*)(dout + base + last * D);
    uint2 vbc = *(const uint2*)(bc + bcbase + last * NS);
    float4 vh = *(const float4*)(hs + ((b * nc + nc - 1) * (long)D + d0 + lane) * NS + 4 * w);
    for (int c = nc - 1; c >= 0; c--) {
        float fu[4], fd[4], fz[4], fo[4], fbc[4], sg[4];
        unpack<4>(vu, fu);
        unpack<4>(vd, fd);
        unpack<4>(vz, fz);
        unpack<4>(vo, fo);
        unpack<4>(vbc, fbc);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            fd[i] += db[i];
            su[row][seg * 4 + i] = fu[i];
            sd[row][seg * 4 + i] = softplus(fd[i]);
            sBC[row][bcoff + i] = fbc[i];
            sg[i] = sigmoid(fz[i]);
            sdy[row][seg * 4 + i] = fo[i] * fz[i] * sg[i];
        }
        float h0[4] = {vh.x, vh.y, vh.z, vh.w};
        __syncthreads();
        if (c > 0) {
            long o = (long)(c - 1) * CH;
            vu = *(const uint2*)(u + base + o * D);
            vd = *(const uint2*)(dt + base + o * D);
            vz = *(const uint2*)(z + base + o * D);
            vo = *(const uint2*)(dout + base + o * D);
            vbc = *(const uint2*)(bc + bcbase + o * NS);
            vh = *(const float4*)(hs + ((b * nc + c - 1) * (long)D + d0 + lane) * NS + 4 * w);
        }
        float h[CH][4];
#pragma unroll
        for (int t = 0; t < CH; t++) {
            float dl = sd[t][lane], du = dl * su[t][lane], y = 0.f;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float hp = t ? h[t - 1][j] : h0[j];
                h[t][j] = exp2f(dl * Av[j] * LOG2E) * hp + du * sB[t][4 * w + j];
                y += h[t][j] * sC[t][4 * w + j];
            }
            p0[w][t][lane] = y;
        }
        __syncthreads();
        float o4[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int ch = seg * 4 + i;
            float y = p0[0][row][ch] + p0[1][row][ch] + p0[2][row][ch] + p0[3][row][ch] + dskip[i] * fu[i];
            o4[i] = fo[i] * y * sg[i] * (1.f + fz[i] * (1.f - sg[i]));
        }
        *(uint2*)(dz_ + base + (long)c * CH * D) = pack<4>(o4);
        __syncthreads();
#pragma unroll
        for (int t = CH - 1; t >= 0; t--) {
            float dl = sd[t][lane], uu = su[t][lane], dy = sdy[t][lane], gdt = 0.f, gu = 0.f, v[8];
            if (w == 0) dD += dy * uu;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float Bn = sB[t][4 * w + j], hp = t ? h[t - 1][j] : h0[j];
                dh[j] += dy * sC[t][4 * w + j];
                float a = exp2f(dl * Av[j] * LOG2E), da = dh[j] * hp * a;
                gdt += da * Av[j] + dh[j] * uu * Bn;
                dA[j] += da * dl;
                gu += dh[j] * dl * Bn;
                v[j] = dh[j] * dl * uu;
                v[4 + j] = dy * h[t][j];
                dh[j] *= a;
            }
            p0[w][t][lane] = gu;
            p1[w][t][lane] = gdt;
            float r = reduce8(v, lane);
            if ((lane & 3) == 0) {
                int k = lane >> 2;
                sbc[t][(k >> 2) * 16 + 4 * w + (k & 3)] = r;
            }
        }
        __syncthreads();
        float gu4[4], gd4[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int ch = seg * 4 + i;
            gu4[i] = p0[0][row][ch] + p0[1][row][ch] + p0[2][row][ch] + p0[3][row][ch] + dskip[i] * sdy[row][ch];
            gd4[i] = (p1[0][row][ch] + p1[1][row][ch] + p1[2][row][ch] + p1[3][row][ch]) * sigmoid(fd[i]);
            gb[i] += gd4[i];
        }
        *(uint2*)(du_ + base + (long)c * CH * D) = pack<4>(gu4);
        *(uint2*)(ddt_ + base + (long)c * CH * D) = pack<4>(gd4);
        *(float4*)(dBC + (((long)blockIdx.x * batch + b) * L + (long)c * CH + row) * 32 + seg * 4) =
            *(float4*)&sbc[row][seg * 4];
        __syncthreads();
    }
    *(float4*)(dA_ + (b * D + d0 + lane) * (long)NS + 4 * w) = make_float4(dA[0], dA[1], dA[2], dA[3]);
#pragma unroll
    for (int i = 0; i < 4; i++) p0[0][row][seg * 4 + i] = gb[i];
    __syncthreads();
    if (w == 0) {
        float g = 0.f;
        for (int r = 0; r < CH; r++) g += p0[0][r][lane];
        dD_[b * D + d0 + lane] = dD;
        dbias_[b * D + d0 + lane] = g;
    }
}
