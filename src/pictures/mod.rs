//! Pictures of what models make: grids of images and curves over time, as PNG files.

pub mod grid;
pub mod sequences;
