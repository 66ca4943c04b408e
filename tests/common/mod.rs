//! What the numerical tests share.

pub mod cases;
pub mod truth;
