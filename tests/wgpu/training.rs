//! Training steps of every preset beside the CPU.

use crate::wgpu;
use pixtape::backend::{self, Backend};
use pixtape::check::compare::{relative_error, within};
use pixtape::config::{Config, OptimizerKind, PRESETS, preset};
use pixtape::data::Batch;
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;
use pixtape::train::weights;

/// A preset with two images a batch, narrow and shallow enough for software, as far as it has such a size.
fn small(name: &str) -> Config {
    let mut config = preset(name).unwrap();
    config.batch = 2;
    config.seed = 3;
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

/// With plain gradient descent the momentum buffers hold the gradients, so that all of them are compared.
#[test]
fn one_step_of_every_preset_gives_the_gradients_of_the_cpu() {
    for (name, ..) in PRESETS {
        let mut config = small(name);
        config.optimizer.kind = OptimizerKind::Sgd;
        let Some(device) = wgpu() else { return };
        let [want, got] = [backend::open("cpu", 0).unwrap(), device].map(|device| {
            let (mut trainer, batch) = trainer(&config, device);
            trainer.advance(|run| run(&batch)).unwrap();
            weights::snapshot(&mut *trainer.backend, &trainer.model.set).unwrap()
        });
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        for (path, want) in &want {
            let error = relative_error(&wide(&got[path].data), &wide(&want.data));
            assert!(within(error, 1e-4), "{name}: {path} is off by {error:.1e}");
        }
    }
}

#[test]
fn every_preset_trains_like_the_cpu_and_twice_the_same() {
    for (name, ..) in PRESETS {
        let config = small(name);
        let losses = |device: Box<dyn Backend>, steps: usize| {
            let (mut trainer, batch) = trainer(&config, device);
            let mut all = vec![];
            for _ in 0..steps {
                trainer.advance(|run| run(&batch)).unwrap();
                all.extend(trainer.losses().unwrap().into_iter().map(|(_, loss)| loss));
            }
            all
        };
        let (Some(device), Some(again)) = (wgpu(), wgpu()) else { return };
        let got = losses(device, 20);
        for (i, (got, want)) in got.iter().zip(losses(backend::open("cpu", 0).unwrap(), 20)).enumerate() {
            assert!((got - want).abs() <= 1e-3 * want.abs(), "{name}: loss {i} is {got}, not {want}");
        }
        let again = losses(again, 2);
        assert_eq!(got[..again.len()], again, "{name}");
    }
}
