// Batch, layer and group normalisation.
//
// Statistics are two-pass within a chunk of rows, and the chunks are joined in double precision (Chan et al.
// 1979), so a large mean does not swallow a small variance. In f32 the mean itself may be coarse compared
// with such a deviation. So its rounding error is carried along, in the forward and the backward pass.
//
// Shapes: x, y, dy, dx [rows, c]; gamma, beta, mean, inv_std, dgamma, dbeta [c] (mean and inv_std [rows] for
// layer norm).
// Cost: 7 to 10 FLOPs and 8 to 12 bytes per element, so all kernels are bound by memory. Batch norm reads x
// twice from memory (the second pass over a chunk finds it in the cache). Its gradient reads dy and x twice.
#include "common.cuh"

// A block of the kernels over chunks has 32 columns and 8 lanes of rows.
#define COLUMNS 32
#define LANES 8

// The part of a thread in the kernels over chunks: every LANES-th row of a chunk, from `first` up to `end`,
// in one column.
struct Share {
    u32 column, lane, first, end;
    bool real;  // whether the column exists
};
__device__ __forceinline__ Share share_of(const Norm& p) {
    const u32 column = blockIdx.y * COLUMNS + threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS, begin = blockIdx.x * p.chunk;
    return {column, lane, begin + lane, begin + p.chunk < p.rows ? begin + p.chunk : p.rows, column < p.c};
}

// The sum of `v` over the lanes of a column, in order; every lane gets it. All threads of the block must
// call it.
__device__ __forceinline__ float column_sum(float v, float (*lanes)[COLUMNS]) {
    const u32 column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    __syncthreads();
    lanes[lane][column] = v;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (u32 l = 0; l < LANES; l++) sum += lanes[l][column];
    return sum;
}

// Writes parts[images, chunks, N, c]: for each column of a chunk, the N values summed over the lanes. All
// threads of the block must call it.
template <int N>
__device__ __forceinline__ void store_sums(const Norm& p, const Share& own, float (&sums)[N], float (*lanes)[COLUMNS],
                                           float* parts) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        sums[i] = column_sum(sums[i], lanes);
        const u32 chunk = blockIdx.z * p.chunks + blockIdx.x;
        if (own.real && own.lane == 0) parts[(chunk * N + i) * p.c + own.column] = sums[i];
    }
}

// parts[images, chunks, 3, c]: for each column of a chunk, the mean, then the sum and the sum of squares of
// the deviations from this mean.
// Launch: THREADS threads, grid (chunks, groups of 32 columns, images).
KERNEL(THREADS, batch_norm_statistics)(Norm p, const float* __restrict__ x, float* __restrict__ parts) {
    __shared__ float lanes[LANES][COLUMNS];
    const Share own = share_of(p);
    x += blockIdx.z * p.rows * p.c;
    float sum = 0.0f;
    if (own.real)
        for (u32 r = own.first; r < own.end; r += LANES) sum += x[r * p.c + own.column];
    const float mean = column_sum(sum, lanes) / (float)(own.end - blockIdx.x * p.chunk);
    float deviations = 0.0f, squares = 0.0f;
    if (own.real)
        for (u32 r = own.first; r < own.end; r += LANES) {
            const float d = x[r * p.c + own.column] - mean;
            deviations += d;
            squares += d * d;
        }
    // `store_sums` adds up the lanes. Every lane already has the mean, so only one lane contributes it.
    float sums[3] = {own.lane == 0 ? mean : 0.0f, deviations, squares};
    store_sums(p, own, sums, lanes, parts);
}

// Mean and biased variance over the `share` columns of an image from `first` on, joined from the parts of
// its chunks.
struct Statistics {
    double mean, variance;
};
__device__ __forceinline__ Statistics join_statistics(const Norm& p, const float* parts, u32 first) {
    const double all = p.rows == 0 ? 1.0 : (double)p.rows * p.share;
    double total = 0.0, squares = 0.0;
    for (u32 chunk = 0; chunk < p.chunks; chunk++)
        for (u32 j = first; j < first + p.share; j++) {
            const float* part = parts + chunk * 3 * p.c + j;
            const u32 left = p.rows - chunk * p.chunk;
            const double n = left < p.chunk ? left : p.chunk;
            total += n * ((double)part[0] + (double)part[p.c] / n);
        }
    const double mean = total / all;
    for (u32 chunk = 0; chunk < p.chunks; chunk++)
        for (u32 j = first; j < first + p.share; j++) {
            const float* part = parts + chunk * 3 * p.c + j;
            const u32 left = p.rows - chunk * p.chunk;
            const double n = left < p.chunk ? left : p.chunk;
            const double sum = part[p.c], of = (double)part[0] + sum / n;
            squares += ((double)part[2 * p.c] - sum * sum / n) + n * (of - mean) * (of - mean);
        }
    // Rounding may give a negative variance, which becomes 0. NaN stays NaN.
    const double variance = squares / all;
    return {mean, variance < 0.0 ? 0.0 : variance};
}

