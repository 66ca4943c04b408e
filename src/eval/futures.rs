//! Measures how well a model predicts the continuation of sequences, compared with a baseline that
//! ignores the past.

use super::likelihood::{BATCH, one_pass};
use crate::backend::{self, Backend, Feed, Scalars};
use crate::config::Distribution;
use crate::data::{Batches, Images, Order};
use crate::error::{Error, Result};
use crate::models::{Family, LEAST_LOGVAR, Model, Observations, Sequence};
use std::f64::consts::TAU;
use std::sync::Arc;

/// Mean negative log-likelihoods per step, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Futures {
    /// Number of sequences that were measured.
    pub sequences: usize,
    /// The steps from the end of the prefix on, each given all earlier ones.
    pub future: f64,
    /// The steps of the prefix, each given all earlier ones. NaN if the prefix is empty.
    pub prefix: f64,
    /// The baseline for the steps after the prefix: each value has an independent normal or Bernoulli
    /// distribution for its position, fitted to the training set.
    pub baseline: f64,
}

/// The sequence network of a model.
///
/// # Errors
/// If the model belongs to another family. The message names presets of this family.
pub(crate) fn sequence_of(model: &Model) -> Result<&Sequence> {
    match &model.family {
        Family::Sequence(net) => Ok(net),
        _ => Err(Error::Failed(format!(
            "{} does not model sequences; give a checkpoint of lstm-oscillator, lstm-pendulum or lstm-rows-mnist",
            model.config.name()
        ))),
    }
}

/// Measures the likelihood of the steps after the first `given` of `held_out` sequences.
///
/// # Errors
/// If the model belongs to another family, or if no step is left to predict.
pub fn futures(
    backend: &mut dyn Backend,
    model: &Model,
    held_out: Arc<Images>,
    training: Arc<Images>,
    given: usize,
) -> Result<Futures> {
    let net = sequence_of(model)?;
    let observations = net.observations();
    let Observations { steps, .. } = observations;
    if given >= steps {
        return Err(Error::Usage(format!(
            "a prefix of {given} steps leaves nothing to predict; give fewer than {steps}"
        )));
    }
    let memoryless = Memoryless::fit(observations, batches(model, training)?);
    let plan = net.likelihood(BATCH);
    let compiled = backend.compile(&plan)?;
    let mut nll = vec![0.0; BATCH * steps];
    let mut sums = Futures { sequences: 0, future: 0.0, prefix: 0.0, baseline: 0.0 };
    for batch in one_pass(batches(model, held_out)?) {
        backend.run(compiled, &[Feed::F32(&batch.pixels)], &Scalars::default())?;
        backend::read(backend, compiled, plan.output("steps"), &mut nll)?;
        let items = nll.chunks(steps).zip(batch.pixels.chunks(steps * observations.width));
        for (nll, sequence) in items.take(batch.len()) {
            let (prefix, future) = nll.split_at(given);
            let sum = |part: &[f32]| part.iter().map(|v| f64::from(*v)).sum::<f64>();
            sums.prefix += sum(prefix);
            sums.future += sum(future);
            sums.baseline += memoryless.nll(sequence, given);
        }
        sums.sequences += batch.len();
    }
    backend.free(compiled);
    let mean = |sum: f64, steps: usize| sum / (sums.sequences * steps) as f64;
    let left = steps - given;
    let (future, prefix) = (mean(sums.future, left), mean(sums.prefix, given));
    Ok(Futures { future, prefix, baseline: mean(sums.baseline, left), ..sums })
}

fn batches(model: &Model, images: Arc<Images>) -> Result<Batches> {
    let mut options = model.batch_options(Order::InOrder);
    options.batch = BATCH;
    Batches::new(images, options)
}

/// The baseline: an independent distribution for each position of a sequence.
struct Memoryless {
    observations: Observations,
    /// `[t, w]`
    places: Vec<Moments>,
}

/// The distribution of one value: normal, or a Bernoulli distribution with this mean, for which the
/// variance is not used.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
}

/// Sums over the values that a distribution is fitted to.
#[derive(Clone, Copy, Default)]
struct Sums {
    values: f64,
    squares: f64,
}

impl Memoryless {
    fn fit(observations: Observations, batches: Batches) -> Self {
        let len = observations.steps * observations.width;
        let (mut sums, mut n) = (vec![Sums::default(); len], 0.0);
        for batch in one_pass(batches) {
            for sequence in batch.pixels.chunks(len).take(batch.len()) {
                for (sum, value) in sums.iter_mut().zip(sequence) {
                    let value = f64::from(*value);
                    sum.values += value;
                    sum.squares += value * value;
                }
                n += 1.0;
            }
        }
        let place = |sums: Sums| match observations.distribution {
            // One more success and one more failure than were observed, so that no value is
            // impossible.
            Distribution::Bernoulli => Moments { mean: (sums.values + 1.0) / (n + 2.0), variance: 0.0 },
            Distribution::Normal => {
                let (mean, least) = (sums.values / n, LEAST_LOGVAR.exp());
                Moments { mean, variance: (sums.squares / n - mean * mean).max(least) }
            }
        };
        Memoryless { observations, places: sums.into_iter().map(place).collect() }
    }

    /// The negative log-likelihood, in nats, of the predicted values of a sequence `[t, w]` from step
    /// `given` on.
    fn nll(&self, sequence: &[f32], given: usize) -> f64 {
        let Observations { width, distribution, .. } = self.observations;
        let predicted = self.observations.predicted();
        let rows = sequence.chunks(width).zip(self.places.chunks(width)).skip(given);
        let pairs = rows.flat_map(|(row, places)| row[..predicted].iter().zip(places));
        pairs
            .map(|(value, Moments { mean, variance })| match distribution {
                Distribution::Bernoulli => -(if *value > 0.5 { *mean } else { 1.0 - mean }).ln(),
                Distribution::Normal => 0.5 * ((TAU * variance).ln() + (f64::from(*value) - mean).powi(2) / variance),
            })
            .sum()
    }
}
