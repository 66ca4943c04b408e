// Included by every kernel file. It includes no headers of the CUDA toolkit, because NVRTC does not find
// them.
#pragma once
#include "args.cuh"
#include "ptx.cuh"
#include "functions.cuh"

// Declares a kernel that is launched with `threads` threads per block. Its name is not mangled.
#define KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name

// The same for the tiles of products. On Turing and older, and from Blackwell on, the assembler would spill
// a few registers to fit one more block on a multiprocessor. A tile has enough work to hide latencies
// without that block.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 800 || __CUDA_ARCH__ >= 1000)
#define TILE_KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads, 1) name
#else
#define TILE_KERNEL(threads, name) KERNEL(threads, name)
#endif

// Threads per block of every elementwise kernel.
#define THREADS 256

// Loops over the elements below `len`. Each element is computed by one thread of the grid.
#define FOR_EACH(i, len) for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < (len); i += gridDim.x * blockDim.x)

// The sum over the 32 lanes of a warp, added by halves in a fixed order; every lane gets it.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// The largest value of the 32 lanes of a warp; NaN if any of them is NaN.
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
        const float other = __shfl_xor_sync(0xffffffffu, v, offset);
        v = v > other || v != v ? v : other;
    }
    return v;
}
