//! Compares the wgpu backend with the definition of every op and with the CPU backend.
//!
//! - `ops`: the case table and the reference cases; values, gradients, closed weights.
//! - `training`: one step of every preset at its full size and twenty steps at reduced sizes, compared with
//!   the CPU.
//! - `sampling`: windowed sampling, compared with naive sampling and with the CPU; completion; the commands.
//! - `devices`: adapters by number and name, refusals, limits.
//! - `lost`: a device that is lost while the program uses it.
//! - `browser`: a headless Chromium compiles every shader, with the pipelines of every preset.
//!
//! The tests need an adapter; software Vulkan (`mesa-vulkan-drivers`) is enough. Without an adapter they
//! print SKIP and the reason. With `wgpu` in `PIXTAPE_REQUIRE` they fail instead.

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod devices;
#[cfg(target_os = "linux")]
mod lost;
mod ops;
#[path = "../common/presets.rs"]
mod presets;
mod sampling;
mod training;

use pixtape::backend::Backend;
use pixtape::backend::wgpu::{Options, Wgpu, adapters};

fn is_required(what: &str) -> bool {
    std::env::var("PIXTAPE_REQUIRE").unwrap_or_default().split(',').any(|r| r == what)
}

fn open(options: Options) -> Option<Wgpu> {
    if adapters().is_empty() {
        assert!(!is_required("wgpu"), "PIXTAPE_REQUIRE asks for `wgpu`, but there is no adapter");
        println!("SKIP: there is no Vulkan, Metal or DX12 driver");
        return None;
    }
    Some(Wgpu::new(options).expect("the adapter opens"))
}

fn wgpu() -> Option<Box<dyn Backend>> {
    open(Options::default()).map(|device| Box::new(device) as Box<dyn Backend>)
}
