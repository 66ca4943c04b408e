//! One training step of every preset, at its full size and with two images, on the stand-in driver against the CPU backend.

use crate::stand_in::StandIn;
use pixtape::backend::{self, Backend};
use pixtape::check::compare::{relative_error, within};
use pixtape::config::{OptimizerKind, PRESETS, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;

/// With this seed no relu lies so near zero that rounding decides its side.
const SEED: u32 = 4;

/// Of every gradient, parameter and state, in the Euclidean norm.
const TOLERANCE: f64 = 1e-5;

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

fn agrees(name: &str) {
    let Some(cuda) = StandIn::backend() else { return };
    let (model, got) = step(name, Box::new(cuda));
    let (_, want) = step(name, backend::open("cpu", 2).unwrap());
    let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let paths = model.set.specs().iter().map(|spec| &*spec.param.path);
    let errors: Vec<(f64, &str)> =
        got.iter().zip(&want).map(|(got, want)| relative_error(&wide(got), &wide(want))).zip(paths).collect();
    let bad: Vec<_> = errors.iter().filter(|(error, _)| !within(*error, TOLERANCE)).collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
    let learnt = |(path, value): (&str, &Vec<f32>)| path.starts_with("optim/") && value.iter().any(|v| *v != 0.0);
    assert!(errors.iter().map(|(_, path)| *path).zip(&want).any(learnt), "{name} has learnt nothing");
    if let Some((error, path)) = errors.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        println!("{name}: at most {error:.1e}, of {path}");
    }
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
