//! The likelihood of a run that has just been trained, or a classifier's accuracy, on images that it was not
//! trained on.
//!
//! The test split is measured. If the data set has none, the validation split is measured instead, unless
//! its images are among the training images, as they are for idx and CIFAR-10 files. A test split that
//! exists but cannot be used is an error.

use super::accuracy::{self, SplitAccuracy};
use super::args::{DataArgs, DeviceArgs};
use super::measured;
use super::output::note;
use super::progress::Busy;
use super::trained::{CheckpointArgs, Stored, Trained};
use crate::data::{Images, Split};
use crate::error::{Error, Result};
use crate::eval;
use crate::likelihood::Likelihood;
use crate::models::{Family, Model};
use std::path::Path;
use std::sync::Arc;

/// What was measured on held-out images.
#[derive(Clone, Default)]
pub(super) struct Results {
    /// Empty if the model has no likelihood.
    pub likelihoods: Vec<Likelihood>,
    /// Of a classifier.
    pub accuracy: Option<SplitAccuracy>,
}

/// Measures the checkpoint that stands for the run in `run`, if it is a classifier or has a likelihood,
/// and if there are held-out images. It takes one pass: for a latent model only the ELBO is measured, not
/// the tighter bound with many samples.
///
/// # Errors
/// If held-out images cannot be read or do not fit the model. The run is saved all the same.
pub(super) fn measure(run: &Path, data: &DataArgs, device: &DeviceArgs) -> Result<Results> {
    let stored = Stored::read(&CheckpointArgs { checkpoint: run.to_path_buf(), weights: None })?;
    let is_classifier = matches!(stored.model.family, Family::Classifier(_));
    if !is_classifier && !eval::has_likelihood(&stored.model) {
        return Ok(Results::default());
    }
    let Some(HeldOut { split, images }) = held_out(&stored, data, what(&stored.model))? else {
        return Ok(Results::default());
    };
    let mut trained = Trained::of(stored, device)?;
    let busy = Busy::new(&format!("measuring {} held-out images", images.len()));
    if is_classifier {
        return Ok(Results { accuracy: Some(accuracy::measure(&mut trained, images, split)?), likelihoods: vec![] });
    }
    let mut found = measured::measure(&mut trained, images, split, 1)?.likelihoods;
    drop(busy);
    found.retain(|row| row.protocol.estimate.importance_samples().is_none());
    measured::keep(&trained.stored, &found);
    Ok(Results { likelihoods: found, accuracy: None })
}

/// What is measured of a model, in words.
pub(super) fn what(model: &Model) -> &'static str {
    if let Family::Classifier(_) = model.family { "accuracy" } else { "likelihood" }
}

/// Warns if the images, which are the split `split`, are among those that the model was trained on.
pub(super) fn warn_if_trained_on(stored: &Stored, data: &DataArgs, images: &Images, split: Split) {
    // The test split never overlaps with the training split. Without the training images there is nothing to
    // compare with, and measuring does not need them.
    if split == Split::Test {
        return;
    }
    let Ok(training) = data.open(stored, Split::Train) else { return };
    let is_same = stored.trained_on().is_none_or(|known| known.sha256 == training.sha256());
    if is_same && images.all_among(&training) {
        note(&format!("warning: the images of the split {split} are among those that the model was trained on"));
    }
}

/// Images that a model was not trained on.
struct HeldOut {
    split: Split,
    images: Arc<Images>,
}

fn held_out(stored: &Stored, data: &DataArgs, what: &str) -> Result<Option<HeldOut>> {
    let missing = match data.open(stored, Split::Test) {
        Ok(images) => return Ok(Some(HeldOut { split: Split::Test, images })),
        Err(Error::MissingSplit(error)) => error,
        Err(error) => return Err(error),
    };
    let images = match data.open(stored, Split::Valid) {
        Ok(images) => images,
        Err(Error::MissingSplit(_)) => {
            note(&format!("the {what} is not measured, because there are no held-out images: {missing}"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let training = data.open(stored, Split::Train)?;
    if images.all_among(&training) {
        note(&format!(
            "the {what} is not measured, because there are no held-out images: the validation images are among the \
             training images, and there is no test split ({missing})"
        ));
        return Ok(None);
    }
    note(&format!("the {what} is that of the split valid, because there is no test split ({missing})"));
    Ok(Some(HeldOut { split: Split::Valid, images }))
}
