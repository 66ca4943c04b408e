//! Shared code of the numerical tests. The tests of devices include `presets.rs` by its path.

pub mod cases;
pub mod truth;
