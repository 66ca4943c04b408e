// LSTM scans over images (van den Oord et al. 2016, section 3). A line of cells moves over every image, step
// by step.
//
// The line of a Row LSTM is a row: at step s it is row s, and cell i is in column i. The line of a Diagonal
// LSTM has one cell per row: at step s the cell of row r is in column s - r (counted from the right in
// reverse). So the line is an anti-diagonal. Cells whose column is outside the image are idle. Cell i reads
// `taps` neighbouring states of the line as the previous step left them: from i - taps / 2 on in a row, i -
// 1 (above) and i (in the same row) on a diagonal.
//
// Images are independent: a block computes one whole image, in one launch. A thread computes CELLS
// neighbouring cells of one unit, so a weight is read once for all of them. The states of the line, with
// zeros around, pass from step to step in two halves of shared memory. The cells are there too, and as many
// rows of the weights as fit. There is one barrier per step. Bound by reads of shared memory if d is small,
// by reading the weights if they do not fit.
#include "cell.cuh"

// Neighbouring cells that a thread computes.
#define CELLS 2
// Most threads of a block. If there is more work, each thread does several items.
#define MOST_THREADS 512

// The line of a scan: the positions of its cells at each step.
template <bool DIAGONAL>
struct Line {
    const Scan& p;

    __device__ __forceinline__ u32 cells() const { return DIAGONAL ? p.h : p.w; }
    __device__ __forceinline__ u32 steps() const { return DIAGONAL ? p.h + p.w - 1 : p.h; }
    // Cell i reads the state of cell i + j - before() through tap j.
    __device__ __forceinline__ u32 before() const { return DIAGONAL ? 1 : p.taps / 2; }
    // The cells that are inside the image at a step: from first up to end.
    __device__ __forceinline__ u32 first(u32 step) const { return DIAGONAL && step + 1 > p.w ? step + 1 - p.w : 0; }
    __device__ __forceinline__ u32 end(u32 step) const {
        if (!DIAGONAL) return p.w;
        return step + 1 < p.h ? step + 1 : p.h;
    }
    // The pixel of a cell at a step, as an index over all images.
    __device__ __forceinline__ u32 pixel(u32 step, u32 cell) const {
        const u32 row = DIAGONAL ? cell : step, column = DIAGONAL ? step - cell : cell;
        return (blockIdx.x * p.h + row) * p.w + (DIAGONAL && p.reverse ? p.w - 1 - column : column);
    }
};

// z [n, h, w, 4d], w_ss [taps, d, 4d] -> y [n, h, w, d], kept [n, h, w, 5d]: the activated gates, then the
// cell.
// Launch: a block an image; shared memory: 2 (cells + taps - 1) d states, cells d cells, held 4d weights.
// Cost: 8 taps d FLOPs a unit and pixel.
template <bool DIAGONAL>
__device__ __forceinline__ void scan(const Scan& p, const float* z, const float* w_ss, float* y, float* kept) {
    extern __shared__ __align__(16) float shared[];
    const Line<DIAGONAL> line = {p};
    const u32 d = p.d, padded = (line.cells() + p.taps - 1) * d;
    float *states = shared, *cells = states + 2 * padded, *held = cells + line.cells() * d;
    hold(w_ss, p.held * 4 * d, held);
    for (u32 i = threadIdx.x; i < 2 * padded + line.cells() * d; i += blockDim.x) shared[i] = 0.0f;
    __syncthreads();
    for (u32 step = 0; step < line.steps(); step++) {
        const float* before = states + step % 2 * padded;
        float* after = states + (step + 1) % 2 * padded;
        const u32 first = line.first(step), end = line.end(step);
        for (u32 item = threadIdx.x; item < (end - first + CELLS - 1) / CELLS * d; item += blockDim.x) {
            const u32 i = first + item / d * CELLS, u = item % d;
            float sums[4][CELLS];
#pragma unroll
            for (u32 c = 0; c < CELLS; c++)
#pragma unroll
                for (u32 g = 0; g < 4; g++) sums[g][c] = i + c < end ? z[(line.pixel(step, i + c) * 4 + g) * d + u] : 0.0f;
            // taps rows of d states that overlap: the states of cell i begin at i, those of its neighbour d
            // further.
            for (u32 k = 0; k < p.taps * d; k++) {
                const float* row = k < p.held ? held + k * 4 * d : w_ss + k * 4 * d;
                float state[CELLS];
#pragma unroll
                for (u32 c = 0; c < CELLS; c++) state[c] = i + c < end ? before[(i + c) * d + k] : 0.0f;
#pragma unroll
                for (u32 g = 0; g < 4; g++) {
                    const float weight = row[g * d + u];
#pragma unroll
                    for (u32 c = 0; c < CELLS; c++) sums[g][c] = __fmaf_rn(state[c], weight, sums[g][c]);
                }
            }
#pragma unroll
            for (u32 c = 0; c < CELLS; c++) {
                if (i + c >= end) break;
                const u32 at = (i + c) * d + u, pixel = line.pixel(step, i + c);
                const Cell now = cell(sums[0][c], sums[1][c], sums[2][c], sums[3][c], cells[at]);
                cells[at] = now.c;
                after[line.before() * d + at] = now.h;
                float* keep = kept + pixel * 5 * d + u;
                keep[0] = now.i;
                keep[d] = now.f;
                keep[2 * d] = now.g;
                keep[3 * d] = now.o;
                keep[4 * d] = now.c;
                y[pixel * d + u] = now.h;
            }
        }
        __syncthreads();
    }
}

