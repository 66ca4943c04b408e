//! Every preset records valid plans, under every objective and optimiser option.
//!
//! No device runs a plan here, except for the test that evaluation and sampling free their memory.

use pixtape::backend;
use pixtape::config::{PRESETS, preset};
use pixtape::data::{Images, Levels, Split};
use pixtape::eval;
use pixtape::models::{Family, Model};
use pixtape::parameters;
use pixtape::sampling::{DrawOptions, Sampler};
use pixtape::shape::ImageSize;
use std::sync::Arc;

#[test]
fn every_preset_records_valid_plans() {
    for name in PRESETS.iter().map(|preset| preset.name) {
        let mut config = preset(name).unwrap();
        config.batch = 2;
        for (ema, clip) in [(0.0, 0.0), (0.99, 1.0)] {
            (config.ema, config.clip_norm) = (ema, clip);
            let model = Model::new(&config).unwrap();
            for plan in model.training() {
                plan.check().unwrap_or_else(|why| panic!("{name}: {why}"));
                let stored = plan.steps().iter().filter(|s| s.label().starts_with("store")).count();
                // Every parameter and state is updated in place, so no step is a copy.
                assert_eq!(stored, 0, "{name} copies {stored} parameters\n{plan}");
            }
        }
    }
}

#[test]
fn every_objective_records_valid_plans() {
    for objective in ["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp"] {
        let mut config = preset("gan-mnist").unwrap();
        config.batch = 2;
        config.set(&format!("objective={objective}")).unwrap();
        config.set("critic_steps=3").unwrap();
        let model = Model::new(&config).unwrap();
        let plans = model.training();
        assert_eq!(plans.len(), 3);
        for plan in plans {
            plan.check().unwrap_or_else(|why| panic!("{objective}: {why}"));
        }
        assert!(matches!(model.family, Family::Adversarial(_)));
    }
}

#[test]
fn evaluation_and_sampling_give_their_memory_back() {
    for name in ["vae-mlp-mnist", "pixelcnn-mnist", "lstm-rows-mnist"] {
        let mut config = preset(name).unwrap();
        (config.model.height, config.model.width, config.model.hidden) = (Some(8), Some(8), Some(4));
        let model = Model::new(&config).unwrap();
        let mut device = backend::open("cpu", 1).unwrap();
        parameters::initialize(&mut *device, &model.set, 1).unwrap();
        let ImageSize { height: h, width: w, channels: c } = model.image;
        let bytes = (0..6 * h * w * c).map(|i| (i * 37 % 256) as u8).collect();
        let images = Arc::new(Images::new("test", model.image, bytes, None, Levels::Grey256).unwrap());
        let before = device.memory_bytes();
        eval::evaluate(&mut *device, &model, images.clone(), Split::Test, 1, "here").unwrap();
        if matches!(model.family, Family::Latent(_)) {
            eval::reconstruct(&mut *device, &model, images.clone()).unwrap();
            eval::interpolate(&mut *device, &model, images, 3).unwrap();
        }
        for sampler in [Sampler::new, Sampler::naive] {
            let sampler = sampler(&mut *device, &model, 2).unwrap();
            assert!(device.memory_bytes() > before, "{name}");
            sampler.draw(&mut *device, 2, DrawOptions::default()).unwrap();
            sampler.release(&mut *device);
        }
        assert_eq!(device.memory_bytes(), before, "{name}");
    }
}
