//! The presets: the reference workloads by name, as configurations that `--set` can change.

use super::{Config, ModelSizes, Objective, Optimizer, OptimizerKind, Precision, Schedule, ScheduleKind};
use crate::data::Binarize;
use crate::error::{Error, Result};

/// A preset's name, what it is in a line, and its configuration.
type Entry = (&'static str, &'static str, fn(&str) -> Config);

/// The presets in the order in which they are listed: name, description, configuration.
pub const PRESETS: &[Entry] = &[
    ("autoencoder-mnist", "convolutional autoencoder, squared error", autoencoder_mnist),
    ("vae-mnist", "convolutional variational autoencoder", vae_mnist),
    ("vae-mlp-mnist", "variational autoencoder 784-400-20 (Kingma & Welling 2014)", vae_mlp_mnist),
    ("pixelcnn-mnist", "PixelCNN with 7 residual blocks (van den Oord et al. 2016)", pixelcnn_mnist),
    ("pixelcnn-cifar", "PixelCNN in colour with 8 residual blocks (van den Oord et al. 2016)", pixelcnn_cifar),
    ("gated-pixelcnn-mnist", "Gated PixelCNN with 8 layers (van den Oord et al. 2016b)", gated_pixelcnn_mnist),
    ("row-lstm-mnist", "PixelRNN with 7 Row LSTM layers (van den Oord et al. 2016)", row_lstm_mnist),
    (
        "diagonal-bilstm-mnist",
        "PixelRNN with 7 Diagonal BiLSTM layers (van den Oord et al. 2016)",
        diagonal_bilstm_mnist,
    ),
    ("row-lstm-cifar", "PixelRNN in colour with 6 Row LSTM layers (van den Oord et al. 2016)", row_lstm_cifar),
    ("diagonal-bilstm-cifar", "PixelRNN in colour with 6 Diagonal BiLSTM layers (ibid.)", diagonal_bilstm_cifar),
    ("colorize-cifar", "PixelCNN that gives a grey image its colours", conditional_cifar),
    ("superres-mnist", "PixelCNN that draws a digit from a quarter of its side", pixelcnn_mnist),
    ("superres-cifar", "PixelCNN that draws a colour image from a quarter of its side", conditional_cifar),
    ("lstm-oscillator", "LSTM over damped oscillations with noise", lstm_oscillator),
    ("lstm-pendulum", "LSTM over a pendulum under random torques", lstm_pendulum),
    ("lstm-rows-mnist", "LSTM that reads a digit row by row", lstm_rows_mnist),
    ("gan-mnist", "DCGAN on digits padded to 32x32 (Radford et al. 2016)", gan_mnist),
    ("dcgan-cifar", "DCGAN on colour images (Radford et al. 2016)", dcgan_cifar),
];

/// The configuration of a preset.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, naming the nearest one and listing all.
pub fn preset(name: &str) -> Result<Config> {
    match PRESETS.iter().find(|(known, ..)| *known == name) {
        Some((known, _, make)) => Ok(make(known)),
        None => Err(Error::Usage(unknown_preset(name))),
    }
}

/// The sentence about a name that is no preset.
pub(super) fn unknown_preset(name: &str) -> String {
    let names = || PRESETS.iter().map(|(known, ..)| *known);
    let nearest = names()
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .unwrap_or_default();
    let all: Vec<&str> = names().collect();
    format!("there is no preset \"{name}\", did you mean {nearest}? (presets: {})", all.join(", "))
}

/// What the presets have in common.
fn base(name: &str, data: &str, batch: usize, epochs: u32) -> Config {
    Config {
        preset: name.to_string(),
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
        sample_every: 500,
        log_every: 20,
        kl_warmup: None,
        objective: None,
        critic_steps: None,
        weight_clip: None,
        penalty: None,
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
        model: ModelSizes::default(),
    }
}

fn autoencoder_mnist(name: &str) -> Config {
    let model = ModelSizes { channels: Some(32), hidden: Some(256), latent: Some(32), ..ModelSizes::default() };
    Config { model, ..base(name, "mnist", 128, 10) }
}

