//! The configuration of a training run: complete, re-runnable, written as `config.toml` and into every
//! checkpoint.
//!
//! A configuration starts as a preset ([`preset`]) or as the default of a network ([`default_of`]), or
//! comes from a recipe (`config/recipes.rs`). A TOML file or `--set key=value` changes single keys. A key
//! that the network does not have is an error that names the nearest one. What a model computes follows
//! from the key `network` and the other keys, never from the preset's name. The key `data` is the name of
//! a known data set or a path (`config/source.rs`).

mod edit;
mod network;
mod presets;
mod recipes;
mod size;
mod source;

pub use network::{DecoderKind, Distribution, NetworkKind, ReducedImage};
pub use presets::{PRESETS, Preset, default_of, named, preset};
#[cfg(feature = "cli")]
pub(crate) use recipes::{RECIPES, recipe};
pub use size::GivenKeys;
#[cfg(feature = "cli")]
pub(crate) use source::{DataSource, last_part};

use crate::data::Binarize;
pub use crate::store::Averaging;
use crate::tape::plan;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// The largest batch, far above what fits into memory.
const MAX_BATCH: usize = 1 << 20;

/// The largest model size (channels, units, blocks), so that the product of four fits into 64 bits.
const MAX_SIZE: usize = 1 << 14;

/// The widest kernel. It reaches from one edge of an image of 32 columns to the other.
const MAX_KERNEL: usize = 63;

/// The farthest shift of a training image, in pixels.
const MAX_SHIFT: u32 = 64;

/// The most samples of the latent vector per image in training; each costs a pass through the decoder.
const MAX_SAMPLES: u32 = 1 << 10;

/// The levels of a byte; labels are bytes too.
const MAX_LEVELS: usize = 256;

/// Everything that decides what a training run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The preset that it started from. It names the run and decides nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// What kind of network the model is.
    pub network: NetworkKind,
    /// The name of a known data set, or the path of a folder or file. A path contains a slash.
    pub data: String,
    /// How grey values become zeros and ones.
    pub binarize: Binarize,
    /// Images per training step.
    pub batch: usize,
    /// Training steps in total. Exactly one of `steps` and `epochs` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Passes over the training images in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// The seed of all random streams.
    pub seed: u32,
    /// `auto`, `cpu`, `cuda`, `wgpu`, or one adapter as `wgpu:1`.
    pub device: String,
    /// Precision of the operands of matrix products and convolutions.
    pub precision: Precision,
    /// The largest common norm of all gradients; 0 means no clipping.
    pub clip_norm: f64,
    /// Decay of the moving average of the weights, per step; 0 means no average.
    pub ema: f64,
    /// Steps from one checkpoint to the next; 0 saves the last step only.
    pub checkpoint_every: u32,
    /// How many of the newest checkpoints are kept, next to the one with the best loss; 0 keeps all.
    pub keep_checkpoints: u32,
    /// Steps from one measurement of the likelihood of the validation images to the next; 0 measures none. A
    /// run that measures them is not trained on them, and saves a checkpoint each time (networks with a
    /// likelihood or a bound on it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<u32>,
    /// Steps from one picture of samples to the next; 0 draws none.
    pub sample_every: u32,
    /// Steps from one line of metrics to the next.
    pub log_every: u32,
    /// Steps over which the weight of the KL term rises from 0 to 1 (variational autoencoders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_warmup: Option<u32>,
    /// Factor of the KL term in the loss; 1 is the evidence lower bound (variational autoencoders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// What the KL divergence of a latent dimension counts at least in the loss, in nats (variational
    /// autoencoders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bits: Option<f64>,
    /// Samples of the latent vector per image in training; above 1 the loss is the importance-weighted bound
    /// (variational autoencoders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_samples: Option<u32>,
    /// The objective (adversarial networks).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// Steps of the critic per step of the generator (adversarial networks).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic_steps: Option<u32>,
    /// Bound on every weight of the critic, for `wgan` (adversarial networks).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_clip: Option<f64>,
    /// Weight of the gradient penalty, for `wgan-gp` (adversarial networks).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Weight of the mean absolute difference from the original, for `model.reduced` (adversarial networks).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l1: Option<f64>,
    /// Whether training images are mirrored at random from left to right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<bool>,
    /// The most pixels by which training images are shifted at random along each axis (classifiers).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<u32>,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Sizes and conditions of the model.
    pub model: ModelConfig,
    /// The rule of the moving averages. It is not a key: the version of a run's checkpoints says it.
    #[doc(hidden)]
    #[serde(skip)]
    pub averaging: Averaging,
}

