//! pixtape: hand-written compute kernels and a small autodiff tape for generative image models.

pub mod backend;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod models;
pub mod nn;
pub mod optim;
pub mod report;
pub mod rng;
pub mod sampling;
pub mod shape;
pub mod tape;
pub mod train;

pub use error::{Error, Result};
