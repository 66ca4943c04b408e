//! The presets: the reference workloads by name, one entry each. To add one, add an entry to [`PRESETS`].

use super::network::{nearest, unknown_network};
use super::recipes::{RECIPES, recipe};
use super::{
    Averaging, Config, DecoderKind, Distribution, ModelConfig, NetworkKind, Objective, Optimizer, OptimizerKind,
    Precision, ReducedImage, Schedule, ScheduleKind,
};
use crate::data::Binarize;
use crate::error::{Error, Result};
use crate::shape::ImageSize;

/// A reference workload.
#[derive(Debug)]
pub struct Preset {
    /// The name that `pixtape train` takes.
    pub name: &'static str,
    /// What it is, in one line.
    pub description: &'static str,
    /// The configuration without the preset's name.
    config: fn() -> Config,
}

/// The presets in the order in which they are listed. The name of a network stands for its first preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "autoencoder-mnist",
        description: "convolutional autoencoder, squared error",
        config: || Config {
            model: ModelConfig { channels: Some(32), hidden: Some(256), latent: Some(32), ..images(DIGIT) },
            ..base(NetworkKind::Autoencoder, "mnist", 128, 10)
        },
    },
    Preset {
        name: "vae-mnist",
        description: "convolutional variational autoencoder",
        config: || Config {
            model: ModelConfig { channels: Some(32), hidden: Some(256), latent: Some(32), ..binary_pixels() },
            ..variational(NetworkKind::Vae)
        },
    },
    Preset {
        name: "vae-mlp-mnist",
        description: "variational autoencoder 784-400-20 (Kingma & Welling 2014)",
        config: || Config {
            model: ModelConfig { hidden: Some(400), latent: Some(20), ..binary_pixels() },
            ..variational(NetworkKind::VaeMlp)
        },
    },
    Preset {
        name: "pixelcnn-mnist",
        description: "PixelCNN with 7 residual blocks (van den Oord et al. 2016)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(32),
                blocks: Some(7),
                head: Some(64),
                reduced: Some(ReducedImage::None),
                ..binary_digits()
            },
            ..on_binary_digits(NetworkKind::PixelCnn)
        },
    },
    Preset {
        name: "pixelcnn-cifar",
        description: "PixelCNN in colour with 8 residual blocks (van den Oord et al. 2016)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(64),
                blocks: Some(8),
                head: Some(1024),
                reduced: Some(ReducedImage::None),
                ..photographs()
            },
            // With 16 images a step a constant rate leaves the last steps to chance: 4.6 bits per dimension
            // in training, 4.8 on test images.
            schedule: Schedule { kind: ScheduleKind::Cosine, warmup_steps: 0, final_lr: 0.0 },
            ..on_photographs(NetworkKind::PixelCnn)
        },
    },
    Preset {
        name: "gated-pixelcnn-mnist",
        description: "Gated PixelCNN with 8 layers (van den Oord et al. 2016b)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(64),
                layers: Some(8),
                kernel: Some(3),
                head: Some(64),
                classes: Some(0),
                ..binary_digits()
            },
            ..on_binary_digits(NetworkKind::GatedPixelCnn)
        },
    },
    Preset {
        name: "row-lstm-mnist",
        description: "PixelRNN with 7 Row LSTM layers (van den Oord et al. 2016)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(16),
                layers: Some(7),
                head: Some(32),
                classes: Some(0),
                ..binary_digits()
            },
            ..on_binary_digits(NetworkKind::RowLstm)
        },
    },
    Preset {
        name: "diagonal-bilstm-mnist",
        description: "PixelRNN with 7 Diagonal BiLSTM layers (van den Oord et al. 2016)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(16),
                layers: Some(7),
                directions: Some(2),
                head: Some(32),
                classes: Some(0),
                ..binary_digits()
            },
            ..on_binary_digits(NetworkKind::DiagonalBiLstm)
        },
    },
    Preset {
        name: "row-lstm-cifar",
        description: "PixelRNN in colour with 6 Row LSTM layers (van den Oord et al. 2016)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(48),
                layers: Some(6),
                head: Some(512),
                classes: Some(0),
                ..photographs()
            },
            ..on_photographs(NetworkKind::RowLstm)
        },
    },
    Preset {
        name: "diagonal-bilstm-cifar",
        description: "PixelRNN in colour with 6 Diagonal BiLSTM layers (ibid.)",
        config: || Config {
            model: ModelConfig {
                hidden: Some(48),
                layers: Some(6),
                directions: Some(2),
                head: Some(512),
                classes: Some(0),
                ..photographs()
            },
            ..on_photographs(NetworkKind::DiagonalBiLstm)
        },
    },
    Preset {
        name: "colorize-cifar",
        description: "PixelCNN that gives a grey image its colours",
        config: || Config {
            // A conditional model can be smaller, because it is given the reduced image.
            model: ModelConfig {
                hidden: Some(48),
                blocks: Some(6),
                head: Some(384),
                reduced: Some(ReducedImage::Grey),
                ..photographs()
            },
            ..on_photographs(NetworkKind::PixelCnn)
        },
    },
    Preset {
        name: "superres-mnist",
        description: "PixelCNN that draws a digit from a quarter of its side",
        config: || Config {
            model: ModelConfig {
                hidden: Some(32),
                blocks: Some(7),
                head: Some(64),
                reduced: Some(ReducedImage::Small),
                ..binary_digits()
            },
            ..on_binary_digits(NetworkKind::PixelCnn)
        },
    },
    Preset {
        name: "superres-cifar",
        description: "PixelCNN that draws a colour image from a quarter of its side",
        config: || Config {
            model: ModelConfig {
                hidden: Some(48),
                blocks: Some(6),
                head: Some(384),
                reduced: Some(ReducedImage::Small),
                ..photographs()
            },
            ..on_photographs(NetworkKind::PixelCnn)
        },
    },
    Preset {
        name: "lstm-oscillator",
        description: "LSTM over damped oscillations with noise",
        config: || Config {
            model: ModelConfig {
                hidden: Some(64),
                height: Some(100),
                width: Some(1),
                actions: Some(0),
                distribution: Some(Distribution::Normal),
                ..ModelConfig::default()
            },
            ..on_sequences("oscillator", 40)
        },
    },
    Preset {
        name: "lstm-pendulum",
        description: "LSTM over a pendulum under random torques",
        config: || Config {
            model: ModelConfig {
                hidden: Some(64),
                height: Some(100),
                width: Some(4),
                actions: Some(1),
                distribution: Some(Distribution::Normal),
                ..ModelConfig::default()
            },
            ..on_sequences("pendulum", 40)
        },
    },
    Preset {
        name: "lstm-rows-mnist",
        description: "LSTM that reads a digit row by row",
        config: || Config {
            model: ModelConfig {
                hidden: Some(128),
                height: Some(28),
                width: Some(28),
                actions: Some(0),
                distribution: Some(Distribution::Bernoulli),
                ..ModelConfig::default()
            },
            binarize: Binarize::Static,
            ..on_sequences("binarized-mnist", 4)
        },
    },
    Preset {
        name: "gan-mnist",
        description: "DCGAN on digits padded to 32x32 (Radford et al. 2016)",
        config: || Config { model: generated(DIGIT, ReducedImage::None), ..adversarial("mnist") },
    },
    Preset {
        name: "dcgan-cifar",
        description: "DCGAN on colour images (Radford et al. 2016)",
        config: || Config { model: generated(PHOTOGRAPH, ReducedImage::None), ..adversarial("cifar-10") },
    },
    Preset {
        name: "colorize-gan-cifar",
        description: "DCGAN with an encoder that colours grey images (Isola et al. 2017)",
        config: || Config { model: generated(PHOTOGRAPH, ReducedImage::Grey), ..adversarial("cifar-10") },
    },
    Preset {
        name: "superres-gan-mnist",
        description: "DCGAN with an encoder that enlarges digits (Isola et al. 2017)",
        config: || Config { model: generated(DIGIT, ReducedImage::Small), ..adversarial("mnist") },
    },
    Preset {
        name: "classifier-mnist",
        description: "classifier of digits, whose features judge samples",
        config: || Config { model: ten_classes(24, DIGIT), ..classifier("mnist", 10) },
    },
    Preset {
        name: "classifier-fashion-mnist",
        description: "classifier of articles of clothing, whose features judge samples",
        config: || Config { model: ten_classes(16, DIGIT), flip: Some(true), ..classifier("fashion-mnist", 12) },
    },
    Preset {
        name: "classifier-cifar",
        description: "classifier of colour images, whose features judge samples",
        config: || Config {
            model: ten_classes(16, PHOTOGRAPH),
            flip: Some(true),
            shift: Some(3),
            ..classifier("cifar-10", 12)
        },
    },
];

