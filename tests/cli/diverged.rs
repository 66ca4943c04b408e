//! Training that diverges, and files whose values are not finite.

use super::runs::steps;
use super::{Place, tiny};
use pixtape::store::Checkpoint;

/// Sets a value of a checkpoint of the run `run` to NaN.
fn ruin(place: &Place, step: u64) {
    let path = place.path(&format!("run/checkpoints/step-{step:06}.safetensors"));
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    checkpoint.tensors.get_mut("params/fc1.weight").unwrap().data[7] = f32::NAN;
    checkpoint.save(&path).unwrap();
}

#[test]
fn values_that_are_not_finite_are_never_saved() {
    let place = Place::new();
    // The loss of the first step is finite, but the weights after it are not.
    let once = format!("{} --set optimizer.lr=1e38", tiny("vae-mlp-mnist", 1, "once"));
    let sentence = place.refused(1, &once, &["diverged at step 1", "no checkpoint is saved", "lower optimizer.lr"]);
    assert!(!sentence.contains("resume"), "{sentence}");
    assert_eq!(steps(&place, "once"), [0; 0]);
    // Checkpoints are more frequent than rows of metrics. The weights overflow after some steps.
    let often = "--set checkpoint_every=1 --set log_every=1000 --set optimizer.lr=1e30 --set keep_checkpoints=0";
    let diverged = format!("{} {often}", tiny("vae-mlp-mnist", 50, "run"));
    let saved = place.refused(1, &diverged, &["diverged at step", "--set clip_norm=1", "--out"]);
    let last = *steps(&place, "run").last().expect("the first step is finite");
    assert!(saved.contains(&format!("the last checkpoint is that of step {last}")), "{saved}");
    assert!(saved.len() < 330, "{saved}");
    for step in steps(&place, "run") {
        let path = place.path(&format!("run/checkpoints/step-{step:06}.safetensors"));
        assert_eq!(Checkpoint::load(&path).unwrap().first_non_finite(), None, "step {step}");
    }
    // The advice can be followed.
    place.ok("train run/config.toml --set optimizer.lr=0.001 --set clip_norm=1 --out again --no-eval");
}

#[test]
fn the_last_sound_checkpoint_is_taken_in_the_place_of_a_ruined_one() {
    let place = Place::new();
    place.ok(&format!("{} --set checkpoint_every=2", tiny("vae-mlp-mnist", 6, "run")));
    let last = place.bytes("run/checkpoints/step-000006.safetensors");
    ruin(&place, 6);
    for command in ["sample run -n 4", "train --resume run --no-eval"] {
        let output = place.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("the checkpoint of step 6 is passed over") && said.contains("not finite"), "{said}");
    }
    assert!(place.bytes("run/checkpoints/step-000006.safetensors") == last, "steps 5 and 6 were done again");
    [2, 4, 6].into_iter().for_each(|step| ruin(&place, step));
    for command in ["sample run", "train --resume run --no-eval --steps 9"] {
        let sentence = place.refused(1, command, &["step-000006.safetensors: ", "params/fc1.weight", "not finite"]);
        assert!(!sentence.contains("optimizer.lr"), "{sentence}");
    }
}

#[test]
fn weights_that_are_not_finite_are_blamed_on_their_file() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 1, "run"));
    place.ok("export run weights.safetensors");
    let mut bytes = place.bytes("weights.safetensors");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    place.write("weights.safetensors", &bytes);
    let start = format!("{} --init weights.safetensors", tiny("vae-mlp-mnist", 1, "new"));
    let sentence = place.refused(1, &start, &["weights.safetensors: its tensor ", "not finite"]);
    assert!(!sentence.contains("optimizer.lr") && !place.path("new").exists(), "{sentence}");
}
