//! Encoding, reconstruction and interpolation with an autoencoder.

use super::likelihood::one_pass;
use crate::backend::{self, Backend, Compiled, Feed, Scalars};
use crate::data::{Batches, Images, Order, Range};
use crate::error::{Error, Result};
use crate::models::{Family, Latent, Model};
use crate::sampling::crop_to_bytes;
use std::sync::Arc;

const BATCH: usize = 100;

/// The latent vectors of a set of images.
#[derive(Clone, Debug)]
pub struct Latents {
    /// Dimensions per vector.
    pub dims: usize,
    /// Means `[n, dims]`.
    pub mu: Vec<f32>,
    /// Log variances `[n, dims]`. Empty for a plain autoencoder.
    pub logvar: Vec<f32>,
    /// Labels `[n]`. Empty if the data set has none.
    pub labels: Vec<u32>,
}

pub(super) fn latent_of(model: &Model) -> Result<&Latent> {
    match &model.family {
        Family::Latent(net) => Ok(net),
        _ => Err(Error::Failed(format!(
            "{} does not encode images; give a checkpoint of autoencoder-mnist, vae-mnist or vae-mlp-mnist",
            model.config.name()
        ))),
    }
}

/// Checks that the model has an encoder.
///
/// # Errors
/// If it has none. The message names presets that have one.
#[cfg(feature = "cli")]
pub(crate) fn check_encoder(model: &Model) -> Result<()> {
    latent_of(model).map(|_| ())
}

/// Encodes every image.
///
/// # Errors
/// If the model has no encoder.
pub fn encode(backend: &mut dyn Backend, model: &Model, images: Arc<Images>) -> Result<Latents> {
    let net = latent_of(model)?;
    let plan = net.encoding(BATCH);
    let compiled = backend.compile(&plan)?;
    let mut options = model.batch_options(Order::InOrder);
    options.batch = BATCH;
    let batches = Batches::new(images, options)?;
    let mut latents = Latents { dims: net.dims, mu: vec![], logvar: vec![], labels: vec![] };
    let mut values = vec![0.0; BATCH * net.dims];
    for batch in one_pass(batches) {
        let n = batch.len();
        backend.run(compiled, &batch.feeds(&plan), &Scalars::default())?;
        backend::read(backend, compiled, plan.output("mu"), &mut values)?;
        latents.mu.extend(&values[..n * net.dims]);
        if net.is_variational() {
            backend::read(backend, compiled, plan.output("logvar"), &mut values)?;
            latents.logvar.extend(&values[..n * net.dims]);
        }
        latents.labels.extend(batch.labels.iter().take(n));
    }
    backend.free(compiled);
    Ok(latents)
}

/// Returns two sets of images as bytes: the images as the model reads them, and their reconstructions
/// from the latent means.
///
/// # Errors
/// If the model has no encoder.
pub fn reconstruct(backend: &mut dyn Backend, model: &Model, images: Arc<Images>) -> Result<[Vec<u8>; 2]> {
    let shown = model.batch_of(images.clone())?;
    let latents = encode(backend, model, images)?;
    Ok([to_bytes(model, &shown.pixels), decode(backend, model, &latents.mu, &latents.labels)?])
}

/// Interpolates between pairs of images: returns one row of `steps` images per pair, as bytes. The first
/// and the last image of a row are reconstructions. The latent vectors of a row are evenly spaced on a
/// straight line. If the model has classes, the first half of a row has the class of its first image, and
/// the second half that of its last one.
///
/// # Errors
/// If the model has no encoder.
pub fn interpolate(backend: &mut dyn Backend, model: &Model, images: Arc<Images>, steps: usize) -> Result<Vec<u8>> {
    let latents = encode(backend, model, images)?;
    let d = latents.dims;
    let (mut z, mut labels) = (vec![], vec![]);
    for (row, pair) in latents.mu.chunks_exact(2 * d).enumerate() {
        let (from, to) = pair.split_at(d);
        for step in 0..steps {
            let at = step as f32 / steps.saturating_sub(1).max(1) as f32;
            z.extend(from.iter().zip(to).map(|(a, b)| a + (b - a) * at));
            labels.extend(latents.labels.get(2 * row + usize::from(2 * step >= steps)));
        }
    }
    decode(backend, model, &z, &labels)
}

/// Decodes latent vectors `[n, dims]` to images, as bytes. If the model has classes, `labels` are those
/// of the images, `[n]`.
pub(super) fn decode(backend: &mut dyn Backend, model: &Model, z: &[f32], labels: &[u32]) -> Result<Vec<u8>> {
    let net = latent_of(model)?;
    let compiled: Compiled = backend.compile(&net.decoding(BATCH))?;
    let len = model.image.dims();
    let (mut out, mut images) = (vec![], vec![0.0; BATCH * len]);
    for (i, part) in z.chunks(BATCH * net.dims).enumerate() {
        let mut full = part.to_vec();
        full.resize(BATCH * net.dims, 0.0);
        let mut classes: Vec<u32> = labels.iter().skip(i * BATCH).take(BATCH).copied().collect();
        classes.resize(BATCH, 0);
        let feeds = [Feed::F32(&full), Feed::U32(&classes)];
        let inputs = if net.classes() > 0 { 2 } else { 1 };
        backend.run(compiled, &feeds[..inputs], &Scalars::default())?;
        backend::read(backend, compiled, 0, &mut images)?;
        out.extend(to_bytes(model, &images[..part.len() / net.dims * len]));
    }
    backend.free(compiled);
    Ok(out)
}

/// Converts values in 0 to 1 to bytes.
fn to_bytes(model: &Model, values: &[f32]) -> Vec<u8> {
    let len = model.image.dims();
    values.chunks(len).flat_map(|image| crop_to_bytes(image, model.image, model.image, Range::Unit)).collect()
}
