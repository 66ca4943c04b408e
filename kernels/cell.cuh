// One LSTM cell, forward and backward, and the code that sequences and scans over images share. The order of
// the gates is i, f, g, o.
#pragma once
#include "common.cuh"

// The activated gates and the new cell and state of one unit.
struct Cell {
    float i, f, g, o, c, h;
};
// One step, from the gates before activation and the old cell: c' = f c + i g, h' = o tanh(c').
__device__ __forceinline__ Cell cell(float zi, float zf, float zg, float zo, float c) {
    const float i = sigmoid_of(zi), f = sigmoid_of(zf), g = tanh_of(zg), o = sigmoid_of(zo);
    const float next = f * c + i * g;
    return {i, f, g, o, next, o * tanh_of(next)};
}

// The gradients of the gates before activation and of the old cell.
struct CellGradient {
    float i, f, g, o, c;
};
// The backward step, from the gradients of the new state and the new cell. `now` has the activated gates and
// the new cell. With t = tanh(c'), h' is o t, so the gradient of the new cell is dc' + dh o (1 - t^2).
__device__ __forceinline__ CellGradient cell_bwd(float dh, float dc, float c, const Cell& now) {
    const float t = tanh_of(now.c), d = dc + dh * now.o * (1.0f - t * t);
    return {d * now.g * (now.i * (1.0f - now.i)), d * c * (now.f * (1.0f - now.f)), d * now.i * (1.0f - now.g * now.g),
            dh * t * (now.o * (1.0f - now.o)), d * now.f};
}

// Copies the leading floats of the weights into shared memory. A barrier follows.
__device__ __forceinline__ void hold(const float* weights, u32 len, float* held) {
    for (u32 i = threadIdx.x; i < len; i += blockDim.x) held[i] = weights[i];
}
