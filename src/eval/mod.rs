//! How good a model is: likelihoods with their protocol, and what a linear classifier reads from its latents.

mod latents;
mod likelihood;
mod probe;

pub use latents::{Latents, encode, interpolate, reconstruct};
pub use likelihood::{Evaluation, evaluate};
pub use probe::{Probe, linear_probe};
