// Decode attention: a block takes 64 or 128 rows of a slot's ring (a few times that where the ring is long) for one kv
// head and all queries that read it, and appends the run's own rows that lie there. A second kernel combines the
// blocks' sums (attention_combine.cu); a block without a visible key counts for nothing.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention_tensor.cuh"

namespace samba::cuda {
namespace {

using namespace decode;

template <class R, class Q, int kDims>
__global__ void __launch_bounds__(kCoreThreads) decode_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    grid_wait();
    using S = typename R::Value;
    const AttentionShared<S> s(dynamic_shared(), a.head_dim, a.one_buffer);
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int kv_head = blockIdx.y, n_queries = a.group * run.n_rows;
    const int first_block = blockIdx.x * a.blocks_per_split;
    for (int chunk = 0; chunk < n_queries; chunk += kCoreQueries) {
        __syncthreads();
        for (int i = threadIdx.x; i < kCoreQueries * a.head_dim; i += kCoreThreads) {
            const int query = min(chunk + i / a.head_dim, n_queries - 1), d = i % a.head_dim;
            const int row = a.row_of_query(query), head = kv_head * a.group + query - row * a.group;
            s.q[i] = to_float(static_cast<const Q*>(a.q)[(run.first_row + row) * a.stride + head * a.head_dim + d]);
        }
        if (threadIdx.x < kCoreQueries) s.max[threadIdx.x] = kNoKey, s.sum[threadIdx.x] = 0.0f;
        float acc[kDims][8] = {};
        for (int b = first_block; b < first_block + a.blocks_per_split; b++) {
            const int first = b * kKeyBlock;
            const bool any = threadIdx.x < kKeyBlock && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) continue;
            if (chunk == 0 || a.blocks_per_split > 1 || a.one_buffer) {
#pragma unroll 1
                for (int i = 0; i < (a.one_buffer ? 1 : 2); i++) {
                    load_rows<R, Q>(a, run, place, kv_head, first, i != 0, chunk == 0, i != 0 ? s.v : s.k, s.stride);
                }
            }
            cp_async_wait<0>();
            __syncthreads();
            attention_scores(s, a.head_dim, a.scale, [&](int q, int key) {
                return place.visible(a.row_of_query(chunk + q), place.age(first + key));
            });
            __syncthreads();
            if (a.one_buffer) load_rows<R, Q>(a, run, place, kv_head, first, true, chunk == 0, s.v, s.stride);
            attention_soften(s);
            cp_async_wait<0>();
            __syncthreads();
            attention_weigh<S, kDims>(s, a.head_dim, acc);
        }
        __syncthreads();
        for (int q = 0; q < kCoreQueries && chunk + q < n_queries; q++) {
            const int64_t at = partial_of(a, run, kv_head, chunk + q) + blockIdx.x;
            float* out = a.partial + at * a.head_dim;
#pragma unroll
            for (int i = 0; i < kDims; i++) {
                const int d = threadIdx.x + kCoreThreads * i;
                if (d < a.head_dim) out[d] = acc[i][q];
            }
            if (threadIdx.x == 0) a.stats[at] = make_float2(s.max[q], s.sum[q]);
        }
    }
}

// The same for 16-bit queries and heads of kDim values, on tensor cores: 16 queries are an instruction's rows.
template <class R, int kDim>
__global__ void __launch_bounds__(TensorShared<half, kDim>::kThreads) tensor_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    using S = typename R::Value;
    auto& s = *reinterpret_cast<TensorShared<S, kDim>*>(dynamic_shared());
    constexpr int kOwn = kDim / s.kWarps, kTiles = kOwn / 8;  // dimensions of a warp
    const int kv_head = blockIdx.y, first_row = blockIdx.x * a.blocks_per_split * s.kKeys;
    const int own = threadIdx.x / 32 * kOwn;
    if (R::kPlain && threadIdx.x < 2 && in_first_wave<TensorShared<S, kDim>>()) {
        send_for_ring(a, threadIdx.x == 0 ? a.ring.k : a.ring.v, first_row, s.kKeys);
    }
    grid_wait();
    const DeviceRun run = a.runs[blockIdx.z];
    const Place place(a, run);
    const int n_queries = a.group * run.n_rows;
