// Draws: uniform and normal numbers by element, categories and bits from given uniforms.
//
// Launch: as the elementwise kernels, over the output. No state: a draw is a function of seed, stream and element.
// Cost: about 120 integer operations for two words against 4 bytes written: bound by arithmetic.
#include "rng.cuh"

// y[len]: the counter is (count, element), or (count + image, element of the image) where `per_image` is not 0. seed[1] and count[1]
// are device scalars, so that a captured plan draws anew at every replay.
KERNEL(THREADS, random)(Random p, const u32* __restrict__ seed, const u32* __restrict__ count, float* __restrict__ y) {
    FOR_EACH(i, p.len) {
        const u32 image = p.per_image == 0 ? 0 : i / p.per_image, element = i - image * p.per_image;
        const Words words = threefry2x32(seed[0], p.stream, count[0] + image, element);
        y[i] = p.normal ? normal(words) : unit(words.x);
    }
}

// index[rows] = the smallest k whose cumulative softmax(logits[rows, width] / temperature[1]) exceeds u[rows], the last one if none
// does. At temperature 0 it is the first of the largest logits. Without a class it is one out of range.
// A thread takes a row: rows are few (images of a batch, not pixels) and the order decides the draw, so nothing is gained by sharing
// one.
KERNEL(THREADS, categorical)
(Rows p, const float* __restrict__ logits, const float* __restrict__ u, const float* __restrict__ temperature,
 u32* __restrict__ index) {
    FOR_EACH(row, p.rows) index[row] = categorical_of(logits + row * p.width, p.width, u[row], temperature[0]);
}

// y[len] = 1 where u < sigmoid(logit / temperature[1]), else 0. At temperature 0 it is 1 where the logit is positive.
KERNEL(THREADS, bernoulli)
(Map p, const float* __restrict__ logits, const float* __restrict__ u, const float* __restrict__ temperature,
 float* __restrict__ y) {
    FOR_EACH(i, p.len) y[i] = bernoulli_of(logits[i], u[i], temperature[0]);
}
