// Elementary functions as our own polynomials. They follow src/math.rs line by line, so that every device
// computes the same values. They use plain multiplications and additions, which the compiler does not
// contract (--fmad=false), so the bits are those of the CPU.
#pragma once

#define INFINITY_F __int_as_float(0x7f800000)
#define NAN_F __int_as_float(0x7fc00000)

// Adding this number to x, with |x| < 2^22, and subtracting it again rounds x to an integer. The low bits of
// the sum are this integer.
#define ROUND 12582912.0f
// log 2 in two parts. The first part has 9 bits, so that its product with an exponent is exact; the second
// is the rest.
#define LN2_HI 0.6933594f
#define LN2_LO -2.1219444e-4f

// 2^k for -126 <= k <= 127.
__device__ __forceinline__ float pow2(int k) { return __int_as_float((k + 127) << 23); }

// x = k log 2 + r with |r| <= log(2) / 2; `rest` is exp(r) - 1 - r.
struct ReducedExp {
    int k;
    float r, rest;
};
__device__ __forceinline__ ReducedExp reduced_exp(float x) {
    // The low bits of the sum are the integer.
    const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504f), ROUND);
    const float n = shifted - ROUND;
    const float r = (x - n * LN2_HI) - n * LN2_LO;
    const float q = ((1.3950492e-3f * r + 8.36889e-3f) * r + 4.1666206e-2f) * r + 0.16666518f;
    // The difference is taken on unsigned numbers, which wrap: for NaN it may be anything.
    const int k = (int)(__float_as_uint(shifted) - __float_as_uint(ROUND));
    return {k, r, r * r * (q * r + 0.5f)};
}

// exp(x). It overflows to infinity above 88.72, and underflows through the subnormal numbers to 0 at -104.
__device__ __forceinline__ float exp_of(float x) {
    // These comparisons are false for NaN, so NaN passes unchanged.
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const ReducedExp e = reduced_exp(x);
    // Two factors, because 2^k alone leaves the range of normal numbers at both ends.
    const int k = x == x ? e.k : 0, half = k >> 1;
    return (1.0f + (e.r + e.rest)) * pow2(half) * pow2(k - half);
}

// exp(x) - 1 for x <= 0, accurate near 0.
__device__ __forceinline__ float expm1_nonpositive(float x) {
    x = x < -30.0f ? -30.0f : x;
    const ReducedExp e = reduced_exp(x);
    const float scale = pow2(x == x ? e.k : 0);
    return scale * (e.r + e.rest) + (scale - 1.0f);
}

// k log 2 + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2).
__device__ __forceinline__ float log_of_reduced(float k, float f) {
    float q = ((-7.6345146e-2f * f + 0.12761594f) * f - 0.13160184f) * f + 0.14201756f;
    q = (((q * f - 0.16623357f) * f + 0.20001227f) * f - 0.2500082f) * f + 0.3333333f;
    const float square = f * f;
    const float tail = f * square * q + k * LN2_LO - 0.5f * square;
    return (f + tail) + k * LN2_HI;
}

// Natural logarithm; -infinity at 0, NaN below 0.
__device__ __forceinline__ float log_of(float x) {
    const bool subnormal = x < 1.17549435e-38f;
    const u32 bits = __float_as_uint(subnormal ? x * 8388608.0f : x);
    // The exponent that leaves the fraction in [sqrt(1/2), sqrt(2)).
    const int k = (int)(bits - 0x3f3504f3u) >> 23;
    const float fraction = __uint_as_float(bits - ((u32)k << 23));
    float y = log_of_reduced((float)(k - (subnormal ? 23 : 0)), fraction - 1.0f);
    y = x < INFINITY_F ? y : x;
    return x > 0.0f ? y : (x == 0.0f ? -INFINITY_F : NAN_F);
}

// log(1 + u) for 0 <= u <= 1, accurate near 0.
__device__ __forceinline__ float log1p_unit(float u) {
    const bool upper = u > 0.4142135f;
    return log_of_reduced(upper ? 1.0f : 0.0f, upper ? 0.5f * u - 0.5f : u);
}

