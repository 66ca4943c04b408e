//! Compares training steps of every preset, with two images per batch, with the CPU backend.
//!
//! The tests of CUDA and wgpu include this file. [`agrees`] compares one step of a preset, and
//! [`test_every_preset!`] declares one test per preset. [`other_sizes_agree`] compares one step of each
//! family on images of other sizes.

use pixtape::backend::{self, Backend};
use pixtape::check::compare::{relative_error, within};
use pixtape::config::{Config, OptimizerKind, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::parameters;
use pixtape::rng::{self, Stream};
use pixtape::store::Tensor;
use pixtape::tape::InputRole;
use pixtape::train::trainer::Trainer;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// A preset with two images per batch. With this seed no input of a relu is so close to zero that rounding
/// decides its sign.
pub fn with_two_images(name: &str) -> Config {
    Config { batch: 2, seed: 4, ..preset(name).unwrap() }
}

/// The CPU backend, with which the others are compared.
pub fn cpu() -> Box<dyn Backend> {
    backend::open("cpu", 0).unwrap()
}

/// A trainer, and a batch of two images of discs that suits every preset: its pixel range and levels,
/// labels, reduced images.
pub fn trainer(config: &Config, device: Box<dyn Backend>) -> (Trainer, Batch) {
    let model = Model::new(config).unwrap();
    let batch = discs(&model);
    (Trainer::new(model, device, 20).unwrap(), batch)
}

fn discs(model: &Model) -> Batch {
    let plan = &model.training()[0];
    let shape_of = |role| plan.inputs().iter().find(|input| input.role == Some(role)).map(|input| input.meta.shape);
    let x = shape_of(InputRole::Images).unwrap();
    let &[n, h, w, c] = x.dims() else { panic!("images have four dimensions, not {x}") };
    let inside = |i: usize| {
        let (row, column) = (i / c / w % h, i / c % w);
        row.abs_diff(h / 2).pow(2) + column.abs_diff(w / 2).pow(2) < (4 + 3 * (i / c / w / h)).pow(2)
    };
    let noise = |i: usize| rng::uniform(1, Stream::Test, [3, i as u32]);
    let value = |i: usize| {
        let level = if noise(i) < 0.1 { !inside(i) } else { inside(i) };
        if c == 1 { f32::from(level) } else { (255.0 * (0.2 + 0.6 * f32::from(level))).round() / 255.0 }
    };
    let pixels = (0..n * h * w * c).map(value).collect();
    let labels = (0..n as u32).map(|i| i % model.classes().max(1) as u32).collect();
    let reduced = shape_of(InputRole::Reduced).map_or(0, |shape| shape.len());
    let reduced = (0..reduced).map(noise).collect();
    Batch { pixels, labels, reduced, indices: vec![0, 1], ..Batch::default() }
}

/// The parameters and states after one step of gradient descent. Its momentum buffers hold the gradients, so
/// all gradients are compared too; the first step of Adam would hide their size. The KL term has its full
/// weight.
fn one_step(config: &Config, device: Box<dyn Backend>) -> Tensors {
    let mut config = config.clone();
    config.kl_warmup = config.kl_warmup.map(|_| 0);
    config.optimizer.kind = OptimizerKind::Sgd;
    config.optimizer.momentum = 0.9;
    let (mut trainer, mut batch) = trainer(&config, device);
    trainer.step(&mut batch).unwrap();
    parameters::snapshot(&mut *trainer.backend, &trainer.model.set).unwrap()
}

/// Runs one step of a preset at its full size. Panics if a gradient, parameter or state differs from the
/// CPU's by more than `tolerance` in the relative Euclidean norm.
pub fn agrees(name: &str, device: Box<dyn Backend>, tolerance: f64) {
    config_agrees(name, &with_two_images(name), device, tolerance);
}

/// Runs one step of small networks of the three families on images of 64x64 pixels in colour, 40x28 in grey
/// and 128x128 in colour, each on a new device. Panics as [`agrees`] does.
pub fn other_sizes_agree(device: impl Fn() -> Box<dyn Backend>, tolerance: f64) {
    let networks = [
        ("vae-mnist", "channels=4 hidden=8 latent=3", "decoder=logistic"),
        ("gan-mnist", "channels=4 latent=5", ""),
        ("pixelcnn-mnist", "hidden=6 blocks=1 head=6", "levels=256"),
    ];
    for (name, small, in_colour) in networks {
        for (height, width, colours) in [(64, 64, 3), (40, 28, 1), (128, 128, 3)] {
            // Another seed, again one with which no input of a relu is too close to zero.
            let mut config = Config { seed: 5, ..with_two_images(name) };
            let keys = format!("{small} height={height} width={width} colours={colours}");
            let in_colour = if colours == 3 { in_colour } else { "" };
            for key in keys.split_whitespace().chain(in_colour.split_whitespace()) {
                config.set(&format!("model.{key}")).unwrap();
            }
            if colours == 3 {
                config.set("binarize=none").unwrap();
            }
            let called = format!("{name} of {height}x{width}x{colours}");
            config_agrees(&called, &config, device(), tolerance);
        }
    }
}

fn config_agrees(name: &str, config: &Config, device: Box<dyn Backend>, tolerance: f64) {
    let [got, want] = [device, cpu()].map(|device| one_step(config, device));
    let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let error = |path: &String| relative_error(&wide(&got[path].data), &wide(&want[path].data));
    let errors: Vec<(f64, &String)> = want.keys().map(|path| (error(path), path)).collect();
    let bad: Vec<_> = errors.iter().filter(|(error, _)| !within(*error, tolerance)).collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
    let learnt = |(path, value): (&String, &Tensor)| path.starts_with("optim/") && value.data.iter().any(|v| *v != 0.0);
    assert!(want.iter().any(learnt), "{name} has learnt nothing");
    if let Some((error, path)) = errors.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        println!("{name}: at most {error:.1e}, of {path}");
    }
}

/// Declares a module with one test per preset, which calls a function with the name of the preset.
macro_rules! test_every_preset {
    ($(#[$attribute:meta])* $group:ident: $run:path) => {
        mod $group {
            crate::presets::test_every_preset! {
                @each [$(#[$attribute])*] $run;
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
                colorize_gan_cifar: "colorize-gan-cifar",
                superres_gan_mnist: "superres-gan-mnist",
                classifier_mnist: "classifier-mnist",
                classifier_fashion_mnist: "classifier-fashion-mnist",
                classifier_cifar: "classifier-cifar",
            }
        }
    };
    (@each $attributes:tt $run:path; $($test:ident: $name:literal,)*) => {
        $(crate::presets::test_every_preset! { @one $attributes $run, $test: $name })*

        #[test]
        fn every_preset_is_here() {
            let all = [$($name),*];
            assert!(pixtape::config::PRESETS.iter().all(|preset| all.contains(&preset.name)));
        }
    };
    (@one [$(#[$attribute:meta])*] $run:path, $test:ident: $name:literal) => {
        #[test]
        $(#[$attribute])*
        fn $test() {
            $run($name);
        }
    };
}

pub(crate) use test_every_preset;
