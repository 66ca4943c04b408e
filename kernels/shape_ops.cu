// Kernels that move elements: pad, slice, gather, scatter.
//
// Launch: blocks of THREADS threads, at most as many as fill the card; a thread strides over the elements of
// the output.
// Cost: index arithmetic and 8 bytes per element: bound by memory. The innermost axis is contiguous on both
// sides.
#include "common.cuh"

// Writes x[inner] into the region of y[outer], and zeros around it.
KERNEL(THREADS, pad)(Region p, const float* __restrict__ x, float* __restrict__ y) {
    const u32 len = p.outer[0] * p.outer[1] * p.outer[2] * p.outer[3];
    FOR_EACH(i, len) {
        u32 rest = i, at = 0, stride = 1;
        bool inside = true;
#pragma unroll
        for (int axis = 3; axis >= 0; axis--) {
            // Before the region, the difference wraps around, so it is too large as well.
            const u32 offset = rest % p.outer[axis] - p.before[axis];
            inside = inside && offset < p.inner[axis];
            at += offset * stride;
            stride *= p.inner[axis];
            rest /= p.outer[axis];
        }
        y[i] = inside ? x[at] : 0.0f;
    }
}

// Copies the region of x[outer] to y[inner].
KERNEL(THREADS, slice)(Region p, const float* __restrict__ x, float* __restrict__ y) {
    const u32 len = p.inner[0] * p.inner[1] * p.inner[2] * p.inner[3];
    FOR_EACH(i, len) {
        u32 rest = i, at = 0, stride = 1;
#pragma unroll
        for (int axis = 3; axis >= 0; axis--) {
            at += (rest % p.inner[axis] + p.before[axis]) * stride;
            stride *= p.outer[axis];
            rest /= p.inner[axis];
        }
        y[i] = x[at];
    }
}

// y[i] = table[index[i]]: table[others, width], index[rows], y[rows, width]; NaN if the index is out of
// range
KERNEL(THREADS, gather)(Rows p, const float* __restrict__ table, const u32* __restrict__ index, float* __restrict__ y) {
    FOR_EACH(i, p.rows * p.width) {
        const u32 row = index[i / p.width];
        y[i] = row < p.others ? table[row * p.width + i % p.width] : NAN_F;
    }
}

// y[index[i]] += dy[i] in order of i: dy[others, width], index[others], y[rows, width]. If any index is out
// of range, all of y becomes NaN, because there is no row that could show the error. Each thread owns an
// element of y and goes through all indices, so that each element is summed in the order of i. The reads of
// the indices are broadcasts. The kernel is meant for tables of classes, which have few rows.
KERNEL(THREADS, scatter)(Rows p, const float* __restrict__ dy, const u32* __restrict__ index, float* __restrict__ y) {
    FOR_EACH(i, p.rows * p.width) {
        const u32 own = i / p.width, column = i % p.width;
        float sum = 0.0f;
        for (u32 k = 0; k < p.others; k++) {
            const u32 row = index[k];
            if (row == own) sum += dy[k * p.width + column];
            if (row >= p.rows) sum = NAN_F;
        }
        y[i] = sum;
    }
}