/// The configuration of a preset.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, naming the nearest one and listing all.
pub fn preset(name: &str) -> Result<Config> {
    find(name).ok_or_else(|| Error::Usage(unknown_preset(name)))
}

/// The default configuration of a network: that of its first preset, without the preset's name.
pub fn default_of(network: NetworkKind) -> Config {
    let mut configs = PRESETS.iter().map(|preset| (preset.config)());
    configs.find(|config| config.network == network).expect("every network has a preset")
}

/// The configuration of a preset, a network or a recipe, by its name.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, naming the nearest one and listing all.
pub fn named(name: &str) -> Result<Config> {
    find(name).or_else(|| NetworkKind::named(name).map(default_of)).or_else(|| recipe(name)).ok_or_else(|| {
        let (networks, presets) = (NetworkKind::ALL.map(NetworkKind::name), names());
        let recipes: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
        let nearest = nearest(name, &[&presets[..], &networks, &recipes].concat());
        let networks = networks.join(", ");
        let known = format!("networks: {networks}; `pixtape train --help` lists the presets and recipes");
        Error::Usage(format!("there is no preset or network \"{name}\", did you mean {nearest}? ({known})"))
    })
}

/// The configuration that a file starts from: that of its preset, or else that of its network. Before the
/// key `network` existed, a configuration said what it is by its preset alone; files and checkpoints of that
/// time hold neither that key nor others that the preset's name stood for (`model.reduced`, `model.actions`,
/// `model.distribution`, the images of a `dcgan` or a `vae`). They keep their meaning, because these keys
/// come from the preset here.
///
/// # Errors
/// The key that is wrong, and what is wrong with it.
pub(super) fn start(preset: Option<&str>, network: Option<&str>) -> Result<Config, (&'static str, String)> {
    let kind = match network {
        Some(name) => Some(NetworkKind::named(name).ok_or_else(|| ("network", unknown_network(name)))?),
        None => None,
    };
    match (preset, kind) {
        (None, None) => {
            let networks = NetworkKind::ALL.map(NetworkKind::name).join(", ");
            Err(("network", format!("it has no preset and no network (one of {networks})")))
        }
        (None, Some(kind)) => Ok(default_of(kind)),
        (Some(name), kind) => {
            let config = find(name).ok_or_else(|| ("preset", unknown_preset(name)))?;
            match kind.filter(|kind| *kind != config.network) {
                Some(other) => {
                    let is = config.network;
                    Err((
                        "network",
                        format!("the network of {name} is {is}, not {other}; leave one of the two keys out"),
                    ))
                }
                None => Ok(config),
            }
        }
    }
}

