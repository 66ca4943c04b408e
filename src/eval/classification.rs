//! What a classifier says of images: the features of its last hidden layer, its logits, and how often its
//! largest logit is that of the label.

use super::likelihood::{BATCH, one_pass};
use crate::backend::{self, Backend, Scalars};
use crate::data::{Batches, Images, Order};
use crate::error::{Error, Result};
use crate::models::{Family, Model};
use std::sync::Arc;

/// The quantile of the standard normal distribution that leaves out 2.5 % on each side.
const TWO_SIDED_95: f64 = 1.959_963_984_540_054_2;

/// What a classifier says of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    /// Number of features per image.
    pub dims: usize,
    /// Number of classes.
    pub classes: usize,
    /// `[n, dims]`
    pub features: Vec<f32>,
    /// `[n, classes]`
    pub logits: Vec<f32>,
    /// `[n]`, or empty if the images have no labels
    pub labels: Vec<u32>,
}

/// How often a classifier is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Accuracy {
    /// Images whose largest logit is that of their label.
    pub right: usize,
    /// Images that were judged.
    pub images: usize,
    /// Mean of -log p(label), in nats.
    pub cross_entropy: f64,
}

/// Computes the features and logits of all images, in their order. They are prepared as the configuration
/// of the model says.
///
/// # Errors
/// If the model is no classifier, and whatever the device reports.
pub(crate) fn judge(backend: &mut dyn Backend, model: &Model, images: Arc<Images>) -> Result<Judged> {
    let Family::Classifier(net) = &model.family else {
        let name = model.config.name();
        return Err(Error::Failed(format!("{name} is no classifier; train one, for example classifier-mnist")));
    };
    let plan = net.judging(BATCH);
    let compiled = backend.compile(&plan)?;
    let mut options = model.batch_options(Order::InOrder);
    options.batch = BATCH;
    let (dims, classes) = (net.features(), net.classes());
    let mut judged = Judged { dims, classes, features: vec![], logits: vec![], labels: vec![] };
    let (mut features, mut logits) = (vec![0.0; BATCH * dims], vec![0.0; BATCH * classes]);
    for batch in one_pass(Batches::new(images, options)?) {
        let n = batch.len();
        backend.run(compiled, &batch.feeds(&plan), &Scalars::default())?;
        backend::read(backend, compiled, plan.output("features"), &mut features)?;
        backend::read(backend, compiled, plan.output("logits"), &mut logits)?;
        judged.features.extend(&features[..n * dims]);
        judged.logits.extend(&logits[..n * classes]);
        judged.labels.extend(batch.labels.iter().take(n));
    }
    backend.free(compiled);
    Ok(judged)
}

impl Judged {
    /// The class of each image: that of its largest logit, the first one at a tie.
    pub fn predicted(&self) -> Vec<u32> {
        let largest = |row: &[f32]| (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32;
        self.logits.chunks_exact(self.classes).map(largest).collect()
    }

    /// How often the classifier is right.
    ///
    /// # Panics
    /// If there is not one label per image.
    pub fn accuracy(&self) -> Accuracy {
        let images = self.logits.len() / self.classes;
        assert_eq!(self.labels.len(), images, "an accuracy needs a label per image");
        let right = self.predicted().iter().zip(&self.labels).filter(|(class, label)| class == label).count();
        let rows = self.logits.chunks_exact(self.classes).zip(&self.labels);
        let total: f64 = rows.map(|(row, label)| cross_entropy(row, *label as usize)).sum();
        Accuracy { right, images, cross_entropy: total / images as f64 }
    }
}

impl Accuracy {
    /// The fraction of the images of which the classifier is right.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.images as f64
    }

    /// The 95 % confidence interval of that fraction.
    pub fn interval(&self) -> [f64; 2] {
        wilson(self.right, self.images)
    }
}

/// -log softmax(logits)[label], in nats.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|z| f64::from(z - top).exp()).sum();
    sum.ln() + f64::from(top - logits[label])
}

/// The 95 % confidence interval of a probability of which `n` trials had `k` successes (Wilson, "Probable
/// inference, the law of succession, and statistical inference", 1927).
pub(crate) fn wilson(k: usize, n: usize) -> [f64; 2] {
    let (k, n, z) = (k as f64, n as f64, TWO_SIDED_95);
    let middle = (k + z * z / 2.0) / (n + z * z);
    let half = z / (n + z * z) * (k * (n - k) / n + z * z / 4.0).sqrt();
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(logits: &[f32], labels: &[u32]) -> Judged {
        Judged { dims: 0, classes: 3, features: vec![], logits: logits.to_vec(), labels: labels.to_vec() }
    }

    #[test]
    fn the_class_is_that_of_the_largest_logit_and_the_first_one_at_a_tie() {
        let judged = judged(&[0.0, 2.0, 1.0, 5.0, 5.0, 1.0, -3.0, -2.0, -2.0], &[1, 1, 2]);
        assert_eq!(judged.predicted(), [1, 0, 1]);
        let Accuracy { right, images, cross_entropy } = judged.accuracy();
        assert_eq!((right, images), (1, 3));
        let of = |row: [f64; 3], label: usize| row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[label];
        let expected = (of([0.0, 2.0, 1.0], 1) + of([5.0, 5.0, 1.0], 1) + of([-3.0, -2.0, -2.0], 2)) / 3.0;
        assert!((cross_entropy - expected).abs() < 1e-12, "{cross_entropy} {expected}");
    }

    /// The values are those of the formula with 40 decimal digits.
    #[test]
    fn the_interval_is_that_of_wilson() {
        for (k, n, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889_25),
            (10, 10, 0.722_467_200_137_110_7, 1.0),
            (5, 10, 0.236_593_090_512_563_97, 0.763_406_909_487_436),
            (9930, 10_000, 0.991_165_996_916_067_4, 0.994_455_380_690_445_5),
        ] {
            let [got_low, got_high] = wilson(k, n);
            let is_near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(is_near(got_low, low) && is_near(got_high, high), "{k} of {n}: {got_low} to {got_high}");
        }
    }
}
