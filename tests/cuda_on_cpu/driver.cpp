// A stand-in libcuda.so.1: the part of the CUDA driver that the CUDA backend calls, over the fibers of
// threads.cpp.
//
// A module's image is not looked at: kernels come from the library that CUDA_ON_CPU_KERNELS names. What is
// enqueued in a stream runs when somebody waits for the stream or for an event, and no earlier: what the
// host forgets to wait for is not there yet, and pinned memory that it overwrites too early is overwritten.
// A capture records and runs nothing.
//
// Refused as a card refuses it: a call from a thread in which the context is not current; memory, modules or
// waiting while a capture is under way; more shared memory than the function was last given; a time between
// events that have not passed.
//
// Failures on demand: CUDA_ON_CPU_START (the error of cuInit), CUDA_ON_CPU_DRIVER (version of the driver),
// CUDA_ON_CPU_DEVICES (cards), CUDA_ON_CPU_MEMORY (bytes in all), CUDA_ON_CPU_FAULT (so many launches, then
// the error CUDA_ON_CPU_ERROR, or else an illegal address). Other cards: CUDA_ON_CPU_SHARED (bytes a block
// may ask for), CUDA_ON_CPU_PROCESSORS (multiprocessors, by which tiles are chosen).
#include "threads.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <functional>
#include <link.h>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default"))) int

using Address = unsigned long long;
using Work = std::vector<std::function<int()>>;

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, STUB_LIBRARY = 34, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
       NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, CONTEXT_IS_DESTROYED = 709,
       CAPTURE_UNSUPPORTED = 900 };

struct Function {
    const cuda_on_cpu::Kernel* kernel;
    unsigned most_shared = 48 << 10;  // what a launch may ask for until it is set
};
struct Stream {
    Work queue;
    Work* capture = nullptr;
};
struct Event {
    double seconds = 0;
    bool passed = false;
    Stream* stream = nullptr;
};

// Of the thread that calls: whether a context is current, and whether it is capturing.
static thread_local bool has_context, is_capturing;
#define IN_CONTEXT            \
    if (!has_context) return INVALID_CONTEXT
#define OUTSIDE_OF_A_CAPTURE  \
    IN_CONTEXT;               \
    if (is_capturing) return CAPTURE_UNSUPPORTED

static std::recursive_mutex mutex;
static std::map<Address, size_t> allocations;
static size_t allocated;
static const char* kernels_path;
static int sticky;

static long number(const char* variable, long otherwise) {
    const char* text = getenv(variable);
    return text ? atol(text) : otherwise;
}
static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
static int submit(void* stream, std::function<int()> work) {
    IN_CONTEXT;
    if (sticky) return sticky;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    Stream* s = (Stream*)stream;
    (s->capture ? *s->capture : s->queue).push_back(std::move(work));
    return OK;
}
static int drain(Stream* stream) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    Work work;
    work.swap(stream->queue);
    for (auto& item : work) {
        if (sticky) return sticky;
        if (int error = item()) sticky = error;
    }
    return sticky;
}

// Fills the static __shared__ arrays (the thread-local memory of the kernels' library) with NaN.
static void* (*anchor)();
static void poison_static_shared() {
    static thread_local void* at = nullptr;
    static thread_local size_t bytes = 0;
    if (!at) {
        // Makes this thread's copy exist.
        anchor();
        dl_iterate_phdr(
            [](dl_phdr_info* info, size_t, void*) {
                if (!info->dlpi_name || strcmp(info->dlpi_name, kernels_path) != 0 || !info->dlpi_tls_data) return 0;
                for (int i = 0; i < info->dlpi_phnum; i++)
                    if (info->dlpi_phdr[i].p_type == PT_TLS) at = info->dlpi_tls_data, bytes = info->dlpi_phdr[i].p_memsz;
                return 1;
            },
            nullptr);
    }
    if (at) memset(at, 0xff, bytes);
}

