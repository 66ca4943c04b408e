// CUDA C++ as g++ sees it: the unmodified kernels compile against this header as C++17 and run on the CPU
// (x86-64 Linux).
//
// Every CUDA thread of a block is a fiber on one OS thread, so a barrier is a switch and an order of threads
// can be chosen; see threads.cpp. driver.cpp puts a stand-in libcuda.so.1 over it, so that the unmodified
// host code runs too.
//
// Modelled: barriers (and who misses one), shuffles of whole warps, shared memory that holds NaN until it is
// written, asynchronous copies that arrive no earlier than at their wait. Not modelled: other warp
// functions, clusters, tensor cores. Times mean nothing.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define CUDA_ON_CPU 1
// The C library has a function of this name.
#define random random_kernel
#define __global__
#define __device__
// At block scope implicitly static; `extern __shared__ T x[]` stays legal.
#define __shared__ thread_local
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace cuda_on_cpu {

struct Index {
    unsigned x, y, z;
};

// Of the thread that runs now.
extern __thread const Index* thread_index;
extern __thread Index block_index, block_size, grid_size;

// Waits for all threads of the block, which must all call it on this line.
void barrier(int line);
// The value that lane `lane ^ mask` of the warp gives; all 32 lanes call it.
float exchange(float value, unsigned mask, int line);
// Notes an asynchronous copy to shared memory, of zeros if it is not `valid`.
void copy_later(float* shared, const float* global, unsigned bytes, bool valid);
using Copy = void (*)(float* shared, const float* global, unsigned bytes, bool valid);
// Lets `copy` do what this thread has noted.
void finish_copies(Copy copy);

// A kernel as the driver launches it.
struct Kernel {
    const unsigned* sizes;  // of the parameters, ending with 0
    void (*run)(void** parameters);
    unsigned most_threads;  // its launch bound
};

template <class... P>
const unsigned* sizes(void (*)(P...)) {
    static const unsigned all[] = {unsigned(sizeof(P))..., 0};
    return all;
}
template <class... P, size_t... I>
void call(void (*kernel)(P...), void** parameters, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<P>*)parameters[I]...);
}
template <class... P>
void call(void (*kernel)(P...), void** parameters) {
    call(kernel, parameters, std::index_sequence_for<P...>{});
}

}  // namespace cuda_on_cpu

// What the glue behind every file of kernels says once a kernel.
#define EXPORT_KERNEL(name, threads)                                                                            \
    extern "C" __attribute__((visibility("default"))) const cuda_on_cpu::Kernel name##_on_cpu;                  \
    const cuda_on_cpu::Kernel name##_on_cpu = {cuda_on_cpu::sizes(name),                                        \
                                               [](void** parameters) { cuda_on_cpu::call(name, parameters); }, threads};

#define threadIdx (*cuda_on_cpu::thread_index)
#define blockIdx cuda_on_cpu::block_index
#define blockDim cuda_on_cpu::block_size
#define gridDim cuda_on_cpu::grid_size

inline void __syncthreads(int line = __builtin_LINE()) { cuda_on_cpu::barrier(line); }
inline float __shfl_xor_sync(unsigned, float value, int mask, int line = __builtin_LINE()) {
    return cuda_on_cpu::exchange(value, mask, line);
}

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }
template <class To, class From>
inline To bits_of(From from) {
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float a) { return bits_of<unsigned>(a); }
inline float __uint_as_float(unsigned a) { return bits_of<float>(a); }
inline float __int_as_float(int a) { return bits_of<float>(a); }
