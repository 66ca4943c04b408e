//! How far the reconstructions of an autoencoder are from the images.

use super::latents::reconstruct;
use crate::backend::Backend;
use crate::data::Images;
use crate::error::Result;
use crate::models::Model;
use std::sync::Arc;

/// The mean squared error of the reconstructions of `images` from their latent means, per value in 0 to 1.
///
/// # Errors
/// If the model has no encoder, and whatever the device reports.
pub(crate) fn reconstruction_error(backend: &mut dyn Backend, model: &Model, images: Arc<Images>) -> Result<f64> {
    let [shown, made] = reconstruct(backend, model, images)?;
    let squares = shown.iter().zip(&made).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    Ok(squares.sum::<f64>() / shown.len() as f64 / (255.0 * 255.0))
}

/// The same error of the one image that has the least: the mean of `images`. A latent vector without any
/// information reaches this.
pub(crate) fn error_of_mean(images: &Images) -> f64 {
    let (n, dims, top) = (images.len() as f64, images.dims(), f64::from(images.levels().max()));
    let (mut sums, mut squares) = (vec![0.0; dims], vec![0.0; dims]);
    for image in images.pixels().chunks_exact(dims) {
        for (at, value) in image.iter().enumerate() {
            let value = f64::from(*value) / top;
            sums[at] += value;
            squares[at] += value * value;
        }
    }
    let variances = sums.iter().zip(&squares).map(|(sum, square)| square / n - (sum / n).powi(2));
    variances.sum::<f64>() / dims as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Levels;

    #[test]
    fn the_mean_image_has_the_variance_as_its_error() {
        // The first value is 0, 1, 1, 0, with the variance 1/4; the second one is constant.
        let images = Images::new("bits", [1, 2, 1], vec![0, 1, 1, 1, 1, 1, 0, 1], None, Levels::Binary).unwrap();
        assert_eq!(error_of_mean(&images), 0.125);
        let bytes = images.pixels().iter().map(|bit| bit * 255).collect();
        assert_eq!(error_of_mean(&Images::new("bytes", [1, 2, 1], bytes, None, Levels::Grey256).unwrap()), 0.125);
    }
}
