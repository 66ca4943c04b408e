//! Training with operands in bf16: how far the losses are from those in f32, that images are drawn in f32,
//! and what refuses to compute in bf16.

use pixtape::backend::Backend;
use pixtape::backend::cpu::{Cpu, Isa, Options};
use pixtape::config::{Config, PRESETS, preset};
use pixtape::data::{self, Batches, Loader, Order, Split};
use pixtape::models::{Family, Model};
use pixtape::tape::plan::Precision;
use pixtape::tape::window::SamplingPlan;
use pixtape::train::trainer::Trainer;
use std::sync::Arc;

fn config(name: &str, settings: &[&str]) -> Config {
    let mut config = preset(name).unwrap();
    settings.iter().for_each(|setting| config.set(setting).unwrap());
    config
}

fn cpu(options: Options) -> Cpu {
    Cpu::new(Options { threads: 2, ..options }).unwrap()
}

/// The loss of each of `steps` steps.
fn losses(config: &Config, steps: u64) -> Vec<f64> {
    let model = Model::new(config).unwrap();
    let images = Arc::new(data::open("glyphs", Split::Train, None).unwrap());
    let mut batches = Loader::new(Batches::new(images, model.batch_options(Order::Shuffled)).unwrap()).unwrap();
    let device = cpu(Options { emulates_bf16: true, ..Options::default() });
    let mut trainer = Trainer::new(model, Box::new(device), steps).unwrap();
    let mut step = |_| {
        trainer.step(&mut batches).unwrap();
        trainer.losses().unwrap()[0].1
    };
    (0..steps).map(&mut step).collect()
}

#[test]
fn losses_in_bf16_are_near_those_in_f32() {
    let steps = 60;
    let pixelcnn = ["model.hidden=16", "model.blocks=2", "model.head=16", "batch=8"];
    for (name, settings) in [("pixelcnn-mnist", &pixelcnn[..]), ("vae-mlp-mnist", &["batch=16"])] {
        let in_precision = |precision: &str| losses(&config(name, &[settings, &[precision]].concat()), steps as u64);
        let (f32, bf16) = (in_precision("precision=f32"), in_precision("precision=bf16"));
        // The bound of a variational autoencoder is negative and rises.
        assert!(f32[steps - 1].abs() < 0.9 * f32[0].abs(), "{name} learns nothing: {f32:?}");
        assert_ne!(f32, bf16, "{name}: operands in bf16 change nothing");
        // Rounding changes the sign of some sums before a relu, and so 2 to 5 % of a gradient. Two trainings
        // then go their own ways, in either direction, while the loss falls fast.
        for (step, (f32, bf16)) in f32.chunks(10).zip(bf16.chunks(10)).enumerate() {
            let [f32, bf16] = [f32, bf16].map(|losses| losses.iter().sum::<f64>() / losses.len() as f64);
            let error = (bf16 - f32).abs() / f32.abs();
            assert!(error <= 0.03, "{name}: the mean loss from step {} is {bf16} in bf16 and {f32} in f32", 10 * step);
        }
    }
}

/// Everything but training is in f32: likelihoods, draws, reconstructions.
#[test]
fn only_plans_of_training_round_their_operands() {
    for preset in PRESETS {
        let model = Model::new(&config(preset.name, &["precision=bf16"])).unwrap();
        assert!(model.training().iter().all(|plan| plan.precision() == Precision::Bf16), "{}", preset.name);
        let others = match &model.family {
            Family::Autoregressive(net) => vec![net.likelihood(2), net.draw(2)],
            Family::Latent(net) => vec![net.sampling(2)],
            Family::Adversarial(net) => vec![net.sampling(2)],
            Family::Sequence(net) => vec![net.likelihood(2), net.stepping(2)],
            Family::Classifier(net) => vec![net.judging(2)],
        };
        assert!(others.iter().all(|plan| plan.precision() == Precision::F32), "{}", preset.name);
    }
}

/// Whoever makes a schedule of a plan for training draws in f32 nevertheless.
#[test]
fn a_schedule_is_in_f32() {
    let model = Model::new(&config("pixelcnn-mnist", &[])).unwrap();
    let Family::Autoregressive(net) = &model.family else { unreachable!() };
    let schedule = SamplingPlan::new(&net.draw(2).in_precision(Precision::Bf16)).unwrap();
    assert_eq!(schedule.plan().precision(), Precision::F32);
}

#[test]
fn a_processor_without_instructions_for_bf16_refuses_it() {
    let plan = Model::new(&config("vae-mlp-mnist", &["batch=2", "precision=bf16"])).unwrap().training().remove(0);
    for isa in Isa::available() {
        let mut device = cpu(Options { isa: Some(isa), ..Options::default() });
        let why = device.compile(&plan).err().map(|why| why.to_string()).unwrap_or_default();
        let refused = why.contains("no instructions for bf16 (AVX512-BF16); use one that has them, or train anew");
        assert_eq!(refused, !isa.has_bf16(), "{isa}: {why}");
    }
}
