// The one matrix product behind matmul, conv, conv_dx and conv_dw: out[M, N] = sum over k of A[M, K] B[K,
// N]. A is gathered from an image while it is read (implicit GEMM), and nothing is copied beforehand.
//
// A block computes a tile of BM x BN outputs. Steps of BK = 16 along K go through two stages of shared
// memory: while one stage is multiplied, asynchronous copies fill the other, with one barrier per step. A
// thread holds TM x TN sums in registers and reads its operands from shared memory 16 bytes at a time, in
// the order of global memory:
//
//   A by rows     [BM][BK + 4]   k runs fastest: pixels of a feature map, rows of a matrix
//   A by columns  [BK][BM + 4]   m runs fastest: the x of a weight gradient, a transposed matrix
//   B by rows     [BK][BN + 4]   n runs fastest: weights in the forward pass, dy of a weight gradient
//   B by columns  [BN][BK + 4]   k runs fastest: weights in the backward pass, a transposed matrix
//
// The padding of 4 keeps neighbouring rows in different banks. Global reads are 16 bytes wide if the number
// of channels is a multiple of four, and 4 bytes otherwise (the first and the last layer).
//
// Every output is summed in ascending order of k, whatever the tile: the bits depend on the geometry alone.
//
// Bound by arithmetic: a step of a 128x64 tile reads 12 KiB and does 2^18 multiplications and additions.
#pragma once
#include "common.cuh"

#define BK 16

// Division by a number that is the same for all threads, as a multiplication; for dividends below 2^31.
struct Div {
    u32 d, factor, shift;
};
__device__ __forceinline__ Div div_by(u32 d) {
    d = d == 0 ? 1 : d;
    const u32 shift = d == 1 ? 0 : 32 - __clz((int)(d - 1));
    return {d, (u32)((((1ull << shift) - d) << 32) / d) + 1, shift};
}
__device__ __forceinline__ u32 operator/(u32 n, const Div& by) { return (__umulhi(n, by.factor) + n) >> by.shift; }

template <int BM_, int BN_, int TM_, int TN_>
struct Tile {
    static constexpr int BM = BM_, BN = BN_, TM = TM_, TN = TN_;
    // Threads of a block, as a grid of ROWS x COLUMNS.
    static constexpr int ROWS = BM / TM, COLUMNS = BN / TN, SIZE = ROWS * COLUMNS;
    // Neighbouring rows and columns that a thread holds where they are neighbours in shared memory.
    static constexpr int ROW_RUN = TM >= 8 ? 4 : TM / 2, COLUMN_RUN = TN >= 4 ? 4 : TN;
    // Floats of one stage; either layout of an operand fits. `shared_bytes` in cuda/product.rs says the
    // same.
    static constexpr int A_FLOATS = BM * (BK + 4), B_FLOATS = BN * (BK + 4) > BK * (BN + 4) ? BN * (BK + 4) : BK * (BN + 4);
};

// ---- masks -----------------------------------------------------------------------------------------------

// Input channels that an output channel of colour group `group` may see at the centre tap:
// `ConvGeom::open_channels`.
__device__ __forceinline__ u32 open_to_group(const Conv& g, u32 group) {
    const u32 seen = group + (g.mask == 2 ? 1 : 0);
    const u32 open = (seen * g.cin + g.groups - 1) / g.groups;
    return open < g.cin ? open : g.cin;
}
__device__ __forceinline__ u32 open_channels(const Conv& g, u32 co) {
    const u32 block = g.cout / g.blocks;
    return open_to_group(g, co % block * g.groups / block);
}
// The most that any output channel in [low, high) may see. Groups ascend within a block of output channels.
__device__ __forceinline__ u32 most_open(const Conv& g, u32 low, u32 high) {
    const u32 block = g.cout / g.blocks;
    if (low / block != (high - 1) / block) return open_to_group(g, (block - 1) * g.groups / block);
    return open_channels(g, high - 1);
}
// Position of the centre tap in raster order: every tap before it is open, every tap behind it closed.
__device__ __forceinline__ u32 centre_tap(const Conv& g) { return g.kh / 2 * g.kw + g.kw / 2; }

