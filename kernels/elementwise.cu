// Kernels that treat every element in the same way: y[i] from the i-th elements of the operands.
//
// Shapes: every operand has `len` elements; those of `gated` are rows of `width` (y, dy) and 2 width (x,
// dx).
// Launch: blocks of THREADS threads, at most as many as fill the card; a thread strides over the elements.
// No shared memory.
// Cost: a few operations per element against 4 bytes per operand: bound by memory. Neighbouring threads take
// neighbouring elements, so every access of a warp is one run of 128 bytes.
#include "common.cuh"

// y[len] = a
KERNEL(THREADS, fill)(Map p, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = p.a;
}

// y[len] = f(x[len])
KERNEL(THREADS, unary)(Map p, const float* __restrict__ x, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = unary_of(p.f, p.a, x[i]);
}

// dx[len] = dy[len] f'(saved[len])
KERNEL(THREADS, unary_bwd)(Map p, const float* __restrict__ dy, const float* __restrict__ saved, float* __restrict__ dx) {
    FOR_EACH(i, p.len) dx[i] = unary_bwd_of(p.f, p.a, dy[i], saved[i]);
}

// y[len] = a[len] op b[len]
KERNEL(THREADS, binary)(Map p, const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = binary_of(p.f, a[i], b[i]);
}

// y[len] = a x[len] + b
KERNEL(THREADS, affine)(Map p, const float* __restrict__ x, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = p.a * x[i] + p.b;
}

// y[len] = min(max(x[len], a), b); NaN passes
KERNEL(THREADS, clamp)(Map p, const float* __restrict__ x, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = clamp_of(x[i], p.a, p.b);
}

// index[len] = floor(x[len] a + 1/2), at most a = levels - 1; 0 if x is negative or NaN
KERNEL(THREADS, quantize)(Map p, const float* __restrict__ x, u32* __restrict__ index) {
    FOR_EACH(i, p.len) index[i] = quantize_of(x[i], p.a);
}

// y[len] = index[len] / a, a = levels - 1
KERNEL(THREADS, dequantize)(Map p, const u32* __restrict__ index, float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = (float)index[i] / p.a;
}

// y[rows, c] = tanh(x[rows, ..c]) sigmoid(x[rows, c..])
KERNEL(THREADS, gated)(Rows p, const float* __restrict__ x, float* __restrict__ y) {
    const u32 c = p.width;
    FOR_EACH(i, p.rows * c) {
        const u32 at = i / c * 2 * c + i % c;
        y[i] = gated_of(x[at], x[at + c]);
    }
}

// With t = tanh(a), s = sigmoid(b): da = dy s (1 - t^2), db = dy t s (1 - s); dy[rows, c], x and dx[rows,
// 2c]
KERNEL(THREADS, gated_bwd)(Rows p, const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ dx) {
    const u32 c = p.width;
    FOR_EACH(i, p.rows * c) {
        const u32 at = i / c * 2 * c + i % c;
        const float t = tanh_of(x[at]), s = sigmoid_of(x[at + c]), d = dy[i];
        dx[at] = d * s * (1.0f - t * t);
        dx[at + c] = d * t * (s * (1.0f - s));
    }
}

// z[len] = mu[len] + exp(logvar[len] / 2) eps[len] (Kingma & Welling 2014, eq. 10)
KERNEL(THREADS, reparameterize)
(Map p, const float* __restrict__ mu, const float* __restrict__ logvar, const float* __restrict__ eps, float* __restrict__ z) {
    FOR_EACH(i, p.len) z[i] = reparameterized(mu[i], logvar[i], eps[i]);
}
