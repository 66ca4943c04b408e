//! The tape.

pub mod geometry;
pub mod op;