fn find(name: &str) -> Option<Config> {
    let preset = PRESETS.iter().find(|preset| preset.name == name)?;
    Some(Config { preset: Some(name.to_string()), ..(preset.config)() })
}

fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}

/// The sentence about a name that is no preset.
fn unknown_preset(name: &str) -> String {
    let nearest = nearest(name, &names());
    format!("there is no preset \"{name}\", did you mean {nearest}? (`pixtape train --help` lists all)")
}

/// What the presets have in common.
fn base(network: NetworkKind, data: &str, batch: usize, epochs: u32) -> Config {
    Config {
        preset: None,
        network,
        data: data.to_string(),
        binarize: Binarize::None,
        batch,
        steps: None,
        epochs: Some(epochs),
        seed: 0,
        device: "auto".to_string(),
        precision: Precision::Auto,
        clip_norm: 0.0,
        ema: 0.0,
        checkpoint_every: 500,
        keep_checkpoints: 3,
        validate_every: has_likelihood(network).then_some(0),
        sample_every: 500,
        log_every: 20,
        kl_warmup: None,
        beta: None,
        free_bits: None,
        importance_samples: None,
        objective: None,
        critic_steps: None,
        weight_clip: None,
        penalty: None,
        l1: None,
        flip: (network != NetworkKind::Lstm).then_some(false),
        shift: None,
        optimizer: Optimizer {
            kind: OptimizerKind::Adam,
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            alpha: 0.99,
            momentum: 0.0,
        },
        schedule: Schedule { kind: ScheduleKind::Constant, warmup_steps: 0, final_lr: 0.0 },
        model: ModelConfig::default(),
        averaging: Averaging::default(),
    }
}

