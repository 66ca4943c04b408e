//! How good a model is: likelihoods with their protocol, and what a linear classifier reads from its latents. And whether
//! an autoregressive one sees what it may, and nothing else.

pub mod causality;
mod futures;
mod latents;
mod likelihood;
mod probe;
pub mod receptive_field;

pub use futures::{Futures, futures, sequence_of};
pub use latents::{Latents, check_encoder, encode, interpolate, reconstruct};
pub use likelihood::{ElboTerms, Evaluation, evaluate, has_likelihood};
pub use probe::{Probe, linear_probe};
