// Threads of a CUDA block as fibers on one OS thread.
//
// Built without -fsanitize=thread even where the kernels are built with it: ThreadSanitizer then sees the
// kernels' accesses alone, each CUDA thread as a fiber of its own, with barriers and shuffles as the only
// order between them. It finds the barrier that is missing although every schedule happens to give the right
// numbers.
//
// CUDA_ON_CPU_ORDER: forward (default), reverse or random order of the threads between barriers;
// CUDA_ON_CPU_SEED for the last.
#include "threads.h"
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>
#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// `extern __shared__ float shared[]` of the kernels. Here and not in their library, so that it is not filled
// with NaN before every block.
alignas(1024) thread_local unsigned char shared[cuda_on_cpu::MOST_SHARED];

namespace cuda_on_cpu {

__thread const Index* thread_index;
__thread Index block_index, block_size, grid_size;

namespace {

#if defined(WITH_ASAN) || defined(WITH_TSAN)
constexpr size_t STACK = 256 << 10;
#else
constexpr size_t STACK = 64 << 10;
#endif

enum State { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct PendingCopy {
    float* shared;
    const float* global;
    unsigned bytes;
    bool valid;
};

struct Fiber {
    Index index;
    State state;
    bool started;
    int line;  // where it waits
    void* stack_pointer;
    char* stack;
    void* fake_stack;  // AddressSanitizer's
    void* tsan;        // ThreadSanitizer's fiber
    std::vector<PendingCopy> copies;
};

struct Warp {
    float values[2][32];  // of this exchange and of the one before, which slow lanes may still read
    unsigned arrived, generation;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned> order;
    std::vector<char*> stacks;  // free ones
    unsigned current, done, arrived;
    int barrier_line;
    const Kernel* kernel;
    void** parameters;
    void* hub;  // stack pointer of the scheduler
    void* hub_tsan;
    void* hub_fake;
    const void* hub_bottom;
    size_t hub_size;
    std::mt19937 random;
    unsigned generation;  // of the barrier
    // By generation, so that a thread that has gone on to the next barrier gives nothing to those still
    // behind this one.
    char barrier_tags[2];
};
thread_local Block block;
char start_tag, end_tag;

// Saves the registers that a call preserves, changes the stack, restores those of the other side.
extern "C" void cuda_on_cpu_switch(void** save, void* to);
asm(R"(
    .text
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");

void release([[maybe_unused]] void* tag) {
#ifdef WITH_TSAN
    __tsan_release(tag);
#endif
}
void acquire([[maybe_unused]] void* tag) {
#ifdef WITH_TSAN
    __tsan_acquire(tag);
#endif
}

// Back to the scheduler, for ever if the thread is done.
void to_hub([[maybe_unused]] bool for_ever) {
    Fiber& me = block.fibers[block.current];
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &me.fake_stack, block.hub_bottom, block.hub_size);
#endif
#ifdef WITH_TSAN
    __tsan_switch_to_fiber(block.hub_tsan, 1);
#endif
    cuda_on_cpu_switch(&me.stack_pointer, block.hub);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(me.fake_stack, nullptr, nullptr);
#endif
}

void open_barrier() {
    block.generation++;
    block.arrived = 0;
    for (Fiber& fiber : block.fibers)
        if (fiber.state == AT_BARRIER) fiber.state = READY;
}

void fiber_main() {
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &block.hub_bottom, &block.hub_size);
#endif
    acquire(&start_tag);
    block.kernel->run(block.parameters);
    Fiber& me = block.fibers[block.current];
    me.state = DONE;
    block.done++;
    if (block.arrived != 0) die("a thread returns while others wait at __syncthreads()");
    release(&end_tag);
    // Blocks follow one another on the same fibers.
    release(&start_tag);
    to_hub(true);
    abort();
}

char* new_stack() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char* at = (char*)mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) die("no memory for the stacks of the threads");
    // A guard page: a stack that is too small faults.
    mprotect(at, 4096, PROT_NONE);
    return at + 4096;
}

void start(Fiber& fiber, [[maybe_unused]] unsigned index) {
    fiber.started = true;
#ifdef WITH_TSAN
    // A stack belongs to one of ThreadSanitizer's fibers for ever.
    static thread_local std::vector<std::pair<void*, char*>> all;
    while (all.size() <= index) all.push_back({__tsan_create_fiber(0), new_stack()});
    fiber.tsan = all[index].first;
    fiber.stack = all[index].second;
#else
    // Lent: a kernel that never waits runs every thread on the same warm stack.
    if (block.stacks.empty()) block.stacks.push_back(new_stack());
    fiber.stack = block.stacks.back();
    block.stacks.pop_back();
#endif
    void** top = (void**)(fiber.stack + STACK);
    *--top = nullptr;
    *--top = (void*)&fiber_main;
    fiber.stack_pointer = top - 6;
}

void resume(unsigned index) {
    Fiber& fiber = block.fibers[index];
    if (!fiber.started) start(fiber, index);
    block.current = index;
    thread_index = &fiber.index;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&block.hub_fake, fiber.stack, STACK);
#endif
#ifdef WITH_TSAN
    __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
    cuda_on_cpu_switch(&block.hub, fiber.stack_pointer);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(block.hub_fake, nullptr, nullptr);
#endif
#ifndef WITH_TSAN
    if (fiber.state == DONE) block.stacks.push_back(fiber.stack);
#endif
}