/// Precision of the operands of matrix products and convolutions; sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats, on every device.
    Auto,
    /// 32-bit floats.
    F32,
    /// 19-bit floats (10 bits of mantissa), CUDA only.
    Tf32,
    /// 16-bit floats (7 bits of mantissa), on processors with AVX512-BF16 only; master weights stay f32.
    Bf16,
}

impl Precision {
    /// The precision of the operands of products in plans for training.
    pub fn operands(self) -> plan::Precision {
        match self {
            Precision::Auto | Precision::F32 | Precision::Tf32 => plan::Precision::F32,
            Precision::Bf16 => plan::Precision::Bf16,
        }
    }
}

/// The objective of the generator and the critic of an adversarial network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Objective {
    /// The zero-sum game of Goodfellow et al. 2014.
    Minimax,
    /// The generator maximises log D(G(z)) instead (ibid.).
    NonSaturating,
    /// Least squares (Mao et al. 2017).
    Lsgan,
    /// Wasserstein with clipped weights (Arjovsky et al. 2017).
    Wgan,
    /// Wasserstein with a gradient penalty (Gulrajani et al. 2017).
    WganGp,
    /// Hinge loss with spectral norm (Miyato et al. 2018).
    Hinge,
}

/// The optimiser; each kind reads only its own keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The kind of optimiser.
    pub kind: OptimizerKind,
    /// Learning rate.
    pub lr: f64,
    /// Adam: decay of the mean of the gradient.
    pub beta1: f64,
    /// Adam: decay of the mean of its square.
    pub beta2: f64,
    /// Adam and RMSProp: added to the square root.
    pub eps: f64,
    /// RMSProp: decay of the mean of the squared gradient.
    pub alpha: f64,
    /// SGD: momentum.
    pub momentum: f64,
}

impl Default for Optimizer {
    /// Adam with PyTorch's defaults. The keys of the other kinds have PyTorch's defaults too.
    fn default() -> Self {
        Optimizer {
            kind: OptimizerKind::Adam,
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            alpha: 0.99,
            momentum: 0.0,
        }
    }
}

/// The kinds of optimisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Kingma & Ba 2015.
    Adam,
    /// Tieleman & Hinton 2012.
    Rmsprop,
    /// Stochastic gradient descent, plain or with momentum.
    Sgd,
}

/// The learning rate over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its shape after the warm-up.
    pub kind: ScheduleKind,
    /// Steps over which the rate rises linearly to its peak.
    pub warmup_steps: u32,
    /// The rate at the last step (cosine and linear).
    pub final_lr: f64,
}

/// Shapes of the learning rate over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// The rate is constant.
    Constant,
    /// The rate falls along half a cosine to `final_lr`.
    Cosine,
    /// The rate falls linearly to `final_lr`.
    Linear,
}

/// Sizes and conditions of the model. A network has only the keys that it uses; the others are absent and
/// cannot be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Channels of the feature maps next to the image (convolutional autoencoders, adversarial networks,
    /// classifiers).
    /// The deeper layers have multiples of this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Hidden units of a fully connected layer, features of a classifier, or the `h` of PixelCNN and
    /// PixelRNN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Residual blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Gated or recurrent layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Width of the kernels of all gated layers except the first; odd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// Number of directions of a diagonal scan. 2 scans from the left and from the right. 1 scans from the
    /// left only and does not see the pixels to the upper right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directions: Option<usize>,
    /// Channels of the 1x1 convolutions before the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,
    /// Dimensions of the latent vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent: Option<usize>,
    /// Rows of an image, or observations in a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Columns of an image, or values of an observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Channels of an image: 1 is grey, 3 is RGB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colours: Option<usize>,
    /// Number of classes that the model is conditional on (0 means no such condition), or that a classifier
    /// tells apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// The reduced image that the model is conditional on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced: Option<ReducedImage>,
    /// Levels that a colour of a pixel can take: 2 is binary, 256 is a byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<usize>,
    /// The distribution of the pixels given the latent vector (variational autoencoders).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderKind>,
    /// The standard deviation of the decoder `gaussian-fixed`; values are in 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// How many values of an observation are actions. They are the last ones; the model is given them and
    /// predicts the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<usize>,
    /// Distribution of the values of an observation that are predicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