API cuInit(unsigned) { return number("CUDA_ON_CPU_START", number("CUDA_ON_CPU_DEVICES", 1) > 0 ? OK : NO_DEVICE); }
API cuDriverGetVersion(int* version) { return *version = number("CUDA_ON_CPU_DRIVER", 12080), OK; }
API cuDeviceGetCount(int* count) { return *count = 1, OK; }
API cuDeviceGet(int* device, int ordinal) { return *device = 0, ordinal ? INVALID_DEVICE : OK; }
API cuDeviceGetName(char* name, int len, int) { return snprintf(name, len, "CUDA on CPU"), OK; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 75: *value = 8; break;  // compute capability 8.0
        case 76: *value = 0; break;
        case 16: *value = number("CUDA_ON_CPU_PROCESSORS", 2); break;  // multiprocessors
        case 13: *value = 1000000; break;  // clock in kHz
        case 36: *value = 1000000; break;  // that of the memory
        case 37: *value = 64; break;  // width of its bus in bits
        case 97: *value = number("CUDA_ON_CPU_SHARED", cuda_on_cpu::MOST_SHARED); break;
        default: return INVALID_VALUE;
    }
    return OK;
}
API cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)1, OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void* context) { return has_context = context != nullptr, OK; }
API cuGetErrorString(int error, const char** text) {
    return *text = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "an error of the stand-in driver", OK;
}
API cuGetErrorName(int error, const char** name) {
    switch (error) {
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
        case STUB_LIBRARY: *name = "CUDA_ERROR_STUB_LIBRARY"; break;
        case CONTEXT_IS_DESTROYED: *name = "CUDA_ERROR_CONTEXT_IS_DESTROYED"; break;
        case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
        case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
        case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
        case NOT_READY: *name = "CUDA_ERROR_NOT_READY"; break;
        case CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
        default: *name = "CUDA_ERROR_UNKNOWN";
    }
    return OK;
}

// Behind every allocation lies a fence; what writes over it is found when the memory is freed.
constexpr size_t FENCE = 256;
API cuMemAlloc_v2(Address* address, size_t bytes) {
    OUTSIDE_OF_A_CAPTURE;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (sticky) return sticky;
    if (allocated + bytes > (size_t)number("CUDA_ON_CPU_MEMORY", 1l << 34)) return OUT_OF_MEMORY;
#ifdef WITH_ASAN
    // Exactly as long as it was asked for: AddressSanitizer watches both ends. 0xff makes NaN of what was
    // never written.
    void* at = malloc(bytes);
    memset(at, 0xff, bytes);
#else
    void* at = aligned_alloc(256, (bytes + FENCE + 255) / 256 * 256);
    memset(at, 0xff, bytes + FENCE);
#endif
    allocations[*address = (Address)at] = bytes;
    allocated += bytes;
    return OK;
}
API cuMemFree_v2(Address address) {
    OUTSIDE_OF_A_CAPTURE;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    const size_t bytes = allocations.at(address);
#ifndef WITH_ASAN
    for (size_t i = 0; i < FENCE; i++)
        if (((unsigned char*)address)[bytes + i] != 0xff) cuda_on_cpu::die("something was written behind the end of device memory");
#endif
    allocations.erase(address);
    allocated -= bytes;
    free((void*)address);
    return OK;
}
API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    IN_CONTEXT;
    *total = number("CUDA_ON_CPU_MEMORY", 1l << 34);
    return *free_bytes = *total - allocated, OK;
}
API cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    OUTSIDE_OF_A_CAPTURE;
    return *at = malloc(bytes), OK;
}
API cuMemFreeHost(void* at) {
    OUTSIDE_OF_A_CAPTURE;
    return free(at), OK;
}
API cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    return submit(stream, [=] { return memcpy(to, (void*)from, bytes), OK; });
}
API cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    return submit(stream, [=] { return memcpy((void*)to, from, bytes), OK; });
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream) {
    return submit(stream, [=] { return memcpy((void*)to, (void*)from, bytes), OK; });
}
API cuMemsetD8Async(Address at, unsigned char value, size_t bytes, void* stream) {
    return submit(stream, [=] { return memset((void*)at, value, bytes), OK; });
}

