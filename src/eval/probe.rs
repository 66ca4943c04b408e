//! A linear probe: softmax regression from latent vectors to labels.

use super::Latents;
use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::config::Optimizer;
use crate::error::{Error, Result};
use crate::nn::{Env, Linear, Mode, ParamSet};
use crate::optim::{LEARNING_RATE, Learner, STEP};
use crate::rng::{Stream, words};
use crate::shape::Meta;
use crate::tape::Tape;
use crate::tape::plan::Plan;

const BATCH: usize = 500;
const EPOCHS: usize = 20;
const RATE: f32 = 1e-2;

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Fraction of the training images that are classified correctly.
    pub train_accuracy: f64,
    /// Fraction of the test images that are classified correctly.
    pub test_accuracy: f64,
    /// Number of classes.
    pub classes: usize,
}

/// Trains softmax regression on the standardised means of `train` and measures it on `test`. The
/// optimiser is Adam at 1e-2, which decreases linearly to 0 over 20 epochs of batches of 500.
///
/// # Errors
/// If there are no labels, or too few images.
pub fn linear_probe(device: &str, threads: usize, train: &Latents, test: &Latents, seed: u32) -> Result<Probe> {
    if train.labels.is_empty() || test.labels.is_empty() {
        return Err(Error::Failed(
            "the data set has no labels to probe for; encode one that has labels, like mnist".into(),
        ));
    }
    if train.labels.len() < BATCH {
        return Err(Error::Failed(format!("a linear probe needs at least {BATCH} training images; encode more")));
    }
    let classes = 1 + train.labels.iter().chain(&test.labels).copied().max().unwrap_or(0) as usize;
    let scale = Standard::of(train);
    let (x, held_out) = (scale.apply(train), scale.apply(test));
    let mut device = backend::open(device, threads)?;
    let d = train.dims;
    let mut set = ParamSet::new();
    let layer = Linear::new(&mut set, "probe", d, classes);
    let weights = set.weights().cloned().collect();
    let learner = Learner::new(&mut set, weights, Optimizer::default(), STEP);
    crate::parameters::initialize(&mut *device, &set, seed)?;
    let learn = {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let (x, y) = (t.input("x", Meta::f32([BATCH, d])), t.input("label", Meta::u32([BATCH])));
        let loss = t.mean(t.softmax_cross_entropy(layer.forward(&env, x), y));
        learner.minimize(&env, loss);
        env.commit();
        Plan::new("probe.train", &t)
    };
    let score = {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Infer);
        let x = t.input("x", Meta::f32([BATCH, d]));
        t.output("logits", layer.forward(&env, x));
        Plan::new("probe.score", &t)
    };
    let (learn, score) = (device.compile(&learn)?, device.compile(&score)?);
    let n = train.labels.len();
    let per_epoch = n / BATCH;
    let mut order: Vec<usize> = (0..n).collect();
    let (mut rows, mut labels) = (vec![0.0; BATCH * d], vec![0; BATCH]);
    for step in 0..EPOCHS * per_epoch {
        if step % per_epoch == 0 {
            order.sort_by_key(|i| words(seed, Stream::Shuffle, [(step / per_epoch) as u32, *i as u32]));
        }
        let picked = &order[step % per_epoch * BATCH..][..BATCH];
        for (i, at) in picked.iter().enumerate() {
            rows[i * d..][..d].copy_from_slice(&x[at * d..][..d]);
            labels[i] = train.labels[*at];
        }
        let mut scalars = Scalars::default();
        let left = 1.0 - step as f32 / (EPOCHS * per_epoch) as f32;
        scalars.set(LEARNING_RATE, RATE * left).set(STEP, (step + 1) as f32);
        device.run(learn, &[Feed::F32(&rows), Feed::U32(&labels)], &scalars)?;
    }
    let train_accuracy = accuracy(&mut *device, score, &x, &train.labels, classes)?;
    let test_accuracy = accuracy(&mut *device, score, &held_out, &test.labels, classes)?;
    Ok(Probe { train_accuracy, test_accuracy, classes })
}

fn accuracy(device: &mut dyn Backend, score: Compiled, x: &[f32], labels: &[u32], classes: usize) -> Result<f64> {
    let d = x.len() / labels.len();
    let (mut right, mut logits) = (0, vec![0.0; BATCH * classes]);
    for (rows, labels) in x.chunks(BATCH * d).zip(labels.chunks(BATCH)) {
        let mut full = rows.to_vec();
        full.resize(BATCH * d, 0.0);
        device.run(score, &[Feed::F32(&full)], &Scalars::default())?;
        backend::read(device, score, 0, &mut logits)?;
        for (row, label) in logits.chunks(classes).zip(labels) {
            let best = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b]));
            right += usize::from(best == Some(*label as usize));
        }
    }
    Ok(right as f64 / labels.len() as f64)
}

/// Mean and inverse standard deviation of each dimension.
struct Standard {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Standard {
    fn of(latents: &Latents) -> Self {
        let (d, n) = (latents.dims, latents.labels.len() as f64);
        let column = |j: usize| latents.mu.iter().skip(j).step_by(d).map(|v| f64::from(*v));
        let mean: Vec<f64> = (0..d).map(|j| column(j).sum::<f64>() / n).collect();
        let var = (0..d).map(|j| column(j).map(|v| (v - mean[j]).powi(2)).sum::<f64>() / n);
        // A collapsed dimension carries no information and must not be amplified.
        let inverse = var.map(|v| (1.0 / (v + 1e-6).sqrt()) as f32).collect();
        Standard { mean: mean.iter().map(|m| *m as f32).collect(), inverse }
    }

    fn apply(&self, latents: &Latents) -> Vec<f32> {
        let d = latents.dims;
        latents.mu.iter().enumerate().map(|(i, v)| (v - self.mean[i % d]) * self.inverse[i % d]).collect()
    }
}
