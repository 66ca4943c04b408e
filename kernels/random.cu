// Random draws: uniform and normal numbers per element, Gaussian samples, and categories and bits from given
// uniform numbers.
//
// Launch: as the elementwise kernels, over the output; gaussian_sample with THREADS threads per block and
// one warp per row. There is no state: a draw is a function of seed, stream and element.
// Cost: about 120 integer operations for two words against 4 bytes written: bound by arithmetic.
// gaussian_sample adds about 60 operations and reads 8 bytes per element. gaussian_sample_bwd takes about 25
// operations for 24 bytes: bound by memory. Latent vectors are short: below some 100 000 elements the launch
// dominates, so one launch replaces three.
#include "rng.cuh"

// y[len]: the counter of a draw is (count, element), or (count + image, element of the image) if
// `per_image` is not 0. seed[1] and count[1] are device scalars, so that a captured plan makes new draws at
// every replay.
KERNEL(THREADS, random)(Random p, const u32* __restrict__ seed, const u32* __restrict__ count, float* __restrict__ y) {
    FOR_EACH(i, p.len) {
        const u32 image = p.per_image == 0 ? 0 : i / p.per_image, element = i - image * p.per_image;
        const Words words = threefry2x32(seed[0], p.stream, count[0] + image, element);
        y[i] = p.normal ? normal(words) : unit(words.x);
    }
}

// z[rows, width] = mu + exp(logvar / 2) eps with a standard normal eps by (replay, element), kl[rows] = sum
// of (mu^2 + exp(logvar) - 1 - logvar) / 2 over each row (Kingma & Welling 2014, eq. 10 and appendix B). eps
// is never stored. Lanes compute neighbouring elements, and their sums are added by halves, as in
// gaussian_kl.
KERNEL(THREADS, gaussian_sample)
(Gaussian p, const float* __restrict__ mu, const float* __restrict__ logvar, const u32* __restrict__ seed,
 const u32* __restrict__ replay, float* __restrict__ z, float* __restrict__ kl) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    // The whole warp returns, so the warp sum below stays complete.
    if (row >= p.rows) return;
    float sum = 0.0f;
    for (u32 i = lane; i < p.width; i += 32) {
        const u32 element = row * p.width + i;
        const float m = mu[element], v = logvar[element];
        z[element] = reparameterized(m, v, normal(threefry2x32(seed[0], p.stream, replay[0], element)));
        sum += kl_term(m, v);
    }
    sum = warp_sum(sum);
    if (lane == 0) kl[row] = 0.5f * sum;
}

// dmu = dz + dkl mu, dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2; dkl[rows], the others [rows,
// width]
KERNEL(THREADS, gaussian_sample_bwd)
(Rows p, const float* __restrict__ dz, const float* __restrict__ dkl, const float* __restrict__ mu, const float* __restrict__ logvar,
 const float* __restrict__ z, float* __restrict__ dmu, float* __restrict__ dlogvar) {
    FOR_EACH(i, p.rows * p.width) {
        const float m = mu[i], k = dkl[i / p.width];
        dmu[i] = k * m + dz[i];
        dlogvar[i] = k * (0.5f * exp_of(logvar[i]) - 0.5f) + 0.5f * (dz[i] * (z[i] - m));
    }
}

// index[rows] = the smallest class whose cumulative softmax(logits[rows, width] / temperature[1]) exceeds
// u[rows], or the last class if none does. At temperature 0 it is the first of the largest logits. Without
// classes it is an index out of range. One thread computes a row, because the order of the sum decides the
// draw and there are few rows (images of a batch, not pixels).
KERNEL(THREADS, categorical)
(Rows p, const float* __restrict__ logits, const float* __restrict__ u, const float* __restrict__ temperature,
 u32* __restrict__ index) {
    FOR_EACH(row, p.rows) index[row] = categorical_of(logits + row * p.width, p.width, u[row], temperature[0]);
}

// y[len] = 1 if u < sigmoid(logit / temperature[1]), else 0. At temperature 0 it is 1 if the logit is
// positive, else 0.
KERNEL(THREADS, bernoulli)
(Map p, const float* __restrict__ logits, const float* __restrict__ u, const float* __restrict__ temperature,
 float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = bernoulli_of(logits[i], u[i], temperature[0]);
}