// mean[c] and inv_std[c] over all rows from the parts of all chunks; factors[2, c]: y = (x - mean)
// factors[0] + factors[1].
// Launch: as the elementwise kernels, over the columns.
KERNEL(THREADS, batch_norm_join)
(Norm p, const float* __restrict__ parts, const float* __restrict__ gamma, const float* __restrict__ beta,
 float* __restrict__ mean, float* __restrict__ inv_std, float* __restrict__ factors) {
    FOR_EACH(j, p.c) {
        const Statistics of = join_statistics(p, parts, j);
        const float inv = (float)(1.0 / sqrt(of.variance + (double)p.eps)), scale = gamma[j] * inv;
        mean[j] = (float)of.mean;
        inv_std[j] = inv;
        factors[j] = scale;
        factors[p.c + j] = beta[j] - (float)(of.mean - (double)(float)of.mean) * scale;
    }
}

// y = act((x - mean) factors[0] + factors[1]); `act` is given by its code. Launch: as the elementwise
// kernels, over y.
KERNEL(THREADS, batch_norm_apply)
(Norm p, const float* __restrict__ x, const float* __restrict__ mean, const float* __restrict__ factors, float* __restrict__ y) {
    FOR_EACH(i, p.rows * p.c) {
        const u32 j = i % p.c;
        const float v = (x[i] - mean[j]) * factors[j] + factors[p.c + j];
        y[i] = p.act == NO_FUNCTION ? v : unary_of(p.act, p.act_slope, v);
    }
}

// parts[images, chunks, 3, c]: for each column of a chunk, the sums of dy, of dy (x - mean) and of x - mean.
// `share` neighbouring columns of an image have the same mean. Launch: as batch_norm_statistics.
KERNEL(THREADS, batch_norm_bwd_sums)
(Norm p, const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean, float* __restrict__ parts) {
    __shared__ float lanes[LANES][COLUMNS];
    const Share own = share_of(p);
    dy += blockIdx.z * p.rows * p.c;
    x += blockIdx.z * p.rows * p.c;
    float sums[3] = {};
    if (own.real) {
        const float m = mean[(blockIdx.z * p.c + own.column) / p.share];
        for (u32 r = own.first; r < own.end; r += LANES) {
            const float d = x[r * p.c + own.column] - m, g = dy[r * p.c + own.column];
            sums[0] += g;
            sums[1] += g * d;
            sums[2] += d;
        }
    }
    store_sums(p, own, sums, lanes, parts);
}

// dgamma[c], dbeta[c] and factors[3, c]: dx = factors[0] dy + (factors[1] (x - mean) + factors[2]). With
// xhat = (x - mean) inv_std: dbeta = sum dy, dgamma = sum dy xhat, dx = gamma inv_std (dy - dbeta / n - xhat
// dgamma / n). Launch: as the elementwise kernels.
KERNEL(THREADS, batch_norm_bwd_join)
(Norm p, const float* __restrict__ parts, const float* __restrict__ gamma, const float* __restrict__ inv_std,
 float* __restrict__ dgamma, float* __restrict__ dbeta, float* __restrict__ factors) {
    FOR_EACH(j, p.c) {
        double sum = 0.0, products = 0.0, deviations = 0.0;
        for (u32 chunk = 0; chunk < p.chunks; chunk++) {
            const float* part = parts + chunk * 3 * p.c + j;
            sum += (double)part[0];
            products += (double)part[p.c];
            deviations += (double)part[2 * p.c];
        }
        const double n = p.rows == 0 ? 1.0 : (double)p.rows;
        // `off` is the exact mean minus the rounded mean.
        const double off = deviations / n, product = products - sum * off, inv = inv_std[j];
        const double a = (double)gamma[j] * inv, b = -a * inv * inv * product / n;
        dbeta[j] = (float)sum;
        dgamma[j] = (float)(product * inv);
        factors[j] = (float)a;
        factors[p.c + j] = (float)b;
        factors[2 * p.c + j] = (float)(-a * sum / n - b * off);
    }
}

// dx = factors[0] dy + (factors[1] (x - mean) + factors[2]). Launch: as the elementwise kernels, over dx.
KERNEL(THREADS, batch_norm_bwd_apply)
(Norm p, const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean,
 const float* __restrict__ factors, float* __restrict__ dx) {
    FOR_EACH(i, p.rows * p.c) {
        const u32 j = i % p.c;
        dx[i] = factors[j] * dy[i] + (factors[p.c + j] * (x[i] - mean[j]) + factors[2 * p.c + j]);
    }
}