#pragma unroll 1
    for (int chunk = 0; chunk < n_queries; chunk += s.kQueries) {
        __syncthreads();
        load_queries(a, run.first_row, kv_head, chunk, n_queries, s, threadIdx.x);
        const SeenAges ages(a, place, chunk, n_queries);
        Softmax softmax;
        float acc[kTiles][4] = {};
#pragma unroll 1
        for (int b = 0; b < a.blocks_per_split; b++) {
            const int first = first_row + b * s.kKeys;
            const bool any = threadIdx.x < s.kKeys && place.needed(place.age(first + threadIdx.x));
            if (!__syncthreads_or(any)) continue;
            load_ring<R, kDim>(a, run, place, kv_head, first, s);
            load_own<R, kDim>(a, run, place, kv_head, first, chunk == 0, s);
            cp_async_commit();
            cp_async_wait<0>();
            __syncthreads();
            float change[2];
            weigh_keys(a, SeenKeys(place, ages, first), s, softmax, change);
            __syncthreads();
#pragma unroll
            for (auto& c : acc) c[0] *= change[0], c[1] *= change[0], c[2] *= change[1], c[3] *= change[1];
            weigh_values(s, own, acc);
        }
        cp_async_commit();  // where all blocks were skipped, the queries are still on their way
        cp_async_wait<0>();
        put_sums(a, run, kv_head, chunk, n_queries, s, softmax, own, acc);
    }
}

// The same of one run of few rows, whose queries are no more than 16, where a split is one block of the ring: that is
// there since the last step, but for the run's own rows, and is loaded before the wait (early_run.cuh), as all is made
// that does not depend on the step. Of many runs the blocks come one after another, and would each look at the table
// twice.
template <class R, int kDim>
__global__ void __launch_bounds__(TensorShared<half, kDim>::kThreads)
    tensor_one_kernel(const __grid_constant__ Args a) {
    grid_dependents();
    using S = typename R::Value;
    auto& s = *reinterpret_cast<TensorShared<S, kDim>*>(dynamic_shared());
    constexpr int kOwn = kDim / s.kWarps, kTiles = kOwn / 8;
    const int kv_head = blockIdx.y, first = blockIdx.x * s.kKeys, n_queries = a.group * a.n_rows;
    const int own = threadIdx.x / 32 * kOwn;
    OwnPart<kDim, S> own_part(a, kv_head);
    const QueryPiece<kDim, S> piece(a, a.first_row, kv_head, 0, n_queries, s, threadIdx.x);
    const DeviceRun early = load_run(a.runs);
    Place place(a, early);
    load_ring<R, kDim>(a, early, place, kv_head, first, s);
    cp_async_commit();
    // Kept in shared memory: a value in a register the assembler would rather compute behind the wait.
    const auto find = [&](const DeviceRun& run) {
        own_part.find(a, run, place, kv_head, first, s);
        s.seen[threadIdx.x] = static_cast<uint8_t>(SeenKeys(place, SeenAges(a, place, 0, n_queries), first).bits);
    };
    find(early);
    touch(own_part.from), touch(piece.from);
    if (own_part.ring != nullptr) touch(own_part.ring);
    grid_wait();
    own_part.load();
    if (static_cast<int>(threadIdx.x) < piece.kAll) piece.copy();
    const DeviceRun run = load_run(a.runs);
    if constexpr (piece.kAll > s.kThreads) {
        load_queries(a, a.first_row, kv_head, 0, n_queries, s, threadIdx.x + s.kThreads);
    }
    if (!same_place(run, early)) {
        // Warps may have seen different tables: a thread copies again all that it has copied itself. Also the run's own
        // rows, to which another thread's put() may have come before the zeros that this one has sent for.
        cp_async_wait<0>();
        place = Place(a, run);
        load_ring<R, kDim, true>(a, run, place, kv_head, first, s);
        find(run);
    }
    own_part.put();
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    float change[2], acc[kTiles][4] = {};
    Softmax softmax;
    weigh_keys(a, SeenKeys(s.seen[threadIdx.x]), s, softmax, change);
    __syncthreads();
    weigh_values(s, own, acc);
    put_sums(a, run, kv_head, 0, n_queries, s, softmax, own, acc);
}

}  // namespace

