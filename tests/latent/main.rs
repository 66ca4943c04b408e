//! Latent variable models. The tests verify that
//!
//! - a model has the size of its images, whatever that is, and its likelihood counts their pixels only
//!   (`sizes`),
//! - the probabilities of all levels of a pixel sum to one, or to less where a bound is meant
//!   (`pixels`),
//! - the bounds are those of models whose likelihood is known, and losses have the gradients that are
//!   followed (`bound`).

mod bound;
mod pixels;
mod sizes;
#[path = "../common/truth/mod.rs"]
mod truth;

use pixtape::config::{Config, preset};
use pixtape::data::{Images, Levels};
use pixtape::rng::{self, Stream};
use pixtape::shape::ImageSize;
use std::sync::Arc;

/// A small model of a preset.
fn small(name: &str, settings: &[&str]) -> Config {
    let mut config = preset(name).unwrap();
    if config.model.channels.is_some() {
        config.set("model.channels=2").unwrap();
    }
    let sizes = ["batch=4", "model.hidden=8", "model.latent=2"];
    sizes.iter().chain(settings).for_each(|setting| config.set(setting).unwrap());
    config
}

/// `n` images of random bytes, with labels below 3.
fn noise(size: ImageSize, n: usize) -> Arc<Images> {
    let len = n * size.height * size.width * size.channels;
    let bytes = (0..len).map(|i| (256.0 * rng::uniform(2, Stream::Test, [1, i as u32])) as u8).collect();
    let labels = (0..n).map(|i| (i % 3) as u8).collect();
    Arc::new(Images::new("noise", size, bytes, Some(labels), Levels::Grey256).unwrap())
}
