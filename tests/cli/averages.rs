//! Moving averages of the weights: their decay warms up, except in runs that began with a constant decay.

use super::{Place, tiny};
use pixtape::config::Averaging;
use pixtape::store::Checkpoint;

/// The checkpoint of a step of the run `run`.
fn load(place: &Place, step: u64) -> Checkpoint {
    Checkpoint::load(&place.path(&format!("run/checkpoints/step-{step:06}.safetensors"))).unwrap()
}

/// Panics unless every average moved from `before` towards the weights of `after` by this share.
#[track_caller]
fn assert_moved(before: &Checkpoint, after: &Checkpoint, share: f32) {
    for (name, average) in after.group("ema") {
        let (old, weight) = (&before.tensors[&format!("ema/{name}")], &after.tensors[&format!("params/{name}")]);
        for ((new, old), weight) in average.data.iter().zip(&old.data).zip(&weight.data) {
            let expected = old + share * (weight - old);
            assert!((new - expected).abs() <= 1e-6 * (1.0 + weight.abs()), "{name}: {new}, not {expected}");
        }
    }
}

#[test]
fn averages_of_a_short_training_are_better_than_no_training() {
    let place = Place::new();
    place.ok(&format!("{} --set ema=0.9999", tiny("vae-mlp-mnist", 300, "run")));
    place.ok(&format!("{} --set optimizer.lr=1e-30", tiny("vae-mlp-mnist", 1, "untrained")));
    let elbo = |what: &str| {
        let measured = place.json(&format!("eval {what} --data glyphs --split valid --iwae 1 --images 200"));
        (measured["weights"].as_str().unwrap().to_string(), measured["elbo_nats"].as_f64().unwrap())
    };
    let (raw, averaged, untrained) = (elbo("run --weights raw"), elbo("run"), elbo("untrained"));
    assert_eq!((raw.0.as_str(), averaged.0.as_str()), ("raw", "averaged"));
    assert!(raw.1 > untrained.1 + 100.0, "{} {}", raw.1, untrained.1);
    // The averages of the last steps are near the weights.
    assert!(averaged.1 > raw.1 - 0.2 * (raw.1 - untrained.1), "{} {} {}", averaged.1, raw.1, untrained.1);
    for (command, weights) in
        [("sample run -n 4", "averaged weights"), ("sample run -n 4 --weights raw", "raw weights")]
    {
        assert!(place.ok(command).contains(weights), "{command}");
    }
}

#[test]
fn the_decay_follows_the_step_also_after_a_resume() {
    let place = Place::new();
    let train =
        |steps: u32, out: &str| format!("{} --set ema=0.9 --set checkpoint_every=1", tiny("vae-mlp-mnist", steps, out));
    place.ok(&train(6, "run"));
    // With t steps done, the decay is min(0.9, (1 + t) / (10 + t)).
    assert_moved(&load(&place, 4), &load(&place, 5), 9.0 / 14.0);
    place.ok("train --resume run --no-eval --steps 7");
    assert_moved(&load(&place, 6), &load(&place, 7), 9.0 / 16.0);
    place.ok(&train(7, "whole"));
    let last = "checkpoints/step-000007.safetensors";
    assert!(place.bytes(&format!("run/{last}")) == place.bytes(&format!("whole/{last}")));
}

#[test]
fn a_run_of_version_1_goes_on_with_its_constant_decay() {
    let place = Place::new();
    place.ok(&format!("{} --set ema=0.9", tiny("vae-mlp-mnist", 3, "run")));
    let mut old = load(&place, 3);
    assert_eq!(old.averaging, Averaging::WarmedUp);
    old.averaging = Averaging::Constant;
    old.save(&place.path("run/checkpoints/step-000003.safetensors")).unwrap();
    place.ok("train --resume run --no-eval --steps 4");
    assert_moved(&old, &load(&place, 4), 0.1);
    assert_eq!(load(&place, 4).averaging, Averaging::Constant);
    place.ok("train --resume run --no-eval --steps 5");
    assert_moved(&load(&place, 4), &load(&place, 5), 0.1);
}
