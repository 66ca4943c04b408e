//! Pictures of images and sequences as PNG files: [`grid`] puts images next to each other, `sequences`
//! draws time series as curves, `png` says in a file where its picture comes from.

pub mod grid;
pub(crate) mod png;
pub(crate) mod sequences;

pub use sequences::futures_png;
