//! Training steps of every preset beside the CPU.

use crate::wgpu;
use pixtape::backend::{self, Backend};
use pixtape::check::compare::{relative_error, within};
use pixtape::config::{Config, OptimizerKind, PRESETS, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::checkpoint::Tensor;
use pixtape::train::trainer::Trainer;
use pixtape::train::weights;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// A preset as it is, but for two images a batch. With this seed no relu lies so near zero that rounding decides its side.
fn with_two_images(name: &str) -> Config {
    Config { batch: 2, seed: 4, ..preset(name).unwrap() }
}

/// The same, narrow and shallow enough for many steps on software, as far as it has such a size.
fn reduced(name: &str) -> Config {
    let mut config = with_two_images(name);
    for size in ["blocks=2", "layers=2", "hidden=12", "head=24", "channels=8", "height=12", "width=12"] {
        let _ = config.set(&format!("model.{size}"));
    }
    config
}

/// Two images of discs for every preset: levels, pixels in its range, labels.
fn batch(model: &Model) -> Batch {
    let x = model.training()[0].inputs.iter().find(|i| i.name == "x").map(|i| i.meta.shape).unwrap();
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
    let reduced = model.training()[0].inputs.iter().find(|i| i.name == "reduced").map_or(0, |i| i.meta.shape.len());
    let reduced = (0..reduced).map(noise).collect();
    Batch { pixels, labels, reduced, indices: vec![0, 1], ..Batch::default() }
}

fn trainer(config: &Config, device: Box<dyn Backend>) -> (Trainer, Batch) {
    let model = Model::new(config).unwrap();
    let batch = batch(&model);
    (Trainer::new(model, device, 20).unwrap(), batch)
}

/// Everything that one step of plain gradient descent leaves: the momentum buffers hold the gradients, so that all of them
/// are compared, and parameters and states beside them.
fn one_step(config: &Config, device: Box<dyn Backend>) -> Tensors {
    let mut config = config.clone();
    config.optimizer.kind = OptimizerKind::Sgd;
    config.optimizer.momentum = 0.9;
    let (mut trainer, batch) = trainer(&config, device);
    trainer.advance(|run| run(&batch)).unwrap();
    weights::snapshot(&mut *trainer.backend, &trainer.model.set).unwrap()
}

/// One step of a preset at its full size: every gradient, parameter and state within 1e-4 of the CPU's.
fn agrees(name: &str) {
    let Some(device) = wgpu() else { return };
    let config = with_two_images(name);
    let [got, want] = [device, cpu()].map(|device| one_step(&config, device));
    let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let error = |path: &String| relative_error(&wide(&got[path].data), &wide(&want[path].data));
    let errors: Vec<(f64, &String)> = want.keys().map(|path| (error(path), path)).collect();
    let bad: Vec<_> = errors.iter().filter(|(error, _)| !within(*error, 1e-4)).collect();
    assert!(bad.is_empty(), "{name}: {bad:?}");
    assert!(want.keys().any(|path| path.starts_with("optim/")), "{name}: no gradient was compared");
    if let Some((error, path)) = errors.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
        println!("{name}: at most {error:.1e}, of {path}");
    }
}

macro_rules! presets {
    ($($test:ident: $name:literal,)*) => {
        mod one_step_agrees_with_the_cpu {
            $(
                #[test]
                fn $test() {
                    super::agrees($name);
                }
            )*
        }

        mod twenty_steps_at_full_size {
            $(
                #[test]
                #[ignore = "minutes on software Vulkan; at reduced sizes they always run"]
                fn $test() {
                    super::trains_like_the_cpu($name, &super::with_two_images($name), 10.0);
                }
            )*
        }

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

/// Nothing is run: the memory is reserved, not touched.
#[test]
fn plans_of_every_preset_compile_at_the_batch_that_they_are_trained_with() {
    for (name, ..) in PRESETS {
        let Some(device) = wgpu() else { return };
        let model = Model::new(&preset(name).unwrap()).unwrap();
        if let Err(why) = Trainer::new(model, device, 1) {
            panic!("{name}: {why}");
        }
    }
}

/// The losses of some steps, from weights that are changed by this part of themselves, up or down.
fn losses(config: &Config, device: Box<dyn Backend>, steps: usize, changed: f32) -> Vec<f64> {
    let (mut trainer, batch) = trainer(config, device);
    for spec in trainer.model.set.specs().iter().filter(|_| changed > 0.0) {
        let change = |i: usize| 1.0 + changed * (2.0 * rng::uniform(2, Stream::Test, [4, i as u32]) - 1.0);
        let values: Vec<f32> = spec.initial(config.seed).iter().enumerate().map(|(i, v)| v * change(i)).collect();
        trainer.backend.write_param(spec.param.id, &values).unwrap();
    }
    let mut all = vec![];
    for _ in 0..steps {
        trainer.advance(|run| run(&batch)).unwrap();
        all.extend(trainer.losses().unwrap().into_iter().map(|(_, loss)| loss));
    }
    all
}

fn cpu() -> Box<dyn Backend> {
    backend::open("cpu", 0).unwrap()
}

/// Twenty steps beside the CPU, each loss within 1e-3, and two once more, which give the same bits. Where training itself
/// magnifies rounding, that bound asks for too much: `slack` times what the CPU's own losses move when its weights are changed by
/// one part in a million is allowed then (every step rounds anew, the change is made once).
fn trains_like_the_cpu(name: &str, config: &Config, slack: f64) {
    let (Some(device), Some(again)) = (wgpu(), wgpu()) else { return };
    let got = losses(config, device, 20, 0.0);
    let want = losses(config, cpu(), 20, 0.0);
    let moved = losses(config, cpu(), 20, 1e-6);
    let off = |got: f64, want: f64| (got - want).abs() / want.abs();
    let (mut worst, mut wobble) = (0f64, 0f64);
    for (i, ((got, want), moved)) in got.iter().zip(&want).zip(moved).enumerate() {
        wobble = wobble.max(off(moved, *want));
        let allowed = (slack * wobble).max(1e-3);
        assert!(off(*got, *want) <= allowed, "{name}: loss {i} is {got}, not {want}; {allowed:.1e} is allowed");
        worst = worst.max(off(*got, *want));
    }
    println!("{name}: losses are off by at most {worst:.1e}; the CPU's own move by up to {wobble:.1e}");
    let again = losses(config, again, 2, 0.0);
    assert_eq!(got[..again.len()], again, "{name}");
}

/// Sizes at which software takes a second a preset.
#[test]
fn every_preset_trains_like_the_cpu_and_twice_the_same() {
    for (name, ..) in PRESETS {
        trains_like_the_cpu(name, &reduced(name), 0.0);
    }
}
