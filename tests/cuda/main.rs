//! Tests of the CUDA backend that need no GPU.
//!
//! - `compile`: every kernel file is compiled to machine code for every architecture; registers, spills and
//!   shared memory are compared with a table.
//! - `ops`, `training`, `sampling`: the unmodified kernels and the unmodified host code run on the CPU,
//!   through the stand-in driver in `tests/cuda_on_cpu/`, and are compared with the CPU backend.
//! - `sanitizers`: the case table runs under AddressSanitizer, UndefinedBehaviorSanitizer and
//!   ThreadSanitizer.
//! - `mistakes`: tests of the tests; they put mistakes into kernels, which must be found.
//! - `refusals`: whatever is missing or fails is reported in one sentence.
//!
//! They need g++ (`cuda-emu` in `PIXTAPE_REQUIRE`) and NVRTC (`nvrtc`), which is in the wheel
//! nvidia-cuda-nvrtc-cu12; `PIXTAPE_NVRTC` names its folder. If one is missing, the tests print SKIP and the
//! reason, or fail if it is required.

mod compile;
mod mistakes;
mod ops;
#[path = "../common/presets.rs"]
mod presets;
mod refusals;
mod sampling;
mod sanitizers;
mod stand_in;
mod training;
