// c = op(a) op(b), then the epilogue.
//
// Shapes: c [m, n]; a is [m, k], or [k, m] if it is transposed (t first); b is [k, n], or [n, k]. bias [n],
// add and saved as c, or null. Without an epilogue, if k is long, blocks of their own (grid z) sum chunks of
// k into partial [chunks, m, n], and `matmul_join` adds the chunks in order.
// Launch: grid (tiles of m, tiles of n, chunks), the tile's threads per block; shared memory for the tile's
// stages and, if a is not transposed, one place per row.
// Cost: 2 m n k FLOPs, 4 (m k + k n + m n) bytes. Bound by arithmetic, except for few rows, where reading b
// is the bound.
#include "product.cuh"

// Where the chunk of this block begins and ends.
__device__ __forceinline__ u32 chunk_begin(const Matmul& p) { return blockIdx.z * p.chunk; }
__device__ __forceinline__ u32 chunk_end(const Matmul& p) {
    return p.chunk != 0 && (blockIdx.z + 1) * p.chunk < p.k ? (blockIdx.z + 1) * p.chunk : p.k;
}

// op(b), n of the tile from `first` on.
template <class T>
__device__ __forceinline__ DenseRows<T> right(const Matmul& p, const float* b, u32 first, u32 k_end) {
    return {b, first, p.n, k_end, p.n % 4 == 0, false, 0, {}};
}
template <class T>
__device__ __forceinline__ WeightColumns<T> right_transposed(const Matmul& p, const float* b, u32 first, u32 k_end) {
    return {b, first, p.n, k_end, p.k, 0, 0, 0, ~0u, div_by(p.k), div_by(1), p.k % 4 == 0, false, {}};
}

// c = a op(b): a by rows.
template <class T, bool TB>
__device__ __forceinline__ void matmul_rows(const Matmul& p, const float* a, const float* b, float* c, const float* bias,
                                            const float* add, const float* saved) {
    extern __shared__ __align__(16) float shared[];
    RowPlace* places = (RowPlace*)shared;
    float* stages = shared + T::BM * 4;
    const u32 first_row = blockIdx.x * T::BM, first_column = blockIdx.y * T::BN, k_end = chunk_end(p);
    for (u32 r = threadIdx.x; r < T::BM; r += T::SIZE) {
        const u32 m = first_row + r;
        places[r] = {(int)m, m < p.m ? 0 : -1, 0, m < p.m ? m : ~0u};
    }
    __syncthreads();
    const PixelRows<T> left = {a, places, 1, 1, 1, p.k, k_end, div_by(p.k), div_by(1), p.k % 4 == 0};
    const Finish finish = {c + blockIdx.z * p.m * p.n, p.n, places, 0, 0, bias, add, saved, p.epilogue, order_of(p.epilogue)};
    const u32 k = chunk_begin(p);
    if (TB) product<T>(left, right_transposed<T>(p, b, first_column, k_end), EveryStep(), k, k_end, finish, first_column, stages);
    else product<T>(left, right<T>(p, b, first_column, k_end), EveryStep(), k, k_end, finish, first_column, stages);
}

// c = a^T op(b): a by columns; k counts one-pixel images.
template <class T, bool TB>
__device__ __forceinline__ void matmul_columns(const Matmul& p, const float* a, const float* b, float* c, const float* bias,
                                               const float* add, const float* saved) {
    extern __shared__ __align__(16) float shared[];
    const u32 first_row = blockIdx.x * T::BM, first_column = blockIdx.y * T::BN, k = chunk_begin(p), k_end = chunk_end(p);
    const Conv one = {p.k, 1, 1, p.m, 1, 1, p.n, 1, 1, 1, 1, 0, 0, 0, 1, 1};
    const Div by_one = div_by(1);
    const PixelColumns<T> left = {a, one, first_row, p.m, k_end, by_one, by_one, div_by(p.m), by_one, p.m % 4 == 0};
    const Finish finish = {c + blockIdx.z * p.m * p.n, p.n, nullptr, first_row, p.m, bias, add, saved, p.epilogue, order_of(p.epilogue)};
    if (TB) product<T>(left, right_transposed<T>(p, b, first_column, k_end), EveryStep(), k, k_end, finish, first_column, shared);
    else product<T>(left, right<T>(p, b, first_column, k_end), EveryStep(), k, k_end, finish, first_column, shared);
}

TILE_KERNEL(256, matmul_nn_128x128)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<128, 128, 8, 8>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(128, matmul_nn_128x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<128, 32, 8, 4>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(64, matmul_nn_32x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<32, 32, 4, 4>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(256, matmul_nt_128x128)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<128, 128, 8, 8>, true>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(128, matmul_nt_128x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<128, 32, 8, 4>, true>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(64, matmul_nt_32x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_rows<Tile<32, 32, 4, 4>, true>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(256, matmul_tn_128x128)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_columns<Tile<128, 128, 8, 8>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(128, matmul_tn_128x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_columns<Tile<128, 32, 8, 4>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(64, matmul_tn_32x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_columns<Tile<32, 32, 4, 4>, false>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(128, matmul_tt_128x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_columns<Tile<128, 32, 8, 4>, true>(p, a, b, c, bias, add, saved);
}
TILE_KERNEL(64, matmul_tt_32x32)
(Matmul p, const float* a, const float* b, float* c, const float* bias, const float* add, const float* saved) {
    matmul_columns<Tile<32, 32, 4, 4>, true>(p, a, b, c, bias, add, saved);
}

// c = the sum of the chunks in order. Launch: as the elementwise kernels, over c [m, n]. Bound by memory.
KERNEL(THREADS, matmul_join)(Matmul p, const float* __restrict__ partial, float* __restrict__ c) {
    const u32 len = p.m * p.n, chunks = (p.k + p.chunk - 1) / p.chunk;
    FOR_EACH(i, len) {
        float sum = 0.0f;
        for (u32 chunk = 0; chunk < chunks; chunk++) sum += partial[chunk * len + i];
        c[i] = sum;
    }
}