// dy [n, h, w, d], wt [taps, 4d, d] (each tap transposed), kept [n, h, w, 5d] -> dz [n, h, w, 4d]. Cell i +
// before - j of the next step read the state of cell i through tap j. So the gradient of this state is the
// sum over j of the dz of these cells times the transposed weights.
// Launch: a block an image; shared memory: 2 (cells + taps - 1) 4d gradients of gates, cells d of cells,
// held d weights.
// Cost: 8 taps d FLOPs a unit and pixel.
template <bool DIAGONAL>
__device__ __forceinline__ void scan_bwd(const Scan& p, const float* dy, const float* wt, const float* kept, float* dz) {
    extern __shared__ __align__(16) float shared[];
    const Line<DIAGONAL> line = {p};
    const u32 d = p.d, padded = (line.cells() + p.taps - 1) * 4 * d, ahead = p.taps - 1 - line.before();
    float *gates = shared, *cells = gates + 2 * padded, *held = cells + line.cells() * d;
    hold(wt, p.held * d, held);
    for (u32 i = threadIdx.x; i < 2 * padded + line.cells() * d; i += blockDim.x) shared[i] = 0.0f;
    __syncthreads();
    for (u32 step = line.steps(); step-- > 0;) {
        const float* later = gates + (step + 1) % 2 * padded;
        float* now = gates + step % 2 * padded;
        const u32 first = line.first(step), end = line.end(step);
        for (u32 item = threadIdx.x; item < (end - first + CELLS - 1) / CELLS * d; item += blockDim.x) {
            const u32 i = first + item / d * CELLS, u = item % d;
            float sums[CELLS] = {};
            // Cell i + before - j is at position i + before - j + ahead of the line with its zeros, so tap 0
            // is at the highest position.
            for (u32 j = 0; j < p.taps; j++)
                for (u32 q = 0; q < 4 * d; q++) {
                    const u32 k = j * 4 * d + q;
                    const float weight = k < p.held ? held[k * d + u] : wt[k * d + u];
#pragma unroll
                    for (u32 c = 0; c < CELLS; c++)
                        if (i + c < end) sums[c] = __fmaf_rn(later[(i + c + p.taps - 1 - j) * 4 * d + q], weight, sums[c]);
                }
#pragma unroll
            for (u32 c = 0; c < CELLS; c++) {
                if (i + c >= end) break;
                const u32 at = (i + c) * d + u, pixel = line.pixel(step, i + c);
                // Before the first pixel of a cell, the old cell is zero.
                const bool has_before = step > 0 && i + c >= line.first(step - 1) && i + c < line.end(step - 1);
                const float old = has_before ? kept[(line.pixel(step - 1, i + c) * 5 + 4) * d + u] : 0.0f;
                const float* keep = kept + pixel * 5 * d + u;
                const Cell of = {keep[0], keep[d], keep[2 * d], keep[3 * d], keep[4 * d], 0.0f};
                const CellGradient g = cell_bwd(dy[pixel * d + u] + sums[c], cells[at], old, of);
                cells[at] = g.c;
                const float parts[4] = {g.i, g.f, g.g, g.o};
#pragma unroll
                for (u32 q = 0; q < 4; q++) {
                    now[((i + c + ahead) * 4 + q) * d + u] = parts[q];
                    dz[(pixel * 4 + q) * d + u] = parts[q];
                }
            }
        }
        __syncthreads();
    }
}

KERNEL(MOST_THREADS, row_lstm)(Scan p, const float* z, const float* w_ss, float* y, float* kept) {
    scan<false>(p, z, w_ss, y, kept);
}
KERNEL(MOST_THREADS, row_lstm_bwd)(Scan p, const float* dy, const float* wt, const float* kept, float* dz) {
    scan_bwd<false>(p, dy, wt, kept, dz);
}
KERNEL(MOST_THREADS, diagonal_lstm)(Scan p, const float* z, const float* w_ss, float* y, float* kept) {
    scan<true>(p, z, w_ss, y, kept);
}
KERNEL(MOST_THREADS, diagonal_lstm_bwd)(Scan p, const float* dy, const float* wt, const float* kept, float* dz) {
    scan_bwd<true>(p, dy, wt, kept, dz);
}
