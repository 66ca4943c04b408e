//! Compares training steps of every preset with the CPU.
//!
//! `common/presets.rs` compares one step at full size. This file adds twenty steps: at reduced sizes in
//! every run, at full size on request.

use crate::presets::{self, cpu, test_every_preset, trainer, with_two_images};
use crate::wgpu;
use pixtape::backend::Backend;
use pixtape::config::{Config, PRESETS, preset};
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;

/// A preset with two images per batch. Sizes that it has are reduced, so that many steps are feasible on a
/// software adapter.
fn reduced(name: &str) -> Config {
    let mut config = with_two_images(name);
    for size in ["blocks=2", "layers=2", "hidden=12", "head=24", "channels=8", "height=12", "width=12"] {
        let _ = config.set(&format!("model.{size}"));
    }
    config
}

test_every_preset!(one_step_agrees_with_the_cpu: crate::training::agrees);

/// Compares one step of a preset at its full size.
fn agrees(name: &str) {
    let Some(device) = wgpu() else { return };
    presets::agrees(name, device, 1e-4);
}

#[test]
fn images_of_other_sizes_train_as_on_the_cpu() {
    if wgpu().is_none() {
        return;
    }
    presets::other_sizes_agree(|| wgpu().expect("there is one"), 1e-4);
}

test_every_preset!(
    #[ignore = "minutes on software Vulkan; at reduced sizes they always run"]
    twenty_steps_at_full_size: crate::training::trains_at_full_size
);

fn trains_at_full_size(name: &str) {
    trains_like_the_cpu(name, &with_two_images(name), 10.0);
}

/// No plan is run, so the memory is reserved but not touched.
#[test]
fn plans_of_every_preset_compile_at_the_batch_that_they_are_trained_with() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        let Some(device) = wgpu() else { return };
        let model = Model::new(&preset(name).unwrap()).unwrap();
        if let Err(why) = Trainer::new(model, device, 1) {
            panic!("{name}: {why}");
        }
    }
}

/// The losses of some steps. The initial weights are changed randomly by at most the fraction `changed`, up
/// or down.
fn losses(config: &Config, device: Box<dyn Backend>, steps: usize, changed: f32) -> Vec<f64> {
    let (mut trainer, mut batch) = trainer(config, device);
    for spec in trainer.model.set.specs().iter().filter(|_| changed > 0.0) {
        let change = |i: usize| 1.0 + changed * (2.0 * rng::uniform(2, Stream::Test, [4, i as u32]) - 1.0);
        let values: Vec<f32> = spec.initial(config.seed).iter().enumerate().map(|(i, v)| v * change(i)).collect();
        trainer.backend.write_param(spec.param.id, &values).unwrap();
    }
    let mut all = vec![];
    for _ in 0..steps {
        trainer.step(&mut batch).unwrap();
        // An accuracy jumps from one fraction to the next where two outputs are equal.
        let losses = trainer.losses().unwrap().into_iter().filter(|(name, _)| name != "accuracy");
        all.extend(losses.map(|(_, loss)| loss));
    }
    all
}

/// Compares twenty steps with the CPU. Each loss must agree within 1e-3, and two repeated steps must give
/// the same bits. If training itself amplifies rounding errors, this bound is too strict. The allowed error
/// is therefore at least `slack` times the change of the CPU's own losses when its weights change by one
/// part in a million. `slack` is above 1 because every step rounds again, but the weights are changed only
/// once.
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

/// At these sizes a software adapter takes about one second per preset.
#[test]
fn every_preset_trains_like_the_cpu_and_twice_the_same() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        trains_like_the_cpu(name, &reduced(name), 0.0);
    }
}