/// Whether a network has a likelihood of images or sequences, or a bound on it.
fn has_likelihood(network: NetworkKind) -> bool {
    use NetworkKind::{Autoencoder, Classifier, Dcgan};
    !matches!(network, Autoencoder | Dcgan | Classifier)
}

/// Variational autoencoders read binarised digits: then their bound is a likelihood of the data.
fn variational(network: NetworkKind) -> Config {
    // Without the warm-up some seeds leave latents unused for good: test bounds of -99.5 and -96.5 for two
    // seeds.
    Config {
        binarize: Binarize::Static,
        kl_warmup: Some(400),
        beta: Some(1.0),
        free_bits: Some(0.0),
        importance_samples: Some(1),
        ..base(network, "binarized-mnist", 128, 20)
    }
}

/// Autoregressive models of binarised MNIST.
fn on_binary_digits(network: NetworkKind) -> Config {
    Config { binarize: Binarize::Static, ..base(network, "binarized-mnist", 64, 10) }
}

/// Autoregressive models of CIFAR-10.
fn on_photographs(network: NetworkKind) -> Config {
    base(network, "cifar-10", 16, 10)
}

/// Sequence models. The learning rate falls, because a density can be sharpened without end.
fn on_sequences(data: &str, epochs: u32) -> Config {
    let mut config = Config { clip_norm: 1.0, ..base(NetworkKind::Lstm, data, 64, epochs) };
    config.optimizer.lr = 8e-3;
    config.schedule = Schedule { kind: ScheduleKind::Cosine, warmup_steps: 100, final_lr: 2e-5 };
    config
}

/// Rates of Radford et al. 2016, section 4: Adam with 0.0002 and the first decay lowered to 0.5.
fn adversarial(data: &str) -> Config {
    let mut config = base(NetworkKind::Dcgan, data, 64, 20);
    config.optimizer.lr = 2e-4;
    config.optimizer.beta1 = 0.5;
    config.objective = Some(Objective::NonSaturating);
    config.critic_steps = Some(1);
    config.weight_clip = Some(0.01);
    config.penalty = Some(10.0);
    config.l1 = Some(100.0);
    config
}

/// Classifiers. Their learning rate falls to nothing, so that the running statistics of batch norm belong to
/// the last weights.
fn classifier(data: &str, epochs: u32) -> Config {
    let mut config = base(NetworkKind::Classifier, data, 128, epochs);
    config.optimizer.lr = 3e-3;
    config.schedule = Schedule { kind: ScheduleKind::Cosine, warmup_steps: 100, final_lr: 0.0 };
    (config.flip, config.shift, config.sample_every) = (Some(false), Some(2), 0);
    config
}

/// A classifier of this width that tells ten classes of such images apart.
fn ten_classes(channels: usize, size: ImageSize) -> ModelConfig {
    ModelConfig { channels: Some(channels), hidden: Some(64), classes: Some(10), ..images(size) }
}

/// The networks of an adversarial preset (Radford et al. 2016, section 4), for images of this size.
fn generated(size: ImageSize, reduced: ReducedImage) -> ModelConfig {
    ModelConfig { channels: Some(64), latent: Some(100), classes: Some(0), reduced: Some(reduced), ..images(size) }
}

/// The size of an image of MNIST.
const DIGIT: ImageSize = ImageSize { height: 28, width: 28, channels: 1 };

/// The size of an image of CIFAR-10.
const PHOTOGRAPH: ImageSize = ImageSize { height: 32, width: 32, channels: 3 };

/// The images of an autoregressive model of binarised MNIST.
fn binary_digits() -> ModelConfig {
    ModelConfig { levels: Some(2), ..images(DIGIT) }
}

/// The images of a variational autoencoder of binarised MNIST.
fn binary_pixels() -> ModelConfig {
    let (decoder, deviation) = (Some(DecoderKind::Bernoulli), Some(0.1));
    ModelConfig { decoder, deviation, classes: Some(0), ..images(DIGIT) }
}

/// The images of an autoregressive model of CIFAR-10.
fn photographs() -> ModelConfig {
    ModelConfig { levels: Some(256), ..images(PHOTOGRAPH) }
}

/// Images of this size.
fn images(size: ImageSize) -> ModelConfig {
    let ImageSize { height, width, channels } = size;
    ModelConfig { height: Some(height), width: Some(width), colours: Some(channels), ..ModelConfig::default() }
}

#[cfg(test)]
mod tests;