API cuStreamCreate(void** stream, unsigned) {
    OUTSIDE_OF_A_CAPTURE;
    return *stream = new Stream, OK;
}
API cuStreamDestroy_v2(void* stream) { return delete (Stream*)stream, OK; }
API cuStreamSynchronize(void* stream) {
    OUTSIDE_OF_A_CAPTURE;
    return drain((Stream*)stream);
}
API cuEventCreate(void** event, unsigned) {
    IN_CONTEXT;
    return *event = new Event, OK;
}
API cuEventDestroy_v2(void* event) { return delete (Event*)event, OK; }
API cuEventRecord(void* event, void* stream) {
    ((Event*)event)->stream = (Stream*)stream;
    ((Event*)event)->passed = false;
    return submit(stream, [=] { return ((Event*)event)->seconds = now(), ((Event*)event)->passed = true, OK; });
}
API cuEventSynchronize(void* event) {
    OUTSIDE_OF_A_CAPTURE;
    Stream* stream = ((Event*)event)->stream;
    return stream ? drain(stream) : OK;
}
API cuEventElapsedTime(float* ms, void* from, void* to) {
    IN_CONTEXT;
    if (!((Event*)from)->passed || !((Event*)to)->passed) return NOT_READY;
    return *ms = (((Event*)to)->seconds - ((Event*)from)->seconds) * 1e3, OK;
}

API cuStreamBeginCapture_v2(void* stream, int) {
    OUTSIDE_OF_A_CAPTURE;
    is_capturing = true;
    return ((Stream*)stream)->capture = new Work, OK;
}
API cuStreamEndCapture(void* stream, void** graph) {
    is_capturing = false;
    *graph = ((Stream*)stream)->capture;
    ((Stream*)stream)->capture = nullptr;
    return OK;
}
API cuGraphInstantiateWithFlags(void** instance, void* graph, unsigned long long) {
    OUTSIDE_OF_A_CAPTURE;
    return *instance = new Work(*(Work*)graph), OK;
}
API cuGraphUpload(void*, void*) { return OK; }
API cuGraphLaunch(void* instance, void* stream) {
    return submit(stream, [=] {
        for (auto& item : *(Work*)instance)
            if (int error = item()) return error;
        return (int)OK;
    });
}
API cuGraphDestroy(void* graph) { return delete (Work*)graph, OK; }
API cuGraphExecDestroy(void* instance) { return delete (Work*)instance, OK; }

API cuModuleLoadData(void** module, const void*) {
    OUTSIDE_OF_A_CAPTURE;
    kernels_path = getenv("CUDA_ON_CPU_KERNELS");
    *module = kernels_path ? dlopen(kernels_path, RTLD_NOW | RTLD_GLOBAL) : nullptr;
    if (!*module) {
        fprintf(stderr, "cuda_on_cpu: CUDA_ON_CPU_KERNELS: %s\n", kernels_path ? dlerror() : "not set");
        return INVALID_IMAGE;
    }
    anchor = (void* (*)())dlsym(*module, "cuda_on_cpu_anchor");
    return OK;
}
API cuModuleUnload(void*) { return OK; }
API cuModuleGetFunction(void** function, void* module, const char* name) {
    auto kernel = (const cuda_on_cpu::Kernel*)dlsym(module, (std::string(name) + "_on_cpu").c_str());
    if (!kernel) return NOT_FOUND;
    // Lives as long as its module: for ever.
    static std::map<std::string, Function> functions;
    Function& entry = functions[name];
    entry.kernel = kernel;
    return *function = &entry, OK;
}
API cuFuncSetAttribute(void* function, int attribute, int value) {
    if (attribute != 8 || value > number("CUDA_ON_CPU_SHARED", cuda_on_cpu::MOST_SHARED)) return INVALID_VALUE;
    // A smaller value takes back what a larger one gave.
    return ((Function*)function)->most_shared = value, OK;
}
API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void* stream, void** parameters, void**) {
    static long fault = number("CUDA_ON_CPU_FAULT", -1);
    auto f = (Function*)function;
    const unsigned threads = bx * by * bz;
    if (!gx || !gy || !gz || !threads || gy > 65535 || gz > 65535 || gx > 0x7fffffff) return INVALID_VALUE;
    if (threads > f->kernel->most_threads || threads % 32 != 0 || shared > f->most_shared) return INVALID_VALUE;
    std::vector<std::vector<char>> values;
    for (int i = 0; f->kernel->sizes[i]; i++) {
        const char* from = (const char*)parameters[i];
        values.emplace_back(from, from + f->kernel->sizes[i]);
    }
    return submit(stream, [=]() mutable {
        if (fault >= 0 && fault-- == 0) return (int)number("CUDA_ON_CPU_ERROR", ILLEGAL_ADDRESS);
        std::vector<void*> pointers;
        for (auto& value : values) pointers.push_back(value.data());
        cuda_on_cpu::run_grid({gx, gy, gz}, {bx, by, bz}, shared, *f->kernel, pointers.data(), poison_static_shared);
        return (int)OK;
    });
}
