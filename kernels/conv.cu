// y = conv(x, w), then the epilogue, as one implicit matrix product.
//
// Shapes: x [n, h, w, cin], w [kh, kw, cin, cout], y [n, oh, ow, cout]; bias [cout], add and saved as y, or
// null.
// M = pixels of y, N = cout, K = (tap, channel) in the order of the weights. The open taps of a mask are the
// first ones in that order, so closed taps are left out: K ends after the last channel of the centre tap
// that any output channel of the tile may see.
// Launch: grid (tiles of M, tiles of N), one block per tile with the tile's threads; shared memory for the
// tile's stages and one place per row.
// Cost: 2 FLOPs per open weight and pixel of y; bytes of every operand once, if x stays in L2 across taps.
// Bound by arithmetic from about 16 channels on.
#include "product.cuh"

template <class T>
__device__ __forceinline__ void conv_tile(const Product& p, const float* x, const float* w, float* y, const float* bias,
                                          const float* add, const float* saved) {
    extern __shared__ __align__(16) float shared[];
    const Conv& g = p.conv;
    RowPlace* places = (RowPlace*)shared;
    float* stages = shared + T::BM * 4;
    const u32 rows = g.n * g.oh * g.ow, first_row = blockIdx.x * T::BM, first_column = blockIdx.y * T::BN;
    for (u32 r = threadIdx.x; r < T::BM; r += T::SIZE) {
        const u32 m = first_row + r, image = m / (g.oh * g.ow), row = m / g.ow % g.oh, column = m % g.ow;
        const bool real = m < rows;
        // A row that does not exist gets a place so far above the image that all its taps are in the
        // padding.
        places[r] = {(int)(image * g.h * g.w), real ? (int)(row * g.sh) - (int)g.ph : -(1 << 24),
                     (int)(column * g.sw) - (int)g.pw, real ? m : ~0u};
    }
    u32 k_end = g.kh * g.kw * g.cin;
    bool partial = false;
    if (g.mask != 0) {
        const u32 high = first_column + T::BN < g.cout ? first_column + T::BN : g.cout;
        k_end = centre_tap(g) * g.cin + most_open(g, first_column, high);
        partial = g.groups > 1;
    }
    __syncthreads();
    const PixelRows<T> a = {x, places, (int)g.h, (int)g.w, 1, g.cin, k_end, div_by(g.cin), div_by(g.kw), g.cin % 4 == 0};
    const DenseRows<T> b = {w, first_column, g.cout, k_end, g.cout % 4 == 0, partial, centre_tap(g) * g.cin, g};
    const Finish finish = {y, g.cout, places, 0, 0, bias, add, saved, p.epilogue, order_of(p.epilogue)};
    product<T>(a, b, EveryStep(), 0, k_end, finish, first_column, stages);
}

TILE_KERNEL(128, conv_128x64)
(Product p, const float* x, const float* w, float* y, const float* bias, const float* add, const float* saved) {
    conv_tile<Tile<128, 64, 8, 8>>(p, x, w, y, bias, add, saved);
}
TILE_KERNEL(128, conv_128x32)
(Product p, const float* x, const float* w, float* y, const float* bias, const float* add, const float* saved) {
    conv_tile<Tile<128, 32, 8, 4>>(p, x, w, y, bias, add, saved);
}
TILE_KERNEL(128, conv_128x8)
(Product p, const float* x, const float* w, float* y, const float* bias, const float* add, const float* saved) {
    conv_tile<Tile<128, 8, 4, 2>>(p, x, w, y, bias, add, saved);
}
TILE_KERNEL(64, conv_32x32)
(Product p, const float* x, const float* w, float* y, const float* bias, const float* add, const float* saved) {
    conv_tile<Tile<32, 32, 4, 4>>(p, x, w, y, bias, add, saved);
}