int decode_splits(int64_t ring_rows) {
    return std::max(Cut(ring_rows, kKeyBlock).splits, Cut(ring_rows, tensor_keys(64)).splits);
}

int64_t decode_partial_values(int64_t ring_rows, int n_heads, int head_dim) {
    return int64_t{n_heads} * decode_splits(ring_rows) * (head_dim + 2);
}

void attention_decode(const Gpu& gpu, const Tables& tables, const RunGroup& group, const Qkv& in, const Ring& ring,
                      View y, float* partial) {
    const int head_dim = ring.head_dim, n_heads = static_cast<int>(in.q.cols) / head_dim;
    const int of_kv_head = n_heads / ring.n_kv_heads;
    if (n_heads > UINT16_MAX || !quotient_fits((kRunRows + 2) * of_kv_head, of_kv_head))
        throw Error("cuda: " + std::to_string(of_kv_head) + " heads of queries for one of keys are too many");
    const bool vectors = in.q.stride % 8 == 0 && reinterpret_cast<uintptr_t>(in.q.data) % 16 == 0;
    const bool tensor = vectors && in.q.type != DType::kF32 && (head_dim == 64 || head_dim == 128 || head_dim == 256);
    const Cut cut(ring.n_rows, tensor ? tensor_keys(head_dim) : kKeyBlock);
    const AttentionSums sums{
        partial,         reinterpret_cast<float2*>(partial + int64_t{group.n_rows} * n_heads * cut.splits * head_dim),
        group.first_row, group.n_rows,
        n_heads,         head_dim,
        cut.splits};
    with_ring(ring.type, [&](auto format) {
        using R = decltype(format);
        using S = AttentionShared<typename R::Value>;
        with_type(in.q.type, [&](auto t) {
            using Q = decltype(t);
            using Own = std::conditional_t<std::is_same_v<Q, float>, float, typename R::Value>;
            if constexpr (std::is_same_v<Q, Own>) {  // q, k and v are f32 or of the ring's own type
                const bool one_buffer = S::bytes(head_dim, false) > kPortableShared;
                const Args a{tables.now + group.first_run,
                             in.q.data,
                             in.k.data,
                             in.v.data,
                             in.q.stride,
                             static_cast<uint16_t>(n_heads),
                             static_cast<uint16_t>(of_kv_head),
                             inverse_of(of_kv_head),
                             head_dim,
                             cut.per_split,
                             group.first_row,
                             group.n_rows,
                             one_buffer,
                             attention_scale(head_dim),
                             sums.partial,
                             sums.stats,
                             ring_args(ring)};
                const dim3 grid(cut.splits, ring.n_kv_heads, group.n_runs);
                if constexpr (!std::is_same_v<Q, float>) {
                    const auto start = [&]<int kDim>(std::integral_constant<int, kDim>) {
                        using Shared = TensorShared<Q, kDim>;
                        auto kernel = tensor_kernel<R, kDim>;
                        if constexpr (R::kPlain) {
                            const bool few = group.n_rows <= OwnPart<kDim, Q>::kMostRows &&
                                             group.n_rows * of_kv_head <= Shared::kQueries;
                            if (group.n_runs == 1 && few && cut.per_split == 1) kernel = tensor_one_kernel<R, kDim>;
                        }
                        const size_t shared = evenly_spread(gpu, grid, sizeof(Shared));
                        launch(gpu, grid, dim3(Shared::kThreads), shared, kernel, a);
                    };
                    if (tensor && head_dim == 64) return start(std::integral_constant<int, 64>());
                    if (tensor && head_dim == 128) return start(std::integral_constant<int, 128>());
                    if (tensor) return start(std::integral_constant<int, 256>());
                }
                const auto kernel = head_dim <= kCoreThreads ? decode_kernel<R, Q, 1> : decode_kernel<R, Q, 2>;
                launch(gpu, grid, dim3(kCoreThreads), S::bytes(head_dim, one_buffer), kernel, a);
            } else {
                throw Error("cuda: queries of a type that is neither f32 nor the ring's");
            }
        });
    });
    attention_combine(gpu, sums, ring.type, y);
}

}  // namespace samba::cuda
