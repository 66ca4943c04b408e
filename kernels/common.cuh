// What every kernel includes. Self-contained: NVRTC sees no toolkit headers.
#pragma once
#include "args.cuh"
#include "ptx.cuh"
#include "functions.cuh"

// A kernel that is launched with `threads` threads a block, under its own name.
#define KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name

// The same for tiles of products. On Turing and from Blackwell on the assembler would spill a few registers
// for the sake of one more block on a multiprocessor; a tile has work enough to hide latencies without it.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 800 || __CUDA_ARCH__ >= 1000)
#define TILE_KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads, 1) name
#else
#define TILE_KERNEL(threads, name) KERNEL(threads, name)
#endif

// Threads of a block of every elementwise kernel.
#define THREADS 256

// Loop over the elements below `len`, each taken by one thread of the grid.
#define FOR_EACH(i, len) for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < (len); i += gridDim.x * blockDim.x)

// The sum over the 32 lanes of a warp, by halves; every lane gets it. The order is fixed.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// The largest of the 32 lanes of a warp; NaN if there is any.
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
        const float other = __shfl_xor_sync(0xffffffffu, v, offset);
        v = v > other || v != v ? v : other;
    }
    return v;
}