// exp(x) - 1 - x, accurate near 0: what the KL divergence of a log variance x adds up.
__device__ __forceinline__ float exp_minus_1_minus(float x) {
    const ReducedExp e = reduced_exp(x);
    // For k = 0 nothing was reduced: r is x.
    return e.k == 0 ? e.rest : (exp_of(x) - 1.0f) - x;
}

// What one dimension adds to twice the divergence of a Gaussian from the standard one.
__device__ __forceinline__ float kl_term(float mu, float logvar) { return mu * mu + exp_minus_1_minus(logvar); }

// A standard normal number as one of mean mu and variance exp(logvar).
__device__ __forceinline__ float reparameterized(float mu, float logvar, float eps) { return mu + exp_of(0.5f * logvar) * eps; }

// tanh(x), accurate near 0.
__device__ __forceinline__ float tanh_of(float x) {
    const float e = expm1_nonpositive(-2.0f * fabsf(x));
    return copysignf(-e / (2.0f + e), x);
}

// 1 / (1 + exp(-x)), accurate down to where it underflows.
__device__ __forceinline__ float sigmoid_of(float x) {
    const float e = exp_of(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// max(x, 0); NaN passes.
__device__ __forceinline__ float relu_of(float x) { return x < 0.0f ? 0.0f : x; }

// log(1 + exp(-|x|)), a term of softplus and of the binary cross entropy.
__device__ __forceinline__ float softplus_of_minus_abs(float x) { return log1p_unit(exp_of(-fabsf(x))); }

// log(1 + exp(x)) without overflow.
__device__ __forceinline__ float softplus_of(float x) { return relu_of(x) + softplus_of_minus_abs(x); }

// cos(2 pi u), for |u| < 2^20. The argument is reduced in turns, which is exact.
__device__ __forceinline__ float cos_turns(float u) {
    const float shifted = __fadd_rn(__fmul_rn(4.0f, u), ROUND);
    const u32 quarter = __float_as_uint(shifted);
    const float f = u - 0.25f * (shifted - ROUND);
    const float z = f * f;
    const float sin = f * 6.2831853f + f * (-1.7484555e-7f + z * ((-75.45327f * z + 81.59393f) * z - 41.341675f));
    const float cos = 1.0f + z * (((59.245865f * z - 85.44374f) * z + 64.93932f) * z - 19.739208f);
    const float y = (quarter & 1) == 0 ? cos : sin;
    return ((quarter + 1) & 2) == 0 ? y : -y;
}

// The elementwise functions of the list in src/tape/functions.rs. Each has a pair here: f(x), and dy f'(x),
// which is computed from the output y or the input x. If f is an elementary function, it is defined above.
// functions.cuh selects them by their codes.
__device__ __forceinline__ float relu_bwd_of(float dy, float y) { return y > 0.0f ? dy : 0.0f; }

__device__ __forceinline__ float leaky_relu_of(float x, float slope) { return (x > 0.0f ? 1.0f : slope) * x; }
__device__ __forceinline__ float leaky_relu_bwd_of(float dy, float y, float slope) { return dy * (y > 0.0f ? 1.0f : slope); }

__device__ __forceinline__ float elu_of(float x) {
    const float below = expm1_nonpositive(x > 0.0f ? 0.0f : x);
    return x > 0.0f ? x : below;
}
__device__ __forceinline__ float elu_bwd_of(float dy, float y) { return dy * (y > 0.0f ? 1.0f : y + 1.0f); }

__device__ __forceinline__ float tanh_bwd_of(float dy, float y) { return dy * (1.0f - y * y); }

__device__ __forceinline__ float sigmoid_bwd_of(float dy, float y) { return dy * (y * (1.0f - y)); }

__device__ __forceinline__ float softplus_bwd_of(float dy, float x) { return dy * sigmoid_of(x); }

__device__ __forceinline__ float silu_of(float x) { return x * sigmoid_of(x); }
__device__ __forceinline__ float silu_bwd_of(float dy, float x) {
    const float p = sigmoid_of(x);
    return dy * (p * (1.0f + x * (1.0f - p)));
}

__device__ __forceinline__ float exp_bwd_of(float dy, float y) { return dy * y; }

__device__ __forceinline__ float log_bwd_of(float dy, float x) { return dy / x; }

__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ float sqrt_bwd_of(float dy, float y) { return 0.5f * dy / y; }

__device__ __forceinline__ float square_of(float x) { return x * x; }
__device__ __forceinline__ float square_bwd_of(float dy, float x) { return 2.0f * dy * x; }

__device__ __forceinline__ float recip_of(float x) { return 1.0f / x; }
__device__ __forceinline__ float recip_bwd_of(float dy, float y) { return -dy * (y * y); }

// x sigmoid(u) with u = x (2 c + 2 c 0.044715 x^2) and c = sqrt(2 / pi): (1 + tanh(u / 2)) / 2 is
// sigmoid(u).
__device__ __forceinline__ float gelu_of(float x) { return x * sigmoid_of(x * (7.1354814e-2f * (x * x) + 1.5957692f)); }
// dy (p + x p (1 - p) u') with p = sigmoid(u). Beyond +-12, p (1 - p) is 0; x is clamped there, so that u'
// stays finite.
__device__ __forceinline__ float gelu_bwd_of(float dy, float x) {
    const float below = x > 12.0f ? 12.0f : x, near = below < -12.0f ? -12.0f : below, square = near * near;
    const float p = sigmoid_of(near * (7.1354814e-2f * square + 1.5957692f));
    return dy * (p + near * (p * (1.0f - p)) * (0.21406445f * square + 1.5957692f));
}

__device__ __forceinline__ float add_of(float a, float b) { return a + b; }
__device__ __forceinline__ float sub_of(float a, float b) { return a - b; }
__device__ __forceinline__ float mul_of(float a, float b) { return a * b; }
__device__ __forceinline__ float div_of(float a, float b) { return a / b; }

// min(max(x, low), high); NaN passes.
__device__ __forceinline__ float clamp_of(float x, float low, float high) {
    const float above = x < low ? low : x;
    return above > high ? high : above;
}

// floor(x top + 1/2), at most `top`; 0 if x is negative or NaN. The product and the sum are rounded
// separately, so that a tie is a tie on every device.
__device__ __forceinline__ u32 quantize_of(float x, float top) {
    const float level = __fadd_rn(__fmul_rn(x, top), 0.5f);
    return level > top ? (u32)top : level > 0.0f ? (u32)level : 0;
}

// tanh(a) sigmoid(b)
__device__ __forceinline__ float gated_of(float a, float b) { return tanh_of(a) * sigmoid_of(b); }

// The smallest class whose cumulative softmax(l / temperature) exceeds u, or the last class if none does. At
// temperature 0 it is the first of the largest logits. Without classes it is an index out of range. The same
// sum is computed twice in the same order: first to its end, then up to the draw.
__device__ __forceinline__ u32 categorical_of(const float* l, u32 k, float u, float temperature) {
    float max = -INFINITY_F;
    for (u32 i = 0; i < k; i++) max = max > l[i] || max != max ? max : l[i];
    u32 drawn = k - 1;
    if (temperature == 0.0f) {
        for (u32 i = k; i-- > 0;) drawn = l[i] == max ? i : drawn;
        return drawn;
    }
    float total = 0.0f, sum = 0.0f;
    for (u32 i = 0; i < k; i++) total += exp_of((l[i] - max) / temperature);
    for (u32 i = 0; i < k; i++) {
        sum += exp_of((l[i] - max) / temperature);
        if (sum > u * total) return i;
    }
    return drawn;
}

// 1 if u < sigmoid(logit / temperature), else 0. At temperature 0 it is 1 if the logit is positive, else 0.
__device__ __forceinline__ float bernoulli_of(float logit, float u, float temperature) {
    const bool one = temperature == 0.0f ? logit > 0.0f : u < sigmoid_of(logit / temperature);
    return one ? 1.0f : 0.0f;
}
