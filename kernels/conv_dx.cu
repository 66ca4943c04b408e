// dx of a convolution from dy, which is also the transposed convolution, then the epilogue.
//
// Shapes: dy [n, oh, ow, cout], w [kh, kw, cin, cout], dx [n, h, w, cin]; bias [cin], add and saved as dx,
// or null.
// This is a gather: every pixel of dx collects what reaches it, so there are no atomics and nothing is
// zeroed first. Pixels of dx whose position modulo the stride is the same (a phase) meet the same taps,
// every stride-th one. Each phase is a dense product, and no zero of a stretched dy is ever multiplied.
// M = pixels of the phase, N = cin, K = (tap of the phase, output channel). Closed taps of a mask come last
// and are left out. Steps at the centre tap whose output channels see none of the tile's input channels are
// skipped.
// Launch: grid (tiles of M, tiles of N, phases), the tile's threads per block, shared memory as for conv.
// Cost: 2 FLOPs per open weight and pixel of dy. Bound by arithmetic from about 16 channels on.
#include "product.cuh"

// Steps that are not fully closed. At the centre tap, these are the steps in which some output channel sees
// an input channel of the tile.
struct OpenSteps {
    const Conv& g;
    bool partial;
    u32 centre, k_end, first_channel;

    __device__ __forceinline__ u32 from(u32 k) const {
        if (!partial) return k;
        for (; k < k_end && k >= centre; k += BK) {
            const u32 low = k - centre, high = low + BK < g.cout ? low + BK : g.cout;
            if (most_open(g, low, high) > first_channel) break;
        }
        return k;
    }
};

template <class T>
__device__ __forceinline__ void conv_dx_tile(const Product& p, const float* dy, const float* w, float* dx, const float* bias,
                                             const float* add, const float* saved) {
    extern __shared__ __align__(16) float shared[];
    const Conv& g = p.conv;
    RowPlace* places = (RowPlace*)shared;
    float* stages = shared + T::BM * 4;
    // Taps i with i = phase (mod stride) meet the rows r with r + pad = phase (mod stride).
    const u32 phase_row = blockIdx.z / g.sw, phase_column = blockIdx.z % g.sw;
    const u32 first_r = (phase_row + g.sh - g.ph % g.sh) % g.sh, first_c = (phase_column + g.sw - g.pw % g.sw) % g.sw;
    const u32 high = first_r < g.h ? (g.h - first_r + g.sh - 1) / g.sh : 0;
    const u32 wide = first_c < g.w ? (g.w - first_c + g.sw - 1) / g.sw : 0;
    const u32 rows = g.n * high * wide, first_row = blockIdx.x * T::BM, first_column = blockIdx.y * T::BN;
    if (first_row >= rows) return;
    const u32 tap_rows = phase_row < g.kh ? (g.kh - phase_row + g.sh - 1) / g.sh : 0;
    const u32 tap_columns = phase_column < g.kw ? (g.kw - phase_column + g.sw - 1) / g.sw : 0;
    for (u32 r = threadIdx.x; r < T::BM; r += T::SIZE) {
        const u32 m = first_row + r, image = m / (high * wide), row = m / wide % high, column = m % wide;
        const bool real = m < rows;
        // Tap t of the phase reads dy at (row + pad) / stride - t.
        places[r] = {(int)(image * g.oh * g.ow), real ? (int)(row + (first_r + g.ph) / g.sh) : -(1 << 24),
                     (int)(column + (first_c + g.pw) / g.sw),
                     real ? (image * g.h + first_r + row * g.sh) * g.w + first_c + column * g.sw : ~0u};
    }
    u32 k_end = tap_rows * tap_columns * g.cout, centre = ~0u;
    if (g.mask != 0) {
        // Taps of the phase before the centre, in raster order; the centre follows where it is of this
        // phase.
        const u32 ci = g.kh / 2, cj = g.kw / 2;
        const bool in_row = ci % g.sh == phase_row, in_phase = in_row && cj % g.sw == phase_column;
        const u32 rows_above = ci > phase_row ? (ci - phase_row + g.sh - 1) / g.sh : 0;
        const u32 left = in_row && cj > phase_column ? (cj - phase_column + g.sw - 1) / g.sw : 0;
        const u32 before = rows_above * tap_columns + left;
        if (in_phase) centre = before * g.cout;
        k_end = (before + (in_phase ? 1 : 0)) * g.cout;
    }
    const bool partial = centre != ~0u;
    __syncthreads();
    const PixelRows<T> a = {dy,    places, (int)g.oh,      (int)g.ow,           -1, g.cout,
                            k_end, div_by(g.cout), div_by(tap_columns), g.cout % 4 == 0};
    const WeightColumns<T> b = {w,
                                first_column,
                                g.cin,
                                k_end,
                                g.cout,
                                phase_row * g.kw + phase_column,
                                g.sh * g.kw,
                                g.sw,
                                centre,
                                div_by(g.cout),
                                div_by(tap_columns),
                                g.cout % 4 == 0,
                                partial,
                                g};
    const Finish finish = {dx, g.cin, places, 0, 0, bias, add, saved, p.epilogue, order_of(p.epilogue)};
    product<T>(a, b, OpenSteps{g, partial, centre, k_end, first_column}, 0, k_end, finish, first_column, stages);
}

TILE_KERNEL(128, conv_dx_128x64)
(Product p, const float* dy, const float* w, float* dx, const float* bias, const float* add, const float* saved) {
    conv_dx_tile<Tile<128, 64, 8, 8>>(p, dy, w, dx, bias, add, saved);
}
TILE_KERNEL(128, conv_dx_128x32)
(Product p, const float* dy, const float* w, float* dx, const float* bias, const float* add, const float* saved) {
    conv_dx_tile<Tile<128, 32, 8, 4>>(p, dy, w, dx, bias, add, saved);
}
TILE_KERNEL(128, conv_dx_128x8)
(Product p, const float* dy, const float* w, float* dx, const float* bias, const float* add, const float* saved) {
    conv_dx_tile<Tile<128, 8, 4, 2>>(p, dy, w, dx, bias, add, saved);
}
TILE_KERNEL(64, conv_dx_32x32)
(Product p, const float* dy, const float* w, float* dx, const float* bias, const float* add, const float* saved) {
    conv_dx_tile<Tile<32, 32, 4, 4>>(p, dy, w, dx, bias, add, saved);
}
