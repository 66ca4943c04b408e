//! Shared code of the numerical tests: the f64 definition of every op (`truth`) and the case table
//! (`cases`).
//!
//! The tests of devices include `presets.rs` by its path.

pub mod cases;
pub mod truth;