// ---- operands --------------------------------------------------------------------------------------------

// What a row of A is: the place of its first tap in the source, and the row of the output that it makes.
struct __align__(16) RowPlace {
    int image, row, column;  // pixels before the image; row and column of tap (0, 0), which may lie outside
    u32 out;                 // row of the output; ~0 for none
};

// A by rows: row m is an output pixel, k is (tap, channel); the source is [images, height, width, channels].
template <class T>
struct PixelRows {
    static constexpr bool BY_ROWS = true;
    const float* source;
    const RowPlace* places;  // BM of them, in shared memory
    int height, width, direction;  // rows and columns of the source; +1 forwards, -1 backwards
    u32 channels, k_end;
    Div by_channels, by_tap_columns;
    bool wide;

    __device__ __forceinline__ bool address(const RowPlace& at, u32 k, const float*& from) const {
        const u32 tap = k / by_channels, i = tap / by_tap_columns;
        const int row = at.row + direction * (int)i, column = at.column + direction * (int)(tap - i * by_tap_columns.d);
        const bool valid = k < k_end && (u32)row < (u32)height && (u32)column < (u32)width;
        const u32 pixel = (u32)at.image + (u32)row * (u32)width + (u32)column;
        from = valid ? source + (pixel * channels + (k - tap * channels)) : source;
        return valid;
    }
    __device__ __forceinline__ void load(float* stage, u32 k0, u32 tid) const {
#pragma unroll
        for (int s = 0; s < (T::BM * BK / 4 + T::SIZE - 1) / T::SIZE; s++) {
            const u32 slot = tid + s * T::SIZE, row = slot / (BK / 4), k = slot % (BK / 4) * 4;
            if (T::BM * BK / 4 % T::SIZE != 0 && slot >= T::BM * BK / 4) break;
            const RowPlace at = places[row];
            const float* from;
            if (wide) {
                const bool valid = address(at, k0 + k, from);
                cp_async16(stage + row * (BK + 4) + k, from, valid);
            } else {
                for (u32 e = 0; e < 4; e++) {
                    const bool valid = address(at, k0 + k + e, from);
                    cp_async4(stage + row * (BK + 4) + k + e, from, valid);
                }
            }
        }
    }
};

// A by columns: m is (tap, channel), k is an output pixel; the source is x [images, h, w, cin].
template <class T>
struct PixelColumns {
    static constexpr bool BY_ROWS = false;
    const float* source;
    Conv g;
    u32 first, m_end, k_end;  // first m of the tile; ends of m and k
    Div by_image, by_row, by_channels, by_tap_columns;
    bool wide;

    __device__ __forceinline__ bool address(u32 m, u32 k, const float*& from) const {
        const u32 tap = m / by_channels, i = tap / by_tap_columns, j = tap - i * g.kw;
        const u32 image = k / by_image, pixel = k - image * by_image.d, y = pixel / by_row, x = pixel - y * by_row.d;
        const int row = (int)(y * g.sh + i) - (int)g.ph, column = (int)(x * g.sw + j) - (int)g.pw;
        const bool valid = m < m_end && k < k_end && (u32)row < g.h && (u32)column < g.w;
        from = valid ? source + (((image * g.h + row) * g.w + column) * g.cin + (m - tap * g.cin)) : source;
        return valid;
    }
    __device__ __forceinline__ void load(float* stage, u32 k0, u32 tid) const {
#pragma unroll
        for (int s = 0; s < (T::BM * BK / 4 + T::SIZE - 1) / T::SIZE; s++) {
            const u32 slot = tid + s * T::SIZE, k = slot / (T::BM / 4), m = slot % (T::BM / 4) * 4;
            if (T::BM * BK / 4 % T::SIZE != 0 && slot >= T::BM * BK / 4) break;
            const float* from;
            if (wide) {
                const bool valid = address(first + m, k0 + k, from);
                cp_async16(stage + k * (T::BM + 4) + m, from, valid);
            } else {
                for (u32 e = 0; e < 4; e++) {
                    const bool valid = address(first + m + e, k0 + k, from);
                    cp_async4(stage + k * (T::BM + 4) + m + e, from, valid);
                }
            }
        }
    }
};