impl Config {
    /// The name of a run of this configuration: the preset's name, or the network's if there is no preset.
    pub fn name(&self) -> &str {
        self.preset.as_deref().unwrap_or(self.network.name())
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field is a TOML value")
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// A clause that names the key and what it must be.
    fn check(&self) -> Result<(), String> {
        let model = &self.model;
        let sizes = [
            ("model.channels", model.channels),
            ("model.hidden", model.hidden),
            ("model.blocks", model.blocks),
            ("model.layers", model.layers),
            ("model.head", model.head),
            ("model.latent", model.latent),
            ("model.height", model.height),
            ("model.width", model.width),
            ("model.colours", model.colours),
        ];
        if self.precision == Precision::Tf32 {
            return Err("precision must be auto, f32 or bf16, because no backend computes in tf32 yet".to_string());
        }
        within("batch", Some(self.batch), 1, MAX_BATCH)?;
        within("shift", self.shift, 0, MAX_SHIFT)?;
        within("model.kernel", model.kernel, 1, MAX_KERNEL)?;
        if model.kernel.is_some_and(|kernel| kernel % 2 == 0) {
            return Err("model.kernel must be odd, so that a pixel is its middle".to_string());
        }
        within("model.directions", model.directions, 1, 2)?;
        within("model.classes", model.classes, 0, MAX_LEVELS)?;
        within("model.levels", model.levels, 2, MAX_LEVELS)?;
        within("model.actions", model.actions, 0, MAX_SIZE)?;
        for (key, size) in sizes {
            within(key, size, 1, MAX_SIZE)?;
        }
        let counts = [
            ("steps", self.steps),
            ("epochs", self.epochs),
            ("log_every", Some(self.log_every)),
            ("critic_steps", self.critic_steps),
        ];
        for (key, count) in counts {
            within(key, count, 1, u32::MAX)?;
        }
        if self.steps.is_some() == self.epochs.is_some() {
            return Err("exactly one of steps and epochs must be set".to_string());
        }
        let optimizer = &self.optimizer;
        let above = [
            ("optimizer.lr", Some(optimizer.lr)),
            ("optimizer.eps", Some(optimizer.eps)),
            ("weight_clip", self.weight_clip),
            ("penalty", self.penalty),
            ("model.deviation", model.deviation),
        ];
        for (key, value) in above {
            in_f32(key, value, "above 0", |value| value >= f32::MIN_POSITIVE && value.is_finite())?;
        }
        let from_zero = [
            ("clip_norm", Some(self.clip_norm)),
            ("schedule.final_lr", Some(self.schedule.final_lr)),
            ("beta", self.beta),
            ("free_bits", self.free_bits),
            ("l1", self.l1),
        ];
        for (key, value) in from_zero {
            in_f32(key, value, "at least 0", |value| value >= 0.0 && value.is_finite())?;
        }
        within("importance_samples", self.importance_samples, 1, MAX_SAMPLES)?;
        self.check_importance_weights()?;
        let decays = [
            ("ema", self.ema),
            ("optimizer.beta1", optimizer.beta1),
            ("optimizer.beta2", optimizer.beta2),
            ("optimizer.alpha", optimizer.alpha),
            ("optimizer.momentum", optimizer.momentum),
        ];
        for (key, value) in decays {
            in_f32(key, Some(value), "at least 0 and below 1", |value| (0.0..1.0).contains(&value))?;
        }
        if !crate::backend::is_device(&self.device) {
            return Err("device must be auto, cpu, cuda or wgpu".to_string());
        }
        if self.data.is_empty() {
            return Err("data must be the name of a data set or a path".to_string());
        }
        Ok(())
    }

    /// The importance-weighted bound has no KL term that another key could change.
    fn check_importance_weights(&self) -> Result<(), String> {
        let Some(k) = self.importance_samples.filter(|k| *k > 1) else { return Ok(()) };
        let refused = [("beta", self.beta, 1.0), ("free_bits", self.free_bits, 0.0)];
        match refused.iter().find(|(_, value, plain)| value.is_some_and(|value| value != *plain)) {
            None => Ok(()),
            Some((key, _, plain)) => Err(format!(
                "{key} changes the KL term, which the importance-weighted bound of importance_samples = {k} does not have; \
                 set {key} to {plain} or importance_samples to 1"
            )),
        }
    }
}

/// Checks a number as the kernels read it, which compute with 32-bit floats. `wanted` says what `is_good`
/// means.
fn in_f32(key: &str, value: Option<f64>, wanted: &str, is_good: impl Fn(f32) -> bool) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    let rounded = value as f32;
    if is_good(rounded) {
        return Ok(());
    }
    let how = if value.is_finite() && f64::from(rounded) != value {
        format!("; as a 32-bit float {value:?} is {rounded:?}")
    } else {
        String::new()
    };
    Err(format!("{key} must be {wanted}{how}"))
}

fn within<T: PartialOrd + Display>(key: &str, value: Option<T>, least: T, most: T) -> Result<(), String> {
    match value {
        Some(value) if value < least => Err(format!("{key} must be at least {least}")),
        Some(value) if value > most => Err(format!("{key} must be at most {most}")),
        _ => Ok(()),
    }
}
