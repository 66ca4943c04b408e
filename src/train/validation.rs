//! The likelihood of the validation images while a model trains.
//!
//! A run with the key `validate_every` sets its validation images aside: it trains on the split `fit`, which
//! has none of them. It measures them every `validate_every` steps with the weights that inference uses (the
//! moving averages, if the run has them), and saves a checkpoint with each measurement. The best of these
//! checkpoints is kept, and stands for the run. Training itself takes the same steps with and without it.

use super::images::open_images;
use crate::backend::Backend;
use crate::config::Config;
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::eval::{self, Evaluation};
use crate::models::Model;
use crate::store::VALIDATION;
use std::path::Path;
use std::sync::Arc;

/// The validation images of a run, and when they are measured.
pub(super) struct Validation {
    images: Arc<Images>,
    /// Steps from one measurement to the next.
    every: u32,
}

/// The split that a run with this configuration trains on.
pub(super) fn training_split(config: &Config) -> Split {
    if config.validate_every.unwrap_or(0) > 0 { Split::Fit } else { Split::Train }
}

impl Validation {
    /// Opens the validation images of the data set `data`, if the configuration of the model wants them.
    ///
    /// # Errors
    /// If there are none, or if they do not fit the model.
    pub fn open(model: &Model, data: &str, data_dir: Option<&Path>) -> Result<Option<Self>> {
        let every = model.config.validate_every.unwrap_or(0);
        if every == 0 {
            return Ok(None);
        }
        match open_images(model, data, Split::Valid, data_dir) {
            Ok(images) => Ok(Some(Validation { images: Arc::new(images), every })),
            Err(Error::MissingSplit(error)) => Err(Error::Failed(format!(
                "there are no validation images to measure every {every} steps: {error}; or set validate_every to 0"
            ))),
            Err(error) => Err(error),
        }
    }

    /// Whether the images are measured after `step` of `total` steps. The last step is always measured.
    pub fn is_due(&self, step: u64, total: u64) -> bool {
        step == total || step.is_multiple_of(u64::from(self.every))
    }

    /// The likelihood of the images, as a term of a row of metrics. It has the name and the sign of the
    /// objective, after [`VALIDATION`]: `valid_nll`, `valid_elbo` or `valid_iwae`, in nats per image.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn measure(&self, backend: &mut dyn Backend, model: &Model) -> Result<(String, f64)> {
        let k = model.config.importance_samples.unwrap_or(1);
        let images = self.images.clone();
        let Evaluation { likelihoods, terms } = eval::evaluate(backend, model, images, Split::Valid, k, "training")?;
        // A latent model has two bounds, of which the one that is its objective counts.
        let (name, value) = match (&likelihoods[..], terms, k) {
            ([exact], None, _) => ("nll", exact.nats),
            ([elbo, _], Some(_), 1) => ("elbo", -elbo.nats),
            ([_, iwae], Some(_), _) => ("iwae", -iwae.nats),
            _ => unreachable!("a model has one likelihood or two bounds"),
        };
        Ok((format!("{VALIDATION}{name}"), value))
    }
}
