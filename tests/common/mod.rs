//! What the numerical tests share. `presets.rs` is for the tests of devices, which take it by its path.

pub mod cases;
pub mod truth;
