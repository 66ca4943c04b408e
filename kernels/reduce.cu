// Sums over any set of axes, and the expansion, which is their counterpart.
//
// Shapes: large [kept0, folded0, kept1, folded1, kept2], small [kept0, kept1, kept2].
// Cost: one addition and 4 bytes per element of the large tensor: bound by memory.
#include "common.cuh"

// Row of `kept2` elements of the large tensor: row `r` (of folded0 * folded1) of sum `s` (of kept0 * kept1).
__device__ __forceinline__ u32 large_row(const Axes& p, u32 s, u32 r) {
    return ((s / p.kept1 * p.folded0 + r / p.folded1) * p.kept1 + s % p.kept1) * p.folded1 + r % p.folded1;
}

// out[sums, parts, kept2]: the sum over `part_rows` rows of x. If there are several partial sums, a second
// launch adds them. There are no atomics, and the order of a sum depends on the geometry alone.
//
// Launch: THREADS threads, grid (groups of sums and parts, groups of columns). A block has neighbouring
// columns, with `lanes` threads per column. If there are few columns, a block computes several sums. Lane l
// adds the rows l, l + lanes, ... of its part. Then the lanes are added by halves in shared memory.
KERNEL(THREADS, sum)(Axes p, const float* __restrict__ x, float* __restrict__ out) {
    __shared__ float partial[THREADS];
    const u32 tid = threadIdx.x, lanes = p.lanes;
    // Neighbouring columns of a block, a power of two.
    u32 wide = 1;
    while (wide < p.kept2 && wide * lanes < THREADS) wide *= 2;
    const u32 column = blockIdx.y * wide + tid % wide, lane = tid / wide % lanes;
    const u32 job = blockIdx.x * (THREADS / (wide * lanes)) + tid / (wide * lanes);
    const u32 sum_index = job / p.parts, part = job % p.parts;
    const bool real = sum_index < p.kept0 * p.kept1 && column < p.kept2;
    float sum = 0.0f;
    if (real) {
        const u32 first = part * p.part_rows, rows = p.folded0 * p.folded1;
        const u32 end = first + p.part_rows < rows ? first + p.part_rows : rows;
        for (u32 r = first + lane; r < end; r += lanes) sum += x[large_row(p, sum_index, r) * p.kept2 + column];
    }
    partial[tid] = sum;
    for (u32 half = lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) partial[tid] += partial[tid + half * wide];
    }
    if (real && lane == 0) out[job * p.kept2 + column] = partial[tid];
}

// y = x repeated along the folded axes. Launch: as the elementwise kernels, over the elements of y.
KERNEL(THREADS, expand)(Axes p, const float* __restrict__ x, float* __restrict__ y) {
    const u32 len = p.kept0 * p.folded0 * p.kept1 * p.folded1 * p.kept2;
    FOR_EACH(i, len) {
        const u32 outer = i / p.kept2 / p.folded1;
        const u32 row = outer / (p.kept1 * p.folded0) * p.kept1 + outer % p.kept1;
        y[i] = x[row * p.kept2 + i % p.kept2];
    }
}