// y = (x - mean) / sqrt(var + eps) gamma + beta. Launch: as the elementwise kernels, over y[rows, width].
KERNEL(THREADS, batch_norm_infer)
(Rows p, const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta,
 const float* __restrict__ mean, const float* __restrict__ var, float* __restrict__ y) {
    FOR_EACH(i, p.rows * p.width) {
        const u32 j = i % p.width;
        y[i] = (x[i] - mean[j]) * (gamma[j] / sqrtf(var[j] + p.eps)) + beta[j];
    }
}

// y = (x - mean) inv_std gamma + beta with the mean and the biased variance of each row of `width` elements.
// Launch: THREADS threads, one warp per row. The second and third pass find the row in the cache.
KERNEL(THREADS, layer_norm)
(Rows p, const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta, float* __restrict__ y,
 float* __restrict__ mean, float* __restrict__ inv_std) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, d = p.width;
    // The whole warp returns, so the warp sums below stay complete.
    if (row >= p.rows) return;
    const float* of = x + row * d;
    const float n = d == 0 ? 1.0f : (float)d;
    float sum = 0.0f;
    for (u32 i = lane; i < d; i += 32) sum += of[i];
    const float m = warp_sum(sum) / n;
    float deviations = 0.0f, squares = 0.0f;
    for (u32 i = lane; i < d; i += 32) {
        deviations += of[i] - m;
        squares += (of[i] - m) * (of[i] - m);
    }
    const float off = warp_sum(deviations) / n;
    // Rounding may give a negative variance, which becomes 0. NaN stays NaN.
    const float inv = 1.0f / sqrtf(relu_of(warp_sum(squares) / n - off * off) + p.eps);
    if (lane == 0) {
        mean[row] = m + off;
        inv_std[row] = inv;
    }
    for (u32 i = lane; i < d; i += 32) y[row * d + i] = ((of[i] - m) - off) * inv * gamma[i] + beta[i];
}

// dx of each row of c elements; offs[rows] = the exact mean of each row minus the rounded one. Launch:
// THREADS threads, one warp per row.
KERNEL(THREADS, layer_norm_bwd_rows)
(Norm p, const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ gamma,
 const float* __restrict__ mean, const float* __restrict__ inv_std, float* __restrict__ dx, float* __restrict__ offs) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, d = p.c;
    if (row >= p.rows) return;
    const float *of = x + row * d, *g = dy + row * d;
    const float n = (float)d, m = mean[row], inv = inv_std[row];
    float deviations = 0.0f, gradients = 0.0f;
    for (u32 i = lane; i < d; i += 32) {
        deviations += of[i] - m;
        gradients += g[i] * gamma[i];
    }
    const float off = warp_sum(deviations) / n, average = warp_sum(gradients) / n;
    float products = 0.0f;
    for (u32 i = lane; i < d; i += 32) products += g[i] * gamma[i] * ((of[i] - m) - off);
    const float k = inv * inv * (warp_sum(products) / n);
    for (u32 i = lane; i < d; i += 32) dx[row * d + i] = inv * ((g[i] * gamma[i] - average) - ((of[i] - m) - off) * k);
    if (lane == 0) offs[row] = off;
}

// parts[chunks, 2, c]: for each column of a chunk of rows, the sums of dy xhat and of dy. Launch: as
// batch_norm_statistics.
KERNEL(THREADS, layer_norm_bwd_sums)
(Norm p, const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean,
 const float* __restrict__ inv_std, const float* __restrict__ offs, float* __restrict__ parts) {
    __shared__ float lanes[LANES][COLUMNS];
    const Share own = share_of(p);
    float sums[2] = {};
    if (own.real)
        for (u32 r = own.first; r < own.end; r += LANES) {
            const float g = dy[r * p.c + own.column];
            sums[0] += g * (((x[r * p.c + own.column] - mean[r]) - offs[r]) * inv_std[r]);
            sums[1] += g;
        }
    store_sums(p, own, sums, lanes, parts);
}

// dgamma[c] and dbeta[c]: the sums of the parts, in order. Launch: as the elementwise kernels, over the
// columns.
KERNEL(THREADS, layer_norm_bwd_join)
(Norm p, const float* __restrict__ parts, float* __restrict__ dgamma, float* __restrict__ dbeta) {
    FOR_EACH(j, p.c) {
        float products = 0.0f, sum = 0.0f;
        for (u32 chunk = 0; chunk < p.chunks; chunk++) {
            products += parts[chunk * 2 * p.c + j];
            sum += parts[(chunk * 2 + 1) * p.c + j];
        }
        dgamma[j] = products;
        dbeta[j] = sum;
    }
}

// Group norm: mean and inv_std are [images, c / share]; `share` neighbouring channels of an image share
// them. The passes over x and dy are the chunk kernels of batch norm, with the images along the third
// dimension of the grid.

