// The elementwise functions by their codes. The list is in src/tape/functions.rs, the functions are in
// math.cuh.
// Written by `PIXTAPE_BLESS=1 cargo test --lib backend::codes`. Do not edit.
#pragma once
#include "math.cuh"

// The code that means no function.
enum { NO_FUNCTION = 0 };

enum {
    RELU = 1,
    LEAKY_RELU = 2,
    ELU = 3,
    TANH = 4,
    SIGMOID = 5,
    SOFTPLUS = 6,
    SILU = 7,
    EXP = 8,
    LOG = 9,
    SQRT = 10,
    SQUARE = 11,
    RECIP = 12,
    GELU = 13,
};

// f(x). `f` is the same for all threads of a launch: the branch costs no divergence.
__device__ __forceinline__ float unary_of(u32 f, float slope, float x) {
    switch (f) {
        case RELU: return relu_of(x);
        case LEAKY_RELU: return leaky_relu_of(x, slope);
        case ELU: return elu_of(x);
        case TANH: return tanh_of(x);
        case SIGMOID: return sigmoid_of(x);
        case SOFTPLUS: return softplus_of(x);
        case SILU: return silu_of(x);
        case EXP: return exp_of(x);
        case LOG: return log_of(x);
        case SQRT: return sqrt_of(x);
        case SQUARE: return square_of(x);
        case RECIP: return recip_of(x);
        case GELU: return gelu_of(x);
        default: return NAN_F;
    }
}

// dy f'(x). `saved` is y or x, as `Unary::saves_output` says.
__device__ __forceinline__ float unary_bwd_of(u32 f, float slope, float dy, float saved) {
    switch (f) {
        case RELU: return relu_bwd_of(dy, saved);
        case LEAKY_RELU: return leaky_relu_bwd_of(dy, saved, slope);
        case ELU: return elu_bwd_of(dy, saved);
        case TANH: return tanh_bwd_of(dy, saved);
        case SIGMOID: return sigmoid_bwd_of(dy, saved);
        case SOFTPLUS: return softplus_bwd_of(dy, saved);
        case SILU: return silu_bwd_of(dy, saved);
        case EXP: return exp_bwd_of(dy, saved);
        case LOG: return log_bwd_of(dy, saved);
        case SQRT: return sqrt_bwd_of(dy, saved);
        case SQUARE: return square_bwd_of(dy, saved);
        case RECIP: return recip_bwd_of(dy, saved);
        case GELU: return gelu_bwd_of(dy, saved);
        default: return NAN_F;
    }
}

enum {
    ADD = 1,
    SUB = 2,
    MUL = 3,
    DIV = 4,
};

// f(a, b)
__device__ __forceinline__ float binary_of(u32 f, float a, float b) {
    switch (f) {
        case ADD: return add_of(a, b);
        case SUB: return sub_of(a, b);
        case MUL: return mul_of(a, b);
        case DIV: return div_of(a, b);
        default: return NAN_F;
    }
}