/// Latent models read binarised digits, where their bound is a likelihood of the data.
fn vae(name: &str, model: ModelSizes) -> Config {
    let base = base(name, "binarized-mnist", 128, 20);
    // Without the warm-up some starts leave latents unused for good: test bounds of -99.5 and -96.5 for two seeds.
    Config { binarize: Binarize::Static, kl_warmup: Some(400), model, ..base }
}

fn vae_mnist(name: &str) -> Config {
    let model = ModelSizes { channels: Some(32), hidden: Some(256), latent: Some(32), ..ModelSizes::default() };
    vae(name, model)
}

fn vae_mlp_mnist(name: &str) -> Config {
    vae(name, ModelSizes { hidden: Some(400), latent: Some(20), ..ModelSizes::default() })
}

fn pixelcnn_mnist(name: &str) -> Config {
    let model = ModelSizes { hidden: Some(32), blocks: Some(7), head: Some(64), ..binary_digits() };
    Config { binarize: Binarize::Static, model, ..base(name, "binarized-mnist", 64, 10) }
}

fn pixelcnn_cifar(name: &str) -> Config {
    let model = ModelSizes { hidden: Some(64), blocks: Some(8), head: Some(1024), ..photographs() };
    // With 16 images a step a rate that stays leaves its last steps to chance: 4.6 bits a dimension in training, 4.8 on test images.
    let schedule = Schedule { kind: ScheduleKind::Cosine, warmup_steps: 0, final_lr: 0.0 };
    Config { schedule, model, ..base(name, "cifar-10", 16, 10) }
}

fn gated_pixelcnn_mnist(name: &str) -> Config {
    let [hidden, layers, kernel, head, classes] = [64, 8, 3, 64, 0].map(Some);
    let model = ModelSizes { hidden, layers, kernel, head, classes, ..binary_digits() };
    Config { binarize: Binarize::Static, model, ..base(name, "binarized-mnist", 64, 10) }
}

fn row_lstm_mnist(name: &str) -> Config {
    let model = ModelSizes { hidden: Some(16), layers: Some(7), head: Some(32), ..binary_digits() };
    Config { binarize: Binarize::Static, model, ..base(name, "binarized-mnist", 64, 10) }
}

fn diagonal_bilstm_mnist(name: &str) -> Config {
    let row = row_lstm_mnist(name);
    Config { model: ModelSizes { directions: Some(2), ..row.model }, ..row }
}

fn row_lstm_cifar(name: &str) -> Config {
    let model = ModelSizes { hidden: Some(48), layers: Some(6), head: Some(512), ..photographs() };
    Config { model, ..base(name, "cifar-10", 16, 10) }
}

fn diagonal_bilstm_cifar(name: &str) -> Config {
    let row = row_lstm_cifar(name);
    Config { model: ModelSizes { directions: Some(2), ..row.model }, ..row }
}

/// What is given spares a conditional model some of its size.
fn conditional_cifar(name: &str) -> Config {
    let model = ModelSizes { hidden: Some(48), blocks: Some(6), head: Some(384), ..photographs() };
    Config { model, ..base(name, "cifar-10", 16, 10) }
}

/// Sequences of `steps` observations of `width` values. The rate falls: a density can be sharpened for ever.
fn lstm(name: &str, data: &str, [steps, width, hidden]: [usize; 3], epochs: u32) -> Config {
    let sizes = ModelSizes { height: Some(steps), width: Some(width), hidden: Some(hidden), ..ModelSizes::default() };
    let mut config = Config { clip_norm: 1.0, model: sizes, ..base(name, data, 64, epochs) };
    config.optimizer.lr = 8e-3;
    config.schedule = Schedule { kind: ScheduleKind::Cosine, warmup_steps: 100, final_lr: 2e-5 };
    config
}

fn lstm_oscillator(name: &str) -> Config {
    lstm(name, "oscillator", [100, 1, 64], 40)
}

