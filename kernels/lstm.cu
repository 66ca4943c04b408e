// LSTM cells and whole sequences (Hochreiter & Schmidhuber 1997, Gers et al. 2000). The order of the gates
// is i, f, g, o.
//
// The rows of the batch are independent. A block computes ROWS rows through all steps in one launch, so
// there is one launch per sequence instead of one per step. A thread owns a unit: its four gates in ROWS
// rows, and its cell. States pass from step to step in shared memory. As many rows of the recurrent weights
// as fit are kept there too; the others come from L2. Bound by reading the weights once per step and block,
// and by the barrier of each step.
#include "cell.cuh"

// Rows of the batch that a block computes.
#define ROWS 4
// Most threads of a block. If there are more units, each thread computes several.
#define MOST_UNITS 512

// z [rows, 4 width], c [rows, width] -> h_next, c_next [rows, width], gates [rows, 4 width]. Launch: as the
// elementwise kernels.
KERNEL(THREADS, lstm_cell)
(Rows p, const float* __restrict__ z, const float* __restrict__ c, float* __restrict__ h_next, float* __restrict__ c_next,
 float* __restrict__ gates) {
    const u32 h = p.width;
    FOR_EACH(at, p.rows * h) {
        const u32 first = at / h * 4 * h + at % h;
        const Cell now = cell(z[first], z[first + h], z[first + 2 * h], z[first + 3 * h], c[at]);
        gates[first] = now.i;
        gates[first + h] = now.f;
        gates[first + 2 * h] = now.g;
        gates[first + 3 * h] = now.o;
        c_next[at] = now.c;
        h_next[at] = now.h;
    }
}

// dh_next, dc_next, c, c_next [rows, width], gates [rows, 4 width] -> dz [rows, 4 width], dc [rows, width]
KERNEL(THREADS, lstm_cell_bwd)
(Rows p, const float* __restrict__ dh_next, const float* __restrict__ dc_next, const float* __restrict__ c,
 const float* __restrict__ c_next, const float* __restrict__ gates, float* __restrict__ dz, float* __restrict__ dc) {
    const u32 h = p.width;
    FOR_EACH(at, p.rows * h) {
        const u32 first = at / h * 4 * h + at % h;
        const Cell now = {gates[first], gates[first + h], gates[first + 2 * h], gates[first + 3 * h], c_next[at], 0.0f};
        const CellGradient d = cell_bwd(dh_next[at], dc_next[at], c[at], now);
        dz[first] = d.i;
        dz[first + h] = d.f;
        dz[first + 2 * h] = d.g;
        dz[first + 3 * h] = d.o;
        dc[at] = d.c;
    }
}

