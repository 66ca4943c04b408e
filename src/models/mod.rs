//! The models: forward passes, losses, and the plans that training, sampling and evaluation replay.
//!
//! A network declares its parameters in a [`ParamSet`] and records its forward pass. A model adds a loss and
//! the plans. Each family is one file or folder, to be read next to its paper.

mod adversarial;
mod autoregressive;
mod classifier;
mod latent;
mod sequence;

pub(crate) use adversarial::CRITIC_STEP;
pub use adversarial::Gan;
pub use autoregressive::{Autoregressive, Conditions, Network, Pixels};
pub use classifier::Classifier;
pub(crate) use latent::KL_WEIGHT;
pub use latent::Latent;
#[doc(hidden)]
pub use latent::PixelDistribution;
pub(crate) use sequence::LEAST_LOGVAR;
pub use sequence::{Observations, Prediction, Sequence};

use crate::config::{Config, NetworkKind};
use crate::data::{Augment, Batch, BatchOptions, Batches, Images, Order, Range, Reduction};
use crate::error::{Error, Result};
use crate::nn::ParamSet;
use crate::shape::ImageSize;
use crate::tape::op::Scalar;
use crate::tape::plan::Plan;
use std::sync::Arc;

/// Divisor of the logits before a draw, and factor of the standard normal numbers that a decoder or
/// generator starts from.
pub const TEMPERATURE: Scalar = Scalar::f32("Temperature", 1.0);

/// A model with its parameters, built from a configuration.
#[derive(Clone, Debug)]
pub struct Model {
    /// The configuration that it was built from.
    pub config: Config,
    /// All parameters and state.
    pub set: ParamSet,
    /// The size of its images.
    pub image: ImageSize,
    /// The network.
    pub family: Family,
}

/// The families. Each has plans that only it needs.
#[derive(Clone, Debug)]
pub enum Family {
    /// Explicit and exact: a product of conditional densities over the pixels.
    Autoregressive(Autoregressive),
    /// Explicit and approximate: a latent vector and a bound on the density; or a plain autoencoder.
    Latent(Latent),
    /// Implicit: a generator that a critic teaches.
    Adversarial(Box<Gan>),
    /// Explicit and exact: a product of conditional densities over time.
    Sequence(Sequence),
    /// No model of images: it tells their classes apart, and judges what the others draw.
    Classifier(Classifier),
}

impl Model {
    /// Builds the model that `config` describes.
    ///
    /// # Errors
    /// [`Error::Usage`] for sizes that do not fit together.
    pub fn new(config: &Config) -> Result<Model> {
        let mut set = ParamSet::new();
        let (image, family) = match config.network {
            NetworkKind::PixelCnn | NetworkKind::GatedPixelCnn | NetworkKind::RowLstm | NetworkKind::DiagonalBiLstm => {
                let net = Autoregressive::new(&mut set, config)?;
                (net.pixels().size, Family::Autoregressive(net))
            }
            NetworkKind::Vae | NetworkKind::VaeMlp | NetworkKind::Autoencoder => {
                let net = Latent::new(&mut set, config)?;
                (net.image(), Family::Latent(net))
            }
            NetworkKind::Lstm => {
                let net = Sequence::new(&mut set, config)?;
                let Observations { steps, width, .. } = net.observations();
                (ImageSize { height: steps, width, channels: 1 }, Family::Sequence(net))
            }
            NetworkKind::Dcgan => {
                let net = Gan::new(&mut set, config)?;
                (net.image(), Family::Adversarial(Box::new(net)))
            }
            NetworkKind::Classifier => {
                let net = Classifier::new(&mut set, config)?;
                (net.image(), Family::Classifier(net))
            }
        };
        Ok(Model { config: config.clone(), set, image, family })
    }

    /// The plans of one training step, in the order in which they run. Each takes a new batch of images as
    /// its input `x`, and, if the model has classes, their labels as `label`. All its outputs are scalars:
    /// the loss terms.
    pub fn training(&self) -> Vec<Plan> {
        let plans = match &self.family {
            Family::Autoregressive(net) => vec![net.training(self.config.batch)],
            Family::Latent(net) => vec![net.training(self.config.batch)],
            Family::Sequence(net) => vec![net.training(self.config.batch)],
            Family::Adversarial(net) => net.training(self.config.batch),
            Family::Classifier(net) => vec![net.training(self.config.batch)],
        };
        let precision = self.config.precision.operands();
        plans.into_iter().map(|plan| plan.in_precision(precision)).collect()
    }

    /// Number of classes that the model is conditional on, or that it tells apart; 0 if it reads no labels.
    pub fn classes(&self) -> usize {
        match &self.family {
            Family::Autoregressive(net) => net.pixels().classes,
            Family::Adversarial(net) => net.classes(),
            Family::Classifier(net) => net.classes(),
            Family::Latent(net) => net.classes(),
            Family::Sequence(_) => 0,
        }
    }

    /// Which weights sampling and measuring use: `averaged` if the model has moving averages, otherwise
    /// `raw`.
    pub(crate) fn weights(&self) -> &'static str {
        if self.config.ema > 0.0 { "averaged" } else { "raw" }
    }

    /// How the reduced image is made that the model is given, if it is given one.
    pub fn reduction(&self) -> Option<Reduction> {
        match &self.family {
            Family::Autoregressive(net) => net.pixels().reduction,
            Family::Adversarial(net) => net.reduction(),
            Family::Latent(_) | Family::Sequence(_) | Family::Classifier(_) => None,
        }
    }

    /// Whether it draws images.
    pub(crate) fn draws(&self) -> bool {
        !matches!(self.family, Family::Classifier(_))
    }

    /// How the images of a batch are prepared. Only the shuffled batches of training are augmented.
    pub fn batch_options(&self, order: Order) -> BatchOptions {
        let (range, pad_to) = match &self.family {
            Family::Adversarial(net) => (Range::Symmetric, Some(net.padded())),
            Family::Autoregressive(_) | Family::Latent(_) | Family::Sequence(_) | Family::Classifier(_) => {
                (Range::Unit, None)
            }
        };
        let config = &self.config;
        let (binarize, reduction) = (config.binarize, self.reduction());
        let augment = match order {
            Order::Shuffled => {
                Augment { flip: config.flip.unwrap_or(false), shift: config.shift.unwrap_or(0) as usize }
            }
            Order::InOrder => Augment::default(),
        };
        BatchOptions {
            order,
            binarize,
            range,
            pad_to,
            reduction,
            augment,
            ..BatchOptions::new(config.batch, config.seed)
        }
    }

    /// All images as one batch, prepared as the model reads them and in their own order.
    ///
    /// # Errors
    /// If the images cannot be binarised as the model needs them.
    pub fn batch_of(&self, images: Arc<Images>) -> Result<Batch> {
        let options = BatchOptions { batch: images.len(), ..self.batch_options(Order::InOrder) };
        Ok(Batches::new(images, options)?.next_batch())
    }
}

/// The size of the images that `config` describes by `model.height`, `model.width` and `model.colours`.
fn images_of(config: &Config) -> Result<ImageSize> {
    let model = &config.model;
    let (height, width) = (required(model.height, "height")?, required(model.width, "width")?);
    Ok(ImageSize { height, width, channels: required(model.colours, "colours")? })
}

/// A key of the model that its network must have.
fn required<T>(value: Option<T>, key: &str) -> Result<T> {
    value.ok_or_else(|| Error::Usage(format!("this model needs the key model.{key}")))
}
