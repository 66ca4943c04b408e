// What the stand-in driver asks of the fibers.
#pragma once
#include "cuda_on_cpu.h"

namespace cuda_on_cpu {

// Dynamic shared memory that a block can ask for: that of a Hopper card.
constexpr size_t MOST_SHARED = 227 << 10;

// Runs every block of a grid; `shared` is the bytes of dynamic shared memory, `before_block` fills the
// static part.
void run_grid(Index grid, Index block, size_t shared, const Kernel& kernel, void** parameters, void (*before_block)());

// Ends the process with a message and where the threads of the block stand.
[[noreturn]] void die(const char* what);

}  // namespace cuda_on_cpu