// z [steps, rows, 4h], h0, c0 [rows, h], w [h, 4h] -> y [steps, rows, h], c_n [rows, h], kept [steps, rows,
// 5h]: the gates, then the cell.
// Launch: a multiple of 32 threads up to h, at most MOST_UNITS; a block for each ROWS rows; shared memory: 2
// ROWS h states, ROWS h cells, held 4h weights.
// Cost: 8 h FLOPs a gate row and unit; reads 16 h^2 bytes of weights a step and block, from shared memory
// where they are held.
KERNEL(MOST_UNITS, lstm)
(Sequence p, const float* __restrict__ z, const float* __restrict__ h0, const float* __restrict__ c0,
 const float* __restrict__ w, float* __restrict__ y, float* __restrict__ c_n, float* __restrict__ kept) {
    extern __shared__ __align__(16) float shared[];
    const u32 h = p.h, first = blockIdx.x * ROWS, rows = p.rows - first < ROWS ? p.rows - first : ROWS;
    float *states = shared, *cells = states + 2 * ROWS * h, *held = cells + ROWS * h;
    hold(w, p.held * 4 * h, held);
    for (u32 i = threadIdx.x; i < ROWS * h; i += blockDim.x) {
        const bool real = i / h < rows;
        states[i] = real ? h0[first * h + i] : 0.0f;
        cells[i] = real ? c0[first * h + i] : 0.0f;
    }
    __syncthreads();
    for (u32 t = 0; t < p.steps; t++) {
        const float* before = states + t % 2 * ROWS * h;
        float* after = states + (t + 1) % 2 * ROWS * h;
        for (u32 u = threadIdx.x; u < h; u += blockDim.x) {
            float sums[4][ROWS];
#pragma unroll
            for (u32 r = 0; r < ROWS; r++)
#pragma unroll
                for (u32 g = 0; g < 4; g++) sums[g][r] = r < rows ? z[((t * p.rows + first + r) * 4 + g) * h + u] : 0.0f;
            for (u32 k = 0; k < h; k++) {
                const float* row = k < p.held ? held + k * 4 * h : w + k * 4 * h;
#pragma unroll
                for (u32 g = 0; g < 4; g++) {
                    const float weight = row[g * h + u];
#pragma unroll
                    for (u32 r = 0; r < ROWS; r++) sums[g][r] = __fmaf_rn(before[r * h + k], weight, sums[g][r]);
                }
            }
#pragma unroll
            for (u32 r = 0; r < ROWS; r++) {
                const Cell now = cell(sums[0][r], sums[1][r], sums[2][r], sums[3][r], cells[r * h + u]);
                cells[r * h + u] = now.c;
                after[r * h + u] = now.h;
                if (r >= rows) continue;
                const u32 at = t * p.rows + first + r;
                float* keep = kept + at * 5 * h + u;
                keep[0] = now.i;
                keep[h] = now.f;
                keep[2 * h] = now.g;
                keep[3 * h] = now.o;
                keep[4 * h] = now.c;
                y[at * h + u] = now.h;
            }
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < rows * h; i += blockDim.x) c_n[first * h + i] = cells[i];
}

// y[others, width, rows] = x[others, rows, width]: transposes the recurrent weights, so that the backward
// pass reads them along its units. Launch: 32 x 8 threads, grid (tiles of 32 columns, tiles of 32 rows,
// matrices).
KERNEL(256, transpose)(Rows p, const float* __restrict__ x, float* __restrict__ y) {
    // One float of padding keeps the columns in different banks.
    __shared__ float tile[32][33];
    const u32 left = blockIdx.x * 32, top = blockIdx.y * 32;
    x += blockIdx.z * p.rows * p.width;
    y += blockIdx.z * p.rows * p.width;
    for (u32 r = threadIdx.y; r < 32; r += 8)
        if (top + r < p.rows && left + threadIdx.x < p.width) tile[r][threadIdx.x] = x[(top + r) * p.width + left + threadIdx.x];
    __syncthreads();
    for (u32 r = threadIdx.y; r < 32; r += 8)
        if (left + r < p.width && top + threadIdx.x < p.rows) y[(left + r) * p.rows + top + threadIdx.x] = tile[threadIdx.x][r];
}

// dy [steps, rows, h], dc_n, c0 [rows, h], wt [4h, h] (transposed), kept [steps, rows, 5h] -> dz [steps,
// rows, 4h], dh0, dc0 [rows, h]. dz w^T is the gradient that a step passes to the one before it.
// Launch: as lstm; shared memory: 2 ROWS 4h gradients of gates, ROWS h of states, ROWS h of cells, held h
// weights.
KERNEL(MOST_UNITS, lstm_bwd)
(Sequence p, const float* __restrict__ dy, const float* __restrict__ dc_n, const float* __restrict__ c0,
 const float* __restrict__ wt, const float* __restrict__ kept, float* __restrict__ dz, float* __restrict__ dh0,
 float* __restrict__ dc0) {
    extern __shared__ __align__(16) float shared[];
    const u32 h = p.h, first = blockIdx.x * ROWS, rows = p.rows - first < ROWS ? p.rows - first : ROWS;
    float *gates = shared, *later = gates + 8 * ROWS * h, *cells = later + ROWS * h, *held = cells + ROWS * h;
    hold(wt, p.held * h, held);
    for (u32 i = threadIdx.x; i < 8 * ROWS * h; i += blockDim.x) gates[i] = 0.0f;
    for (u32 i = threadIdx.x; i < ROWS * h; i += blockDim.x) {
        later[i] = 0.0f;
        cells[i] = i / h < rows ? dc_n[first * h + i] : 0.0f;
    }
    __syncthreads();
    for (u32 t = p.steps; t-- > 0;) {
        float* now = gates + t % 2 * 4 * ROWS * h;
        // Only its own thread accesses the gradients of a unit; only dz is shared.
        for (u32 u = threadIdx.x; u < h; u += blockDim.x)
            for (u32 r = 0; r < rows; r++) {
                const u32 at = t * p.rows + first + r;
                const float* keep = kept + at * 5 * h + u;
                const Cell of = {keep[0], keep[h], keep[2 * h], keep[3 * h], keep[4 * h], 0.0f};
                const float c = t == 0 ? c0[(first + r) * h + u] : kept[(at - p.rows) * 5 * h + 4 * h + u];
                const CellGradient d = cell_bwd(dy[at * h + u] + later[r * h + u], cells[r * h + u], c, of);
                cells[r * h + u] = d.c;
                const float parts[4] = {d.i, d.f, d.g, d.o};
#pragma unroll
                for (u32 g = 0; g < 4; g++) {
                    now[(r * 4 + g) * h + u] = parts[g];
                    dz[(at * 4 + g) * h + u] = parts[g];
                }
            }
        __syncthreads();
        for (u32 u = threadIdx.x; u < h; u += blockDim.x) {
            float sums[ROWS] = {};
            for (u32 j = 0; j < 4 * h; j++) {
                const float weight = j < p.held ? held[j * h + u] : wt[j * h + u];
#pragma unroll
                for (u32 r = 0; r < ROWS; r++) sums[r] = __fmaf_rn(now[r * 4 * h + j], weight, sums[r]);
            }
#pragma unroll
            for (u32 r = 0; r < ROWS; r++) later[r * h + u] = sums[r];
        }
    }
    // Every thread reads only values that it wrote itself, because the units are distributed as before.
    for (u32 u = threadIdx.x; u < h; u += blockDim.x)
        for (u32 r = 0; r < rows; r++) {
            dh0[(first + r) * h + u] = later[r * h + u];
            dc0[(first + r) * h + u] = cells[r * h + u];
        }
}