// mean and inv_std from the parts of all chunks, and factors[2, images, c] such that y = (x - mean)
// factors[0] + factors[1].
// Launch: as the elementwise kernels, over the groups of all images.
KERNEL(THREADS, group_norm_join)
(Norm p, const float* __restrict__ parts, const float* __restrict__ gamma, const float* __restrict__ beta,
 float* __restrict__ mean, float* __restrict__ inv_std, float* __restrict__ factors) {
    const u32 groups = p.c / p.share;
    FOR_EACH(g, p.images * groups) {
        const u32 image = g / groups, first = g % groups * p.share;
        const Statistics of = join_statistics(p, parts + image * p.chunks * 3 * p.c, first);
        const float inv = (float)(1.0 / sqrt(of.variance + (double)p.eps));
        const float off = (float)(of.mean - (double)(float)of.mean);
        mean[g] = (float)of.mean;
        inv_std[g] = inv;
        for (u32 j = first; j < first + p.share; j++) {
            const float scale = gamma[j] * inv;
            factors[image * p.c + j] = scale;
            factors[(p.images + image) * p.c + j] = beta[j] - off * scale;
        }
    }
}

// y = (x - mean) factors[0] + factors[1]. Launch: as the elementwise kernels, over y[images, rows, c].
KERNEL(THREADS, group_norm_apply)
(Norm p, const float* __restrict__ x, const float* __restrict__ mean, const float* __restrict__ factors, float* __restrict__ y) {
    FOR_EACH(i, p.images * p.rows * p.c) {
        const u32 at = i / (p.rows * p.c) * p.c + i % p.c;
        y[i] = (x[i] - mean[at / p.share]) * factors[at] + factors[p.images * p.c + at];
    }
}

// With xhat = (x - mean) inv_std, g = dy gamma and n elements in a group:
// dx = inv_std (g - sum g / n - xhat sum(g xhat) / n), which is by_dy dy + (by_x (x - mean) + shift).
// factors: by_dy[images, c], by_x[images, c / share] and shift[images, c / share], one after another.
// sums[images, 2, c]: the sums of dy xhat and of dy over an image.
// Launch: as the elementwise kernels, over the groups of all images.
KERNEL(THREADS, group_norm_bwd_join)
(Norm p, const float* __restrict__ parts, const float* __restrict__ gamma, const float* __restrict__ inv_std,
 float* __restrict__ factors, float* __restrict__ sums) {
    const u32 groups = p.c / p.share;
    FOR_EACH(g, p.images * groups) {
        const u32 image = g / groups, first = g % groups * p.share;
        const float* of_image = parts + image * p.chunks * 3 * p.c;
        const double n = p.rows == 0 ? 1.0 : (double)p.rows * p.share, inv = inv_std[g];
        double deviations = 0.0, sum = 0.0, product = 0.0;
        for (u32 chunk = 0; chunk < p.chunks; chunk++)
            for (u32 j = first; j < first + p.share; j++) deviations += (double)of_image[(chunk * 3 + 2) * p.c + j];
        // The exact mean minus the rounded mean.
        const double off = deviations / n;
        for (u32 j = first; j < first + p.share; j++) {
            double of_dy = 0.0, with_x = 0.0;
            for (u32 chunk = 0; chunk < p.chunks; chunk++) {
                of_dy += (double)of_image[chunk * 3 * p.c + j];
                with_x += (double)of_image[(chunk * 3 + 1) * p.c + j];
            }
            with_x -= of_dy * off;
            sums[image * 2 * p.c + j] = (float)(with_x * inv);
            sums[(image * 2 + 1) * p.c + j] = (float)of_dy;
            sum += (double)gamma[j] * of_dy;
            product += (double)gamma[j] * with_x;
            factors[image * p.c + j] = (float)((double)gamma[j] * inv);
        }
        const double by_x = -inv * inv * inv * product / n;
        factors[p.images * p.c + g] = (float)by_x;
        factors[p.images * (p.c + groups) + g] = (float)(-inv * sum / n - by_x * off);
    }
}

// dx = by_dy dy + (by_x (x - mean) + shift). Launch: as the elementwise kernels, over dx[images, rows, c].
KERNEL(THREADS, group_norm_bwd_apply)
(Norm p, const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean,
 const float* __restrict__ factors, float* __restrict__ dx) {
    const float *by_x = factors + p.images * p.c, *shift = by_x + p.images * (p.c / p.share);
    FOR_EACH(i, p.images * p.rows * p.c) {
        const u32 at = i / (p.rows * p.c) * p.c + i % p.c, g = at / p.share;
        dx[i] = factors[at] * dy[i] + (by_x[g] * (x[i] - mean[g]) + shift[g]);
    }
}
