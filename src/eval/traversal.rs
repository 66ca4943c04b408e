//! Pictures of a latent space: what each latent dimension changes, and the plane of a model that has two.

use super::latents::{Latents, decode, encode, latent_of};
use crate::backend::Backend;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::models::Model;
use std::sync::Arc;

/// How a traversal is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraversalOptions {
    /// Most rows: one per latent dimension.
    pub rows: usize,
    /// Pictures per row, at least 2.
    pub steps: usize,
    /// The first and the last picture of a row have this value, with either sign, in its dimension. The
    /// prior has a deviation of 1.
    pub reach: f32,
    /// The class of all pictures; otherwise that of the image from which the traversal starts.
    pub class: Option<u32>,
}

/// Rows of pictures, each of which differ in one latent dimension.
#[derive(Clone, Debug)]
pub(crate) struct Traversal {
    /// The latent dimension of each row, and its divergence from the prior in nats, mean over the images.
    /// The largest one comes first.
    pub rows: Vec<(usize, f64)>,
    /// The pictures, row by row, as bytes.
    pub pictures: Vec<u8>,
}

/// Starts at the latent mean of the first of the images, and moves along each of the latent dimensions
/// that tell most of the images.
///
/// # Errors
/// If the model has no prior.
pub(crate) fn traverse(
    backend: &mut dyn Backend,
    model: &Model,
    images: Arc<Images>,
    how: TraversalOptions,
) -> Result<Traversal> {
    check_prior(model)?;
    let latents = encode(backend, model, images)?;
    let mut rows: Vec<(usize, f64)> = divergences(&latents).into_iter().enumerate().collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    rows.truncate(how.rows);
    let start = &latents.mu[..latents.dims];
    let mut z = vec![];
    for (dimension, _) in &rows {
        for step in 0..how.steps {
            let mut moved = start.to_vec();
            moved[*dimension] = how.reach * (2.0 * step as f32 / (how.steps - 1) as f32 - 1.0);
            z.extend(moved);
        }
    }
    let class = how.class.or(latents.labels.first().copied()).unwrap_or(0);
    let pictures = decode(backend, model, &z, &vec![class; rows.len() * how.steps])?;
    Ok(Traversal { rows, pictures })
}

/// A square of `side` x `side` pictures of a model with two latent dimensions. The values of the
/// dimensions are those below which 1/2, 3/2, .. of `side` equal parts of the prior are: the first one
/// from left to right, the second one from the bottom to the top (Kingma & Welling 2014, figure 4).
///
/// # Errors
/// If the model has no prior, or another number of dimensions.
pub(crate) fn latent_plane(backend: &mut dyn Backend, model: &Model, side: usize, class: u32) -> Result<Vec<u8>> {
    check_prior(model)?;
    let (name, dims) = (model.config.name(), latent_of(model)?.dims);
    if dims != 2 {
        return Err(Error::Failed(format!(
            "this {name} has {dims} latent dimensions, and a plane has 2; train with --set model.latent=2, or leave --plane \
             out"
        )));
    }
    let value = |part: usize| normal_quantile((part as f64 + 0.5) / side as f64) as f32;
    let z: Vec<f32> =
        (0..side).rev().flat_map(|row| (0..side).flat_map(move |column| [value(column), value(row)])).collect();
    decode(backend, model, &z, &vec![class; side * side])
}

fn check_prior(model: &Model) -> Result<()> {
    if latent_of(model)?.is_variational() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "{} has no prior, which says how far to go; give a checkpoint of vae-mnist or vae-mlp-mnist",
        model.config.name()
    )))
}

/// The divergence of each latent dimension from the prior in nats, mean over the images: (mu^2 + v - 1 -
/// log v) / 2.
fn divergences(latents: &Latents) -> Vec<f64> {
    let mut sums = vec![0.0; latents.dims];
    for (mu, logvar) in latents.mu.chunks(latents.dims).zip(latents.logvar.chunks(latents.dims)) {
        for ((sum, mu), logvar) in sums.iter_mut().zip(mu).zip(logvar) {
            let [mu, logvar] = [*mu, *logvar].map(f64::from);
            *sum += 0.5 * (mu * mu + logvar.exp() - 1.0 - logvar);
        }
    }
    let images = (latents.mu.len() / latents.dims) as f64;
    sums.iter().map(|sum| sum / images).collect()
}

/// The mass of the standard normal distribution below x, for |x| <= 8 (Abramowitz & Stegun 1964, 26.2.11).
fn normal_below(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The x below which the share p of the standard normal distribution is, found by halving an interval.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if normal_below(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let known = [(0.5, 0.0), (0.975, 1.959_963_985), (0.01, -2.326_347_874), (0.999, 3.090_232_306)];
        for (p, want) in known {
            assert!((normal_quantile(p) - want).abs() < 1e-8, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn a_divergence_is_a_mean_over_images() {
        let [mu, logvar] = [vec![2.0, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 1.0]];
        let found = divergences(&Latents { dims: 2, mu, logvar, labels: vec![] });
        let want = [1.0, 0.5 * (1.0_f64.exp() - 2.0)];
        assert!(found.iter().zip(want).all(|(found, want)| (found - want).abs() < 1e-9), "{found:?}");
    }
}
