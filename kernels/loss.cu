// Losses: elementwise ones, the softmax cross entropy, and the KL divergence of a diagonal Gaussian.
//
// Launch: elementwise kernels as in elementwise.cu. Kernels over rows have THREADS threads per block and one
// warp per row: lanes take neighbouring elements, and their values are added by halves.
// Cost: a few operations per element against 4 bytes per operand: bound by memory.
#include "common.cuh"

// y[len] = max(l, 0) - l t + log(1 + exp(-|l|))
KERNEL(THREADS, bce_with_logits)(Map p, const float* __restrict__ logits, const float* __restrict__ target, float* __restrict__ y) {
    FOR_EACH(i, p.len) {
        const float l = logits[i];
        y[i] = (relu_of(l) - l * target[i]) + softplus_of_minus_abs(l);
    }
}

// y[len] = (x - target)^2
KERNEL(THREADS, mse)(Map p, const float* __restrict__ x, const float* __restrict__ target, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = (x[i] - target[i]) * (x[i] - target[i]);
}

// The largest logit of a row of k.
__device__ __forceinline__ float row_max(const float* logits, u32 k, u32 lane) {
    float largest = -INFINITY_F;
    for (u32 i = lane; i < k; i += 32) {
        const float l = logits[i];
        largest = largest > l || largest != largest ? largest : l;
    }
    return warp_max(largest);
}

// The sum of exp(l - max) over a row of k.
__device__ __forceinline__ float row_exp_sum(const float* logits, float max, u32 k, u32 lane) {
    float sum = 0.0f;
    for (u32 i = lane; i < k; i += 32) sum += exp_of(logits[i] - max);
    return warp_sum(sum);
}

// y[rows] = -log softmax(logits[rows, width])[target[rows]]; NaN if the target is out of range.
KERNEL(THREADS, softmax_cross_entropy)
(Rows p, const float* __restrict__ logits, const u32* __restrict__ target, float* __restrict__ y) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, k = p.width;
    // The whole warp returns, so the warp sums below stay complete.
    if (row >= p.rows) return;
    const float* of = logits + row * k;
    const float max = row_max(of, k, lane), sum = row_exp_sum(of, max, k, lane);
    if (lane == 0) y[row] = target[row] < k ? (max - of[target[row]]) + log_of(sum) : NAN_F;
}

// dlogits[rows, width] = dy[rows] (softmax(logits) - onehot(target)); NaN if the target is out of range.
KERNEL(THREADS, softmax_cross_entropy_bwd)
(Rows p, const float* __restrict__ dy, const float* __restrict__ logits, const u32* __restrict__ target,
 float* __restrict__ dlogits) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, k = p.width;
    if (row >= p.rows) return;
    const float* of = logits + row * k;
    const float max = row_max(of, k, lane), scale = dy[row] / row_exp_sum(of, max, k, lane);
    const u32 hot = target[row];
    for (u32 i = lane; i < k; i += 32) {
        const float share = exp_of(of[i] - max) * scale;
        dlogits[row * k + i] = hot >= k ? NAN_F : i == hot ? share - dy[row] : share;
    }
}

// y[rows] = sum of (mu^2 + exp(logvar) - 1 - logvar) / 2 over each row of width (Kingma & Welling 2014,
// appendix B)
KERNEL(THREADS, gaussian_kl)(Rows p, const float* __restrict__ mu, const float* __restrict__ logvar, float* __restrict__ y) {
    const u32 row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, d = p.width;
    if (row >= p.rows) return;
    float sum = 0.0f;
    for (u32 i = lane; i < d; i += 32) sum += kl_term(mu[row * d + i], logvar[row * d + i]);
    sum = warp_sum(sum);
    if (lane == 0) y[row] = 0.5f * sum;
}
