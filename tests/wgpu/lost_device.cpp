// A Vulkan driver that loses its device: Mesa's software driver, except that the calls that submit work and
// wait for it report VK_ERROR_DEVICE_LOST once LOST_AFTER submissions were made. LOST_DRIVER names the
// library of the real driver.
//
// The loader asks a driver for every function by name (vk_icdGetInstanceProcAddr, and through that
// vkGetDeviceProcAddr), so the few functions that are replaced here are handed out by name, and all others
// come from the real driver. Handles are only passed on, so that no header of Vulkan is needed.

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

using Function = void (*)();
using GetProcAddr = Function (*)(void *, const char *);

constexpr int DEVICE_LOST = -4;

std::atomic<int> submissions{0};
GetProcAddr real_device_proc;
Function real_submit, real_submit2, real_wait_semaphores, real_wait_fences;

void *driver() {
    static void *library = dlopen(std::getenv("LOST_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    return library;
}

template <class F> F exported(const char *name) { return reinterpret_cast<F>(dlsym(driver(), name)); }

int lost_after() {
    static const int after = std::atoi(std::getenv("LOST_AFTER"));
    return after;
}

bool is_lost() { return submissions.load() > lost_after(); }

int submit(void *queue, uint32_t count, const void *submits, void *fence) {
    submissions++;
    return is_lost() ? DEVICE_LOST
                     : reinterpret_cast<int (*)(void *, uint32_t, const void *, void *)>(real_submit)(queue, count, submits, fence);
}

int submit2(void *queue, uint32_t count, const void *submits, void *fence) {
    submissions++;
    return is_lost() ? DEVICE_LOST
                     : reinterpret_cast<int (*)(void *, uint32_t, const void *, void *)>(real_submit2)(queue, count, submits, fence);
}

int wait_semaphores(void *device, const void *info, uint64_t timeout) {
    return is_lost() ? DEVICE_LOST
                     : reinterpret_cast<int (*)(void *, const void *, uint64_t)>(real_wait_semaphores)(device, info, timeout);
}

int wait_fences(void *device, uint32_t count, const void *fences, uint32_t all, uint64_t timeout) {
    return is_lost() ? DEVICE_LOST
                     : reinterpret_cast<int (*)(void *, uint32_t, const void *, uint32_t, uint64_t)>(real_wait_fences)(
                           device, count, fences, all, timeout);
}

Function device_proc(void *device, const char *name);

// What stands in for the real function, which is remembered.
Function replaced(const char *name, Function real) {
    struct Replacement {
        const char *name;
        Function *real;
        Function ours;
    };
    static const Replacement all[] = {
        {"vkQueueSubmit", &real_submit, reinterpret_cast<Function>(submit)},
        {"vkQueueSubmit2", &real_submit2, reinterpret_cast<Function>(submit2)},
        {"vkQueueSubmit2KHR", &real_submit2, reinterpret_cast<Function>(submit2)},
        {"vkWaitSemaphores", &real_wait_semaphores, reinterpret_cast<Function>(wait_semaphores)},
        {"vkWaitSemaphoresKHR", &real_wait_semaphores, reinterpret_cast<Function>(wait_semaphores)},
        {"vkWaitForFences", &real_wait_fences, reinterpret_cast<Function>(wait_fences)},
    };
    for (const Replacement &one : all) {
        if (real != nullptr && std::strcmp(name, one.name) == 0) {
            *one.real = real;
            return one.ours;
        }
    }
    if (real != nullptr && std::strcmp(name, "vkGetDeviceProcAddr") == 0) {
        real_device_proc = reinterpret_cast<GetProcAddr>(real);
        return reinterpret_cast<Function>(device_proc);
    }
    return real;
}

Function device_proc(void *device, const char *name) { return replaced(name, real_device_proc(device, name)); }

}  // namespace

extern "C" int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
    return exported<int (*)(uint32_t *)>("vk_icdNegotiateLoaderICDInterfaceVersion")(version);
}

extern "C" Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    return replaced(name, exported<GetProcAddr>("vk_icdGetInstanceProcAddr")(instance, name));
}

extern "C" Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
    return exported<GetProcAddr>("vk_icdGetPhysicalDeviceProcAddr")(instance, name);
}
