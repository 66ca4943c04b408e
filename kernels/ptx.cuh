// The only file with inline PTX. Every wrapper has a body for the device and one for the host, where tests
// run the kernels.
#pragma once

#ifdef CUDA_ON_CPU
// Asynchronous copies begin here and end at the wait. Data must not be read before the wait.
__device__ __forceinline__ void cp_async16(float* shared, const float* global, bool valid) {
    cuda_on_cpu::copy_later(shared, global, 16, valid);
}
__device__ __forceinline__ void cp_async4(float* shared, const float* global, bool valid) {
    cuda_on_cpu::copy_later(shared, global, 4, valid);
}
__device__ __forceinline__ void cp_async_wait() {
    // The copy is written here and not in the runtime, so that the sanitizers see which code writes.
    cuda_on_cpu::finish_copies([](float* shared, const float* global, unsigned bytes, bool valid) {
        for (unsigned i = 0; i < bytes / 4; i++) shared[i] = valid ? global[i] : 0.0f;
    });
}
#elif __CUDA_ARCH__ >= 800
// Asynchronous copy of 16 bytes between aligned addresses. If `valid` is false, zeros are written and
// nothing is read.
__device__ __forceinline__ void cp_async16(float* shared, const float* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
// The same for one float.
__device__ __forceinline__ void cp_async4(float* shared, const float* global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((u32)__cvta_generic_to_shared(shared)), "l"(global),
                 "r"(valid ? 4 : 0)
                 : "memory");
}
// Waits for all copies of this thread; other threads see them after a barrier.
__device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#else
// Before Ampere, data are copied through registers.
__device__ __forceinline__ void cp_async16(float* shared, const float* global, bool valid) {
    *(float4*)shared = valid ? *(const float4*)global : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}
__device__ __forceinline__ void cp_async4(float* shared, const float* global, bool valid) { *shared = valid ? *global : 0.0f; }
__device__ __forceinline__ void cp_async_wait() {}
#endif
