//! Measurements of a trained model: likelihoods with their protocol ([`evaluate`]), predictions of
//! sequences ([`futures`]), latent vectors and a linear probe of them ([`encode`], [`linear_probe`]), and
//! the dependencies of an autoregressive model ([`causality`]). With the command line: how much features
//! help with few labels (`few_labels`), what a classifier says of images, the quality of samples by its
//! features (`classification`, `quality`), how sharp images are (`sharpness`), and how far reconstructions
//! are from them (`reconstruction`).

pub mod causality;
#[cfg(feature = "cli")]
mod classification;
#[cfg(feature = "cli")]
mod few_labels;
#[cfg(feature = "cli")]
mod frechet;
mod futures;
mod latents;
#[cfg(feature = "cli")]
mod lbfgs;
mod likelihood;
#[cfg(feature = "cli")]
mod nearest;
#[cfg(feature = "cli")]
mod neighbours;
mod probe;
#[cfg(feature = "cli")]
mod quality;
#[cfg(feature = "cli")]
mod receptive_field;
#[cfg(feature = "cli")]
mod reconstruction;
#[cfg(feature = "cli")]
mod shares;
#[cfg(feature = "cli")]
mod sharpness;
#[cfg(feature = "cli")]
mod softmax_regression;
#[cfg(feature = "cli")]
mod traversal;

#[cfg(feature = "cli")]
pub(crate) use classification::{Accuracy, Judged, judge, wilson};
#[cfg(feature = "cli")]
pub(crate) use few_labels::{FewLabels, LabelDraws, Score, pixels};
#[cfg(feature = "cli")]
pub(crate) use frechet::{Trend, shuffled};
#[cfg(feature = "cli")]
pub(crate) use futures::sequence_of;
pub use futures::{Futures, futures};
#[cfg(feature = "cli")]
pub(crate) use latents::check_encoder;
pub use latents::{Latents, encode, interpolate, reconstruct};
pub use likelihood::{ElboTerms, Evaluation, evaluate};
#[cfg(feature = "cli")]
pub(crate) use likelihood::{has_likelihood, instead_of_likelihood};
#[cfg(feature = "cli")]
pub(crate) use neighbours::{Neighbour, nearest_by_pixels};
pub use probe::{Probe, linear_probe};
#[cfg(feature = "cli")]
pub(crate) use quality::{LEAST, NEIGHBOUR, Quality, Reference, points};
#[cfg(feature = "cli")]
pub(crate) use receptive_field::{LEGEND, receptive_field_png};
#[cfg(feature = "cli")]
pub(crate) use reconstruction::{error_of_mean, reconstruction_error};
#[cfg(feature = "cli")]
pub(crate) use shares::ClassCounts;
#[cfg(feature = "cli")]
pub(crate) use sharpness::{blurred, sharpness};
#[cfg(feature = "cli")]
pub(crate) use traversal::{TraversalOptions, latent_plane, traverse};
