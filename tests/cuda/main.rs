//! The CUDA backend, proven without a GPU.
//!
//! - `compile`: every kernel file becomes machine code for every architecture; registers, spills and shared
//!   memory are those of a table.
//! - `ops`, `training`, `sampling`: the unmodified kernels and the unmodified host code run on the CPU
//!   through the stand-in driver under `tests/cuda_on_cpu/`, against the CPU backend.
//! - `sanitizers`: the same under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
//! - `mistakes`: tests of the tests: mistakes put into the kernels are found.
//! - `refusals`: what is missing or fails is a sentence.
//!
//! They need g++ (`cuda-emu` in `PIXTAPE_REQUIRE`) and NVRTC (`nvrtc`), which the wheel
//! nvidia-cuda-nvrtc-cu12 holds; `PIXTAPE_NVRTC` names its folder. Where one is missing they print SKIP and
//! why, unless it is required.

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