// B by rows: a dense matrix [K, N]; `partial` where the mask closes some of the channels of the centre tap.
template <class T>
struct DenseRows {
    static constexpr bool BY_ROWS = true;
    const float* source;
    u32 first, n_end, k_end;  // first n of the tile; ends of n (the row length) and k
    bool wide, partial;
    u32 centre;  // k of the first channel of the centre tap
    Conv g;

    __device__ __forceinline__ void load(float* stage, u32 k0, u32 tid) const {
#pragma unroll
        for (int s = 0; s < (T::BN * BK / 4 + T::SIZE - 1) / T::SIZE; s++) {
            const u32 slot = tid + s * T::SIZE, row = slot / (T::BN / 4), n = slot % (T::BN / 4) * 4;
            if (T::BN * BK / 4 % T::SIZE != 0 && slot >= T::BN * BK / 4) break;
            const u32 k = k0 + row;
            float* to = stage + row * (T::BN + 4) + n;
            const bool masked = partial && k >= centre;
            if (wide && !masked) {
                const bool valid = k < k_end && first + n < n_end;
                cp_async16(to, valid ? source + k * n_end + first + n : source, valid);
            } else {
                for (u32 e = 0; e < 4; e++) {
                    const u32 column = first + n + e;
                    bool valid = k < k_end && column < n_end;
                    if (valid && masked) valid = k - centre < open_channels(g, column);
                    cp_async4(to + e, valid ? source + k * n_end + column : source, valid);
                }
            }
        }
    }
};

// B by columns: the weights [kh, kw, cin, cout] of a convolution read backwards: n is an input channel, k is
// (tap, output channel).
template <class T>
struct WeightColumns {
    static constexpr bool BY_ROWS = false;
    const float* source;
    u32 first, n_end, k_end, channels;  // first n of the tile; ends of n and k; output channels
    u32 tap0, tap_row, tap_column, centre;  // tap (0, 0) of the phase; from one to the next; k of the centre tap, ~0 for none
    Div by_channels, by_tap_columns;
    bool wide, partial;
    Conv g;

    __device__ __forceinline__ bool address(u32 n, u32 k, const float*& from) const {
        const u32 t = k / by_channels, i = t / by_tap_columns, co = k - t * channels;
        const u32 tap = tap0 + i * tap_row + (t - i * by_tap_columns.d) * tap_column;
        bool valid = k < k_end && n < n_end;
        if (valid && partial && k >= centre) valid = n < open_channels(g, co);
        from = valid ? source + ((tap * n_end + n) * channels + co) : source;
        return valid;
    }
    __device__ __forceinline__ void load(float* stage, u32 k0, u32 tid) const {
#pragma unroll
        for (int s = 0; s < (T::BN * BK / 4 + T::SIZE - 1) / T::SIZE; s++) {
            const u32 slot = tid + s * T::SIZE, n = slot / (BK / 4), k = slot % (BK / 4) * 4;
            if (T::BN * BK / 4 % T::SIZE != 0 && slot >= T::BN * BK / 4) break;
            float* to = stage + n * (BK + 4) + k;
            const float* from;
            if (wide && !(partial && k0 + k + 3 >= centre)) {
                const bool valid = address(first + n, k0 + k, from);
                cp_async16(to, from, valid);
            } else {
                for (u32 e = 0; e < 4; e++) {
                    const bool valid = address(first + n, k0 + k + e, from);
                    cp_async4(to + e, from, valid);
                }
            }
        }
    }
};

// ---- multiplication --------------------------------------------------------------------------------------

