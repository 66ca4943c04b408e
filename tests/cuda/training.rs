//! One training step of every preset on the stand-in driver against the CPU backend.

use crate::stand_in::StandIn;
use pixtape::backend::{self, Backend};
use pixtape::config::{OptimizerKind, PRESETS, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;

const SEED: u32 = 3;

/// Noise of two levels, or of all for colour, as large as the plans take it.
fn batch(model: &Model) -> Batch {
    let plan = &model.training()[0];
    let len = |name: &str| plan.inputs.iter().find(|i| i.name == name).map_or(0, |i| i.meta.shape.len());
    let u = |i: usize| rng::uniform(SEED, Stream::Test, [1, i as u32]);
    let is_grey = model.image[2] == 1;
    let pixel = |i: usize| if is_grey { f32::from(u(i) < 0.4) } else { (u(i) * 255.0).round() / 255.0 };
    let labels = (0..model.config.batch as u32).map(|i| (3 * i + 1) % 10).collect();
    let reduced = (0..len("reduced")).map(u).collect();
    Batch { pixels: (0..len("x")).map(pixel).collect(), labels, reduced, ..Batch::default() }
}

/// Every parameter and state after one step.
fn step(name: &str, backend: Box<dyn Backend>) -> (Model, Vec<Vec<f32>>) {
    let mut config = preset(name).unwrap();
    (config.seed, config.batch, config.kl_warmup) = (SEED, 2, config.kl_warmup.map(|_| 0));
    // The buffer of SGD holds the gradient after the first step; Adam's first step would hide its size.
    config.optimizer.kind = OptimizerKind::Sgd;
    config.optimizer.momentum = 0.9;
    let model = Model::new(&config).unwrap();
    let batch = batch(&model);
    let mut trainer = Trainer::new(model, backend, 1).unwrap();
    trainer.advance(|run| run(&batch)).unwrap();
    let mut values = vec![];
    for spec in trainer.model.set.specs() {
        let mut value = vec![0.0; spec.param.shape.len()];
        trainer.backend.read_param(spec.param.id, &mut value).unwrap();
        values.push(value);
    }
    (trainer.model, values)
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

fn agrees(name: &str) {
    let Some(cuda) = StandIn::backend() else { return };
    let (model, got) = step(name, Box::new(cuda));
    let (_, want) = step(name, backend::open("cpu", 2).unwrap());
    // A gradient that cancels (a bias in front of a batch norm) is rounding and nothing else: it is held against the largest
    // gradient of a parameter of that size.
    let gradients = model.set.specs().iter().zip(&want).filter(|(s, _)| s.param.path.starts_with("optim/"));
    let largest = gradients.flat_map(|(_, v)| v).fold(0f64, |a, b| a.max(f64::from(b.abs())));
    let mut bad = vec![];
    for ((spec, got), want) in model.set.specs().iter().zip(&got).zip(&want) {
        let off = norm(got.iter().zip(want).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let size = norm(want.iter().map(|v| f64::from(*v)));
        let floor = 1e-6 * largest * (want.len() as f64).sqrt();
        if off.is_nan() || off > 1e-4 * size + floor {
            bad.push(format!("{} is off by {off:.2e} of {size:.2e}", spec.param.path));
        }
    }
    assert!(bad.is_empty(), "{name}:\n{}", bad.join("\n"));
    assert!(largest > 0.0, "{name} has learnt nothing");
}

macro_rules! presets {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                agrees($name);
            }
        )*

        #[test]
        fn every_preset_is_here() {
            let all = [$($name),*];
            assert!(PRESETS.iter().all(|(name, ..)| all.contains(name)));
        }
    };
}

presets! {
    autoencoder_mnist: "autoencoder-mnist",
    vae_mnist: "vae-mnist",
    vae_mlp_mnist: "vae-mlp-mnist",
    pixelcnn_mnist: "pixelcnn-mnist",
    pixelcnn_cifar: "pixelcnn-cifar",
    gated_pixelcnn_mnist: "gated-pixelcnn-mnist",
    row_lstm_mnist: "row-lstm-mnist",
    diagonal_bilstm_mnist: "diagonal-bilstm-mnist",
    row_lstm_cifar: "row-lstm-cifar",
    diagonal_bilstm_cifar: "diagonal-bilstm-cifar",
    colorize_cifar: "colorize-cifar",
    superres_mnist: "superres-mnist",
    superres_cifar: "superres-cifar",
    lstm_oscillator: "lstm-oscillator",
    lstm_pendulum: "lstm-pendulum",
    lstm_rows_mnist: "lstm-rows-mnist",
    gan_mnist: "gan-mnist",
    dcgan_cifar: "dcgan-cifar",
}
