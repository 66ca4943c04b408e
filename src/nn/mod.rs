//! Layers recorded on the tape, and the parameters that they own.

pub mod params;

pub use params::{Init, Layout, Param, ParamSet};