// The row of the tile to which the i-th sum of a thread in row `ty` belongs. The first half of the sums is
// in the first half of the rows.
template <class T, bool BY_ROWS>
__device__ __forceinline__ u32 tile_row(u32 ty, int i) {
    constexpr int V = T::ROW_RUN;
    return BY_ROWS ? ty + i * T::ROWS : ty * V + i % V + i / V * (V * T::ROWS);
}
// The column to which the j-th sum belongs.
template <class T, bool BY_ROWS>
__device__ __forceinline__ u32 tile_column(u32 tx, int j) {
    constexpr int V = T::COLUMN_RUN;
    return BY_ROWS ? tx * V + j % V + j / V * (V * T::COLUMNS) : tx + j * T::COLUMNS;
}

// V neighbouring floats, aligned to their size.
template <int V>
__device__ __forceinline__ void read(const float* from, float* to) {
    if constexpr (V == 4) {
        const float4 v = *(const float4*)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (V == 2) {
        const float2 v = *(const float2*)from;
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = *from;
    }
}

// sums += one stage of A times one stage of B, in ascending order of k.
template <class T, bool A_ROWS, bool B_ROWS>
__device__ __forceinline__ void multiply(const float* a, const float* b, u32 ty, u32 tx, float (&sums)[T::TM][T::TN]) {
#pragma unroll 1
    for (int k4 = 0; k4 < BK; k4 += 4) {
        float left[4][T::TM], right[4][T::TN];
        if (A_ROWS) {
#pragma unroll
            for (int i = 0; i < T::TM; i++) {
                const float4 v = *(const float4*)(a + tile_row<T, true>(ty, i) * (BK + 4) + k4);
                left[0][i] = v.x, left[1][i] = v.y, left[2][i] = v.z, left[3][i] = v.w;
            }
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int i = 0; i < T::TM; i += T::ROW_RUN)
                    read<T::ROW_RUN>(a + (k4 + k) * (T::BM + 4) + tile_row<T, false>(ty, i), left[k] + i);
        }
        if (B_ROWS) {
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int j = 0; j < T::TN; j += T::COLUMN_RUN)
                    read<T::COLUMN_RUN>(b + (k4 + k) * (T::BN + 4) + tile_column<T, true>(tx, j), right[k] + j);
        } else {
#pragma unroll
            for (int j = 0; j < T::TN; j++) {
                const float4 v = *(const float4*)(b + tile_column<T, false>(tx, j) * (BK + 4) + k4);
                right[0][j] = v.x, right[1][j] = v.y, right[2][j] = v.z, right[3][j] = v.w;
            }
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < T::TM; i++)
#pragma unroll
                for (int j = 0; j < T::TN; j++) sums[i][j] = __fmaf_rn(left[k][i], right[k][j], sums[i][j]);
    }
}

// ---- what becomes of the sums ----------------------------------------------------------------------------

// Writes a finished element, or four neighbours, through the epilogue. `rows` says which row of the output a
// row of the tile is; without it they are `first_row` and on.
struct Finish {
    float* out;  // [rows, columns]
    u32 columns;
    const RowPlace* places;
    u32 first_row, rows;
    const float *bias, *add, *saved;  // [columns], [rows, columns], [rows, columns]; null where the epilogue has none
    const Epilogue& epilogue;
    u32 order;  // the kinds of the epilogue, a byte each, so that they lie in a register

