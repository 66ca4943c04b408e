//! Every preset records valid plans, under every objective and optimiser.

use pixtape::config::{PRESETS, preset};
use pixtape::models::{Family, Model};

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
                // Running statistics and clipped weights aside, everything is replaced in place.
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
