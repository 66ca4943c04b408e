//! Measurements of a trained model: likelihoods with their protocol ([`evaluate`]), predictions of
//! sequences ([`futures`]), latent vectors and a linear probe of them ([`encode`], [`linear_probe`]), and
//! the dependencies of an autoregressive model ([`causality`]).

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