    __device__ __forceinline__ u32 row(u32 r) const {
        if (places) return places[r].out;
        return first_row + r < rows ? first_row + r : ~0u;
    }
    template <int V>
    __device__ __forceinline__ void store(u32 at, u32 column, float (&v)[V]) const {
#pragma unroll 1
        for (u32 kinds = order; kinds != 0; kinds >>= 8) {
            const u32 kind = kinds & 0xff;
            const float* from = kind == 1 ? bias + column : kind == 2 ? add + at : saved + at;
            float other[V] = {};
            if (kind != 3) read<V>(from, other);
#pragma unroll
            for (int e = 0; e < V; e++) {
                if (kind <= 2) v[e] += other[e];
                else if (kind == 3) v[e] = unary_of(epilogue.act, epilogue.act_slope, v[e]);
                else if (kind == 4) v[e] = unary_bwd_of(epilogue.act_bwd, epilogue.act_bwd_slope, v[e], other[e]);
                else v[e] = NAN_F;
            }
        }
        if constexpr (V == 4) *(float4*)(out + at) = make_float4(v[0], v[1], v[2], v[3]);
        else out[at] = v[0];
    }
};

__device__ __forceinline__ u32 order_of(const Epilogue& e) {
    return e.kinds[0] | e.kinds[1] << 8 | e.kinds[2] << 16 | e.kinds[3] << 24;
}

// Steps of k that are not skipped: the default is all of them.
struct EveryStep {
    __device__ __forceinline__ u32 from(u32 k) const { return k; }
};

// One tile: sums over [k, k_end), then `finish`. All threads of the block call it, `stages` is 16-byte
// aligned shared memory.
template <class T, class A, class B, class Steps>
__device__ __forceinline__ void product(const A& a, const B& b, const Steps& steps, u32 k, u32 k_end, const Finish& finish,
                                        u32 first_column, float* stages) {
    const u32 tid = threadIdx.x, tx = tid % T::COLUMNS, ty = tid / T::COLUMNS;
    constexpr int STAGE = T::A_FLOATS + T::B_FLOATS;
    float sums[T::TM][T::TN] = {};
    k = steps.from(k);
    if (k < k_end) {
        a.load(stages, k, tid);
        b.load(stages + T::A_FLOATS, k, tid);
    }
    for (int stage = 0; k < k_end; stage ^= 1) {
        cp_async_wait();
        // All copies have arrived, and all threads have finished with the other stage.
        __syncthreads();
        const u32 next = steps.from(k + BK);
        if (next < k_end) {
            a.load(stages + (stage ^ 1) * STAGE, next, tid);
            b.load(stages + (stage ^ 1) * STAGE + T::A_FLOATS, next, tid);
        }
        multiply<T, A::BY_ROWS, B::BY_ROWS>(stages + stage * STAGE, stages + stage * STAGE + T::A_FLOATS, ty, tx, sums);
        k = next;
    }
    // Through shared memory once more, half the rows at a time: global memory is then written in whole rows,
    // and the epilogue is compiled once and not for every sum.
    constexpr int HALF = T::BM / 2, PITCH = T::BN + 4;
    const bool wide = finish.columns % 4 == 0;
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < T::TM; i++)
            if (i / (T::TM / 2) == half)
#pragma unroll
                for (int j = 0; j < T::TN; j++)
                    stages[(tile_row<T, A::BY_ROWS>(ty, i) - half * HALF) * PITCH + tile_column<T, B::BY_ROWS>(tx, j)] =
                        sums[i][j];
        __syncthreads();
        if (wide) {
            for (u32 i = tid; i < HALF * T::BN / 4; i += T::SIZE) {
                const u32 r = i / (T::BN / 4), c = i % (T::BN / 4) * 4, row = finish.row(half * HALF + r);
                if (row == ~0u || first_column + c >= finish.columns) continue;
                const float4 four = *(const float4*)(stages + r * PITCH + c);
                float v[4] = {four.x, four.y, four.z, four.w};
                finish.store<4>(row * finish.columns + first_column + c, first_column + c, v);
            }
        } else {
            for (u32 i = tid; i < HALF * T::BN; i += T::SIZE) {
                const u32 r = i / T::BN, c = i % T::BN, row = finish.row(half * HALF + r);
                if (row == ~0u || first_column + c >= finish.columns) continue;
                float v[1] = {stages[r * PITCH + c]};
                finish.store<1>(row * finish.columns + first_column + c, first_column + c, v);
            }
        }
    }
}
