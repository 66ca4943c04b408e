//! Random draws.

use super::functions::sigmoid;
use super::pointwise::reparameterize;
use super::{Tensor, loss};
use pixtape::rng::{self, Stream};
use pixtape::shape::Shape;
use pixtape::tape::op::{Counter, Dist};
use std::f64::consts::TAU;

pub fn random(dist: Dist, stream: Stream, counter: Counter, shape: Shape, seed: u32, count: u32) -> Vec<f64> {
    let per_image = shape.len() / shape.dims().first().copied().unwrap_or(1).max(1);
    let draw = |i: usize| {
        let counter = match counter {
            Counter::Replay => [count, i as u32],
            Counter::Image => [count.wrapping_add((i / per_image) as u32), (i % per_image) as u32],
        };
        let words = rng::words(seed, stream, counter);
        // The top 24 bits as a fraction.
        let [u1, u2] = words.map(|w| f64::from(w >> 8) / f64::from(1 << 24));
        match dist {
            Dist::Uniform => u1,
            Dist::Normal => (-2.0 * (1.0 - u1).ln()).sqrt() * (TAU * u2).cos(),
        }
    };
    (0..shape.len()).map(draw).collect()
}

/// z = mu + exp(logvar / 2) eps, and the divergence of each row
pub fn gaussian_sample(stream: Stream, mu: Tensor, logvar: Tensor, [seed, replay]: [u32; 2]) -> Vec<Vec<f64>> {
    let eps = random(Dist::Normal, stream, Counter::Replay, mu.shape, seed, replay);
    let eps = Tensor { shape: mu.shape, data: &eps };
    vec![reparameterize(mu, logvar, eps), loss::gaussian_kl(mu, logvar)]
}

/// dmu = dz + dkl mu; dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2
pub fn gaussian_sample_bwd(x: &[Tensor]) -> Vec<Vec<f64>> {
    let [dz, dkl, mu, logvar, z] = [0, 1, 2, 3, 4].map(|i| x[i].data);
    let (d, at) = (x[2].shape.last(), 0..mu.len());
    let dmu = at.clone().map(|i| dz[i] + dkl[i / d] * mu[i]).collect();
    let dlogvar = at.map(|i| (dz[i] * (z[i] - mu[i]) + dkl[i / d] * (logvar[i].exp() - 1.0)) / 2.0).collect();
    vec![dmu, dlogvar]
}

/// The smallest k whose cumulative softmax exceeds u; the last index if there is none.
pub fn categorical(logits: Tensor, u: Tensor, temperature: f64) -> Vec<f64> {
    let classes = logits.shape.last();
    let mut index = vec![];
    for (r, u) in u.data.iter().enumerate() {
        let row: Vec<f64> = (0..classes).map(|k| logits.data[r * classes + k] / temperature).collect();
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|l| (l - max).exp()).sum();
        let mut cumulative = 0.0;
        let drawn = row.iter().position(|l| {
            cumulative += (l - max).exp() / total;
            cumulative > *u
        });
        index.push(drawn.unwrap_or(classes - 1) as f64);
    }
    index
}

pub fn bernoulli(logits: Tensor, u: Tensor, temperature: f64) -> Vec<f64> {
    logits.zip(&u, |l, u| f64::from(u < sigmoid(l / temperature)))
}
