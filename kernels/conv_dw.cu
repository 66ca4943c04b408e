// dw of a convolution from x and dy; exactly zero for closed weights.
//
// Shapes: x [n, h, w, cin], dy [n, oh, ow, cout], dw [kh, kw, cin, cout]; partial [chunks, kh, kw, cin,
// cout] if there are several chunks.
// M = (tap, input channel), N = cout, K = pixels of dy. There are few weights and many pixels, so K is
// split. Blocks of their own (grid z) sum each chunk of pixels, and `conv_dw_join` adds the chunks in order,
// without atomics. Chunks are fixed by the geometry of the weights, never by the card. Tiles in which every
// weight is closed do nothing.
// Launch: grid (tiles of M, tiles of N, chunks), the tile's threads per block, shared memory for the tile's
// stages.
// Cost: 2 FLOPs per open weight and pixel of dy. Bound by arithmetic.
#include "product.cuh"

// Whether the weight of row m = (tap, input channel) to output channel `co` is open.
__device__ __forceinline__ bool is_open(const Conv& g, u32 m, u32 co) {
    if (g.mask == 0) return true;
    const u32 tap = m / g.cin, centre = centre_tap(g);
    return tap < centre || (tap == centre && m % g.cin < open_channels(g, co));
}

template <class T>
__device__ __forceinline__ void conv_dw_tile(const ConvDw& p, const float* x, const float* dy, float* dw) {
    extern __shared__ __align__(16) float shared[];
    const Conv& g = p.conv;
    const u32 rows = g.kh * g.kw * g.cin, first_row = blockIdx.x * T::BM, first_column = blockIdx.y * T::BN;
    const u32 row_end = first_row + T::BM < rows ? first_row + T::BM : rows;
    const u32 column_end = first_column + T::BN < g.cout ? first_column + T::BN : g.cout;
    // Rows are open down to the centre tap, and there as far as any output channel of the tile may see.
    u32 m_end = rows;
    if (g.mask != 0) m_end = centre_tap(g) * g.cin + most_open(g, first_column, column_end);
    const u32 pixels = g.n * g.oh * g.ow, k = blockIdx.z * p.chunk;
    const u32 k_end = k + p.chunk < pixels ? k + p.chunk : pixels;
    float* out = dw + blockIdx.z * rows * g.cout;
    if (first_row < m_end) {
        const PixelColumns<T> a = {x, g, first_row, m_end, k_end, div_by(g.oh * g.ow), div_by(g.ow), div_by(g.cin),
                                   div_by(g.kw), g.cin % 4 == 0};
        const DenseRows<T> b = {dy, first_column, g.cout, k_end, g.cout % 4 == 0, false, 0, g};
        const Epilogue none = {};
        const Finish finish = {out, g.cout, nullptr, first_row, m_end < row_end ? m_end : row_end, nullptr, nullptr, nullptr, none, 0};
        product<T>(a, b, EveryStep(), k, k_end, finish, first_column, shared);
    }
    // With several chunks the join writes the zeros.
    if (g.mask == 0 || p.chunks > 1) return;
    __syncthreads();
    const u32 columns = column_end - first_column;
    for (u32 i = threadIdx.x; i < (row_end - first_row) * columns; i += T::SIZE) {
        const u32 m = first_row + i / columns, co = first_column + i % columns;
        if (!is_open(g, m, co)) out[m * g.cout + co] = 0.0f;
    }
}

TILE_KERNEL(128, conv_dw_128x64)(ConvDw p, const float* x, const float* dy, float* dw) {
    conv_dw_tile<Tile<128, 64, 8, 8>>(p, x, dy, dw);
}
TILE_KERNEL(128, conv_dw_128x32)(ConvDw p, const float* x, const float* dy, float* dw) {
    conv_dw_tile<Tile<128, 32, 8, 4>>(p, x, dy, dw);
}
TILE_KERNEL(128, conv_dw_128x8)(ConvDw p, const float* x, const float* dy, float* dw) {
    conv_dw_tile<Tile<128, 8, 4, 2>>(p, x, dy, dw);
}
TILE_KERNEL(64, conv_dw_32x32)(ConvDw p, const float* x, const float* dy, float* dw) {
    conv_dw_tile<Tile<32, 32, 4, 4>>(p, x, dy, dw);
}

// dw = the sum of the chunks in order, zero where the weight is closed. Launch: as the elementwise kernels,
// over the weights. Bound by memory.
KERNEL(THREADS, conv_dw_join)(ConvDw p, const float* __restrict__ partial, float* __restrict__ dw) {
    const Conv& g = p.conv;
    const u32 len = g.kh * g.kw * g.cin * g.cout;
    FOR_EACH(i, len) {
        float sum = 0.0f;
        if (is_open(g, i / g.cout, i % g.cout))
            for (u32 chunk = 0; chunk < p.chunks; chunk++) sum += partial[chunk * len + i];
        dw[i] = sum;
    }
}