fn lstm_pendulum(name: &str) -> Config {
    lstm(name, "pendulum", [100, 4, 64], 40)
}

fn lstm_rows_mnist(name: &str) -> Config {
    Config { binarize: Binarize::Static, ..lstm(name, "binarized-mnist", [28, 28, 128], 4) }
}

/// The images of an autoregressive model of binarised MNIST.
fn binary_digits() -> ModelSizes {
    images([28, 28, 1], 2)
}

/// The images of an autoregressive model of CIFAR-10.
fn photographs() -> ModelSizes {
    images([32, 32, 3], 256)
}

fn images([height, width, colours]: [usize; 3], levels: usize) -> ModelSizes {
    ModelSizes {
        height: Some(height),
        width: Some(width),
        colours: Some(colours),
        levels: Some(levels),
        ..ModelSizes::default()
    }
}

/// Rates of Radford et al. 2016, section 4: Adam with 0.0002 and the first decay lowered to 0.5.
fn gan(name: &str, data: &str) -> Config {
    let mut config = base(name, data, 64, 20);
    config.optimizer.lr = 2e-4;
    config.optimizer.beta1 = 0.5;
    config.objective = Some(Objective::NonSaturating);
    config.critic_steps = Some(1);
    config.weight_clip = Some(0.01);
    config.penalty = Some(10.0);
    config.model = ModelSizes { channels: Some(64), latent: Some(100), ..ModelSizes::default() };
    config
}

fn gan_mnist(name: &str) -> Config {
    gan(name, "mnist")
}

fn dcgan_cifar(name: &str) -> Config {
    gan(name, "cifar-10")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_has_its_own_name() {
        for (name, description, _) in PRESETS {
            let config = preset(name).unwrap();
            assert_eq!(config.preset, *name);
            config.validate().unwrap();
            assert!(!description.is_empty());
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_reference_workloads() {
        let of = |name| preset(name).unwrap();
        let facts = |c: &Config| (c.data.clone(), c.binarize, c.batch, c.optimizer.lr, c.optimizer.beta1);
        let binarized = |batch| ("binarized-mnist".to_string(), Binarize::Static, batch, 1e-3, 0.9);
        assert_eq!(facts(&of("pixelcnn-mnist")), binarized(64));
        assert_eq!(facts(&of("pixelcnn-cifar")), ("cifar-10".to_string(), Binarize::None, 16, 1e-3, 0.9));
        assert_eq!(facts(&of("gated-pixelcnn-mnist")), binarized(64));
        for (mnist, cifar) in [("row-lstm-mnist", "row-lstm-cifar"), ("diagonal-bilstm-mnist", "diagonal-bilstm-cifar")]
        {
            assert_eq!(facts(&of(mnist)), binarized(64));
            assert_eq!(facts(&of(cifar)), facts(&of("pixelcnn-cifar")));
        }
        assert_eq!(facts(&of("superres-mnist")), binarized(64));
        for name in ["colorize-cifar", "superres-cifar"] {
            assert_eq!(facts(&of(name)), ("cifar-10".to_string(), Binarize::None, 16, 1e-3, 0.9));
        }
        assert_eq!(facts(&of("vae-mnist")), binarized(128));
        assert_eq!(facts(&of("vae-mlp-mnist")), binarized(128));
        assert_eq!(facts(&of("autoencoder-mnist")), ("mnist".to_string(), Binarize::None, 128, 1e-3, 0.9));
        assert_eq!(facts(&of("gan-mnist")), ("mnist".to_string(), Binarize::None, 64, 2e-4, 0.5));
        assert_eq!(facts(&of("dcgan-cifar")), ("cifar-10".to_string(), Binarize::None, 64, 2e-4, 0.5));
    }

    #[test]
    fn an_unknown_preset_names_the_nearest_and_lists_all() {
        let error = preset("pixelcn-mnist").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains("did you mean pixelcnn-mnist?"), "{message}");
        assert!(PRESETS.iter().all(|(name, ..)| message.contains(name)), "{message}");
    }
}
