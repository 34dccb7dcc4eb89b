#include "kernels/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <map>
#include <string>

#include "kernels/cuda/handles.h"
#include "kernels/error.h"

namespace samba::cuda {
namespace {

// The library, and the functions that are used.
struct Library {
    Handle<void*,
           [](void* p) {
               dlclose(p);
               return cudaSuccess;
           }>
        handle;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmulDescCreate) desc_create;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    decltype(&cublasLtMatmul) matmul;

    Library() {
        constexpr const char* kName = "libcublasLt.so.13";
        void* p = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
        for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
            const char* home = std::getenv(variable);
            if (p == nullptr && home != nullptr) p = dlopen((std::string(home) + "/lib64/" + kName).c_str(), RTLD_NOW);
        }
        if (p == nullptr) p = dlopen("/usr/local/cuda/lib64/libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
        if (p == nullptr) throw DeviceError("cuda: libcublasLt.so.13 was not found; it comes with CUDA 13");
        handle = decltype(handle)(p);
        find(create, "cublasLtCreate");
        find(destroy, "cublasLtDestroy");
        find(desc_create, "cublasLtMatmulDescCreate");
        find(desc_destroy, "cublasLtMatmulDescDestroy");
        find(desc_set, "cublasLtMatmulDescSetAttribute");
        find(layout_create, "cublasLtMatrixLayoutCreate");
        find(layout_destroy, "cublasLtMatrixLayoutDestroy");
        find(preference_create, "cublasLtMatmulPreferenceCreate");
        find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
        find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
        find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
        find(matmul, "cublasLtMatmul");
    }

    template <class F>
    void find(F& f, const char* name) {
        f = reinterpret_cast<F>(dlsym(handle.get(), name));
        if (f == nullptr) throw DeviceError(std::string("cuda: libcublasLt.so.13 has no ") + name);
    }
};

void check_blas(cublasStatus_t status, const char* what) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw DeviceError(std::string("cuda: ") + what + ": cuBLASLt status " + std::to_string(static_cast<int>(status)));
}

cudaDataType_t type_of(DType type) {
    return type == DType::kF32 ? CUDA_R_32F : type == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
}

// The largest power of two up to 256 that the address is a multiple of.
uint32_t alignment_of(View v) {
    const auto address = reinterpret_cast<uintptr_t>(v.data);
    uint32_t a = 256;
    while (address % a != 0) a /= 2;
    return a;
}

// What tells one product from another: sizes, strides, types, alignment (x and w always have the backend's one type).
using Key = std::array<int64_t, 11>;

// Descriptions of a product and the algorithm chosen for it. cuBLASLt thinks in columns: y^T (n, m) = w x^T.
struct Plan {
    const Library& lib;
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};

    Plan(const Library& library, cublasLtHandle_t handle, View xv, View wv, View yv) : lib(library) {
        check_blas(lib.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
        const cublasOperation_t transpose = CUBLAS_OP_T;
        check_blas(lib.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "product");
        const auto m = static_cast<uint64_t>(xv.rows), n = static_cast<uint64_t>(wv.rows),
                   k = static_cast<uint64_t>(wv.cols);
        check_blas(lib.layout_create(&w, type_of(wv.type), k, n, wv.stride), "layout");
        check_blas(lib.layout_create(&x, type_of(xv.type), k, m, xv.stride), "layout");
        check_blas(lib.layout_create(&y, type_of(yv.type), n, m, yv.stride), "layout");
        choose(handle, {alignment_of(wv), alignment_of(xv), alignment_of(yv)});
    }
    Plan(const Plan&) = delete;
    ~Plan() {
        if (y != nullptr) lib.layout_destroy(y);
        if (x != nullptr) lib.layout_destroy(x);
        if (w != nullptr) lib.layout_destroy(w);
        if (desc != nullptr) lib.desc_destroy(desc);
    }

    void choose(cublasLtHandle_t handle, std::array<uint32_t, 3> align) {
        cublasLtMatmulPreference_t preference = nullptr;
        check_blas(lib.preference_create(&preference), "preference");
        const size_t workspace = Blas::kWorkspace;
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align[0], sizeof align[0]);
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align[1], sizeof align[1]);
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align[2], sizeof align[2]);
        lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align[2], sizeof align[2]);
        cublasLtMatmulHeuristicResult_t result = {};
        int found = 0;
        const cublasStatus_t status = lib.heuristic(handle, desc, w, x, y, y, preference, 1, &result, &found);
        lib.preference_destroy(preference);
        check_blas(status, "choice of a product's algorithm");
        if (found == 0) throw DeviceError("cuda: cuBLASLt has no algorithm for a product");
        algorithm = result.algo;
    }
};

}  // namespace

struct Blas::State {
    Library lib;
    cublasLtHandle_t handle = nullptr;
    std::map<Key, Plan> plans;

    ~State() {
        plans.clear();
        if (handle != nullptr) lib.destroy(handle);
    }
};

Blas::Blas() : state_(std::make_unique<State>()) {
    check_blas(state_->lib.create(&state_->handle), "start of cuBLASLt");
}
Blas::~Blas() = default;

void Blas::multiply(const Gpu& gpu, void* workspace, View x, View w, View y, bool add) {
    const Key key = {x.rows,
                     w.rows,
                     w.cols,
                     x.stride,
                     w.stride,
                     y.stride,
                     static_cast<int64_t>(x.type),
                     static_cast<int64_t>(y.type),
                     alignment_of(x),
                     alignment_of(w),
                     alignment_of(y)};
    const auto [at, added] = state_->plans.try_emplace(key, state_->lib, state_->handle, x, w, y);
    const Plan& p = at->second;
    const float one = 1.0f, beta = add ? 1.0f : 0.0f;
    check_blas(state_->lib.matmul(state_->handle, p.desc, &one, w.data, p.w, x.data, p.x, &beta, y.data, p.y, y.data,
                                  p.y, &p.algorithm, workspace, kWorkspace, gpu.stream),
               "product");
}

}  // namespace samba::cuda