void run_block(unsigned threads) {
    if (block.fibers.size() != threads) {
        block.fibers = std::vector<Fiber>(threads);
        block.order.resize(threads);
        for (unsigned i = 0; i < threads; i++) block.order[i] = i;
    }
    block.warps.assign((threads + 31) / 32, Warp{});
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = block.fibers[i];
        fiber.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        fiber.state = READY;
        fiber.started = false;
        fiber.copies.clear();
    }
    block.done = block.arrived = 0;
#ifdef WITH_TSAN
    block.hub_tsan = __tsan_get_current_fiber();
#endif
    static const char* order = getenv("CUDA_ON_CPU_ORDER");
    static const char* seed = getenv("CUDA_ON_CPU_SEED");
    const bool random = order && !strcmp(order, "random"), reverse = order && !strcmp(order, "reverse");
    if (random) block.random.seed(seed ? atoi(seed) : 1);
    // What the fibers find was there before they began.
    release(&start_tag);
    while (block.done < threads) {
        bool ran = false;
        if (random) std::shuffle(block.order.begin(), block.order.end(), block.random);
        for (unsigned k = 0; k < threads; k++) {
            const unsigned i = block.order[reverse ? threads - 1 - k : k];
            if (block.fibers[i].state != READY) continue;
            ran = true;
            resume(i);
        }
        if (!ran) die("no thread can go on");
    }
    acquire(&end_tag);
}

// NaN in what the block may use of the dynamic shared memory; behind it a fault where AddressSanitizer
// looks.
void prepare_shared(size_t bytes) {
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(shared, MOST_SHARED);
#endif
    memset(shared, 0xff, bytes);
#ifdef WITH_ASAN
    __asan_poison_memory_region(shared + bytes, MOST_SHARED - bytes);
#endif
}

}  // namespace

void die(const char* what) {
    fprintf(stderr, "cuda_on_cpu: %s (block %u,%u,%u)\n", what, block_index.x, block_index.y, block_index.z);
    int shown = 0;
    for (const Fiber& fiber : block.fibers) {
        if ((fiber.state != AT_BARRIER && fiber.state != AT_EXCHANGE) || shown++ == 8) continue;
        fprintf(stderr, "  thread (%u,%u,%u) waits in line %d for the %s\n", fiber.index.x, fiber.index.y, fiber.index.z,
                fiber.line, fiber.state == AT_BARRIER ? "block" : "warp");
    }
    fprintf(stderr, "  %u of %zu threads are done\n", block.done, block.fibers.size());
    _exit(70);
}

void barrier(int line) {
    Fiber& me = block.fibers[block.current];
    me.line = line;
    if (block.arrived != 0 && block.barrier_line != line) die("threads of a block meet at __syncthreads() on different lines");
    if (block.done != 0) die("__syncthreads() after some threads of the block returned");
    block.barrier_line = line;
    void* tag = &block.barrier_tags[block.generation % 2];
    release(tag);
    if (++block.arrived == block.fibers.size()) {
        open_barrier();
    } else {
        me.state = AT_BARRIER;
        to_hub(false);
    }
    acquire(tag);
}

float exchange(float value, unsigned mask, int line) {
    const unsigned lane = block.current % 32;
    Warp& warp = block.warps[block.current / 32];
    if (block.current / 32 * 32 + 32 > block.fibers.size()) die("a shuffle in a warp of fewer than 32 threads");
    const unsigned now = warp.generation % 2;
    warp.values[now][lane] = value;
    release(&warp.values[now]);
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        warp.generation++;
        for (unsigned l = 0; l < 32; l++) {
            Fiber& fiber = block.fibers[block.current / 32 * 32 + l];
            if (fiber.state == AT_EXCHANGE) fiber.state = READY;
        }
    } else {
        Fiber& me = block.fibers[block.current];
        me.line = line;
        me.state = AT_EXCHANGE;
        to_hub(false);
    }
    acquire(&warp.values[now]);
    return warp.values[now][(lane ^ mask) % 32];
}

void copy_later(float* to, const float* from, unsigned bytes, bool valid) {
    if ((uintptr_t)to % bytes != 0 || (uintptr_t)from % bytes != 0) die("an asynchronous copy is not aligned");
    block.fibers[block.current].copies.push_back({to, from, bytes, valid});
}

void finish_copies(Copy copy) {
    std::vector<PendingCopy>& copies = block.fibers[block.current].copies;
    for (const PendingCopy& c : copies) copy(c.shared, c.global, c.bytes, c.valid);
    copies.clear();
}

void run_grid(Index grid, Index size, size_t bytes, const Kernel& kernel, void** parameters, void (*before_block)()) {
    const size_t blocks = (size_t)grid.x * grid.y * grid.z, threads = size.x * size.y * size.z;
    std::atomic<size_t> next{0};
    auto work = [&] {
        grid_size = grid;
        block_size = size;
        block.kernel = &kernel;
        block.parameters = parameters;
        for (size_t i; (i = next++) < blocks;) {
            block_index = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / ((size_t)grid.x * grid.y))};
            prepare_shared(bytes);
            before_block();
            run_block(threads);
        }
    };
#ifdef WITH_TSAN
    const bool alone = true;
#else
    // A thread costs more than a few small blocks.
    const bool alone = blocks == 1 || blocks * threads < 16384;
#endif
    if (alone) {
        work();
    } else {
        std::thread other(work);
        work();
        other.join();
    }
}

}  // namespace cuda_on_cpu
