// The only file with inline PTX. Every wrapper has a body for the device and one for the host, where tests
// run the kernels.
#pragma once

#ifdef CUDA_ON_CPU
// Copies begin here and end at the wait: what is read without one is not there yet.
__device__ __forceinline__ void cp_async16(float* shared, const float* global, bool valid) {
    cuda_on_cpu::copy_later(shared, global, 16, valid);
}
__device__ __forceinline__ void cp_async4(float* shared, const float* global, bool valid) {
    cuda_on_cpu::copy_later(shared, global, 4, valid);
}
__device__ __forceinline__ void cp_async_wait() {
    // Here and not in the runtime, so that the sanitizers see who writes.
    cuda_on_cpu::finish_copies([](float* shared, const float* global, unsigned bytes, bool valid) {
        for (unsigned i = 0; i < bytes / 4; i++) shared[i] = valid ? global[i] : 0.0f;
    });
}
#elif __CUDA_ARCH__ >= 800
// Asynchronous copy of 16 bytes, both addresses aligned; zeros where `valid` is false, and then nothing is
// read.
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
// Before Ampere: through registers.
__device__ __forceinline__ void cp_async16(float* shared, const float* global, bool valid) {
    *(float4*)shared = valid ? *(const float4*)global : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}
__device__ __forceinline__ void cp_async4(float* shared, const float* global, bool valid) { *shared = valid ? *global : 0.0f; }
__device__ __forceinline__ void cp_async_wait() {}
#endif
