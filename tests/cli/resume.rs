//! Runs that are killed and resumed. They end with the bits of an undisturbed run.

use super::{Place, tiny, words};
use pixtape::rng::{Stream, words as random};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: u32 = 400;
const EVERY: u32 = 10;

pub fn spawn(place: &Place, arguments: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pixtape"))
        .args(words(arguments))
        .current_dir(place.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The newest step that a run has saved.
pub fn saved(run: &Path) -> u32 {
    let names = run.join("checkpoints").read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
    let step =
        |name: std::ffi::OsString| name.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    names.filter_map(step).max().unwrap_or(0)
}

/// Kills a run ten times, each time after a random number of further checkpoints (possibly none) and a
/// random delay, then resumes it until it is done.
fn killed_and_resumed(place: &Place, train: &str, seed: u32) {
    let run = place.path("killed");
    for kill in 0..10 {
        let [far, wait] = random(seed, Stream::Test, [0, kill]);
        let resume = "train --resume killed --no-eval";
        let mut child = spawn(place, if run.join("config.toml").is_file() { resume } else { train });
        let target = saved(&run) + EVERY * (far % 4);
        let (start, patience) = (Instant::now(), Duration::from_secs(120));
        while saved(&run) < target && child.try_wait().unwrap().is_none() && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(u64::from(wait % 40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let reached = saved(&run);
    assert!(reached > 0 && reached < STEPS, "ten kills have to hit the run on its way, not at step {reached}");
    place.ok("train --resume killed --no-eval");
    assert_eq!(saved(&run), STEPS);
}

fn survives_kills(preset: &str, batch: u32, more: &str, seed: u32) {
    let place = Place::new();
    let tiny = |out: &str| tiny(preset, STEPS, out).replace("--batch 8", &format!("--batch {batch}"));
    let train = |out: &str| format!("{} --set checkpoint_every={EVERY} {more}", tiny(out));
    place.ok(&train("whole"));
    killed_and_resumed(&place, &train("killed"), seed);
    let last = format!("checkpoints/step-{STEPS:06}.safetensors");
    assert!(place.bytes(&format!("whole/{last}")) == place.bytes(&format!("killed/{last}")), "{preset} ends elsewhere");
    // The logged steps are in order and no step is logged twice, wherever the run was killed.
    let metrics = String::from_utf8(place.bytes("killed/metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
    assert_eq!(steps.last(), Some(&u64::from(STEPS)));
}

#[test]
fn a_gan_killed_ten_times_ends_with_the_bits_of_an_undisturbed_run() {
    survives_kills("gan-mnist", 8, "", 1);
}

#[test]
fn a_vae_killed_ten_times_ends_with_the_bits_of_an_undisturbed_run() {
    // With batches of 1000 an epoch has ten steps, so the order and the binarisation change every few steps.
    survives_kills("vae-mlp-mnist", 1000, "--set binarize=dynamic --set schedule.kind=cosine", 2);
}

#[test]
fn a_run_that_is_done_stays_as_it_is() {
    let place = Place::new();
    place.ok(&tiny("vae-mlp-mnist", 3, "run"));
    let checkpoint = place.bytes("run/checkpoints/step-000003.safetensors");
    for steps in ["", "--steps 2"] {
        let told = place.ok(&format!("train --resume run --no-eval {steps}"));
        assert!(told.contains("nothing to do, the run already has 3 steps"), "{told}");
        assert_eq!(place.bytes("run/checkpoints/step-000003.safetensors"), checkpoint);
        assert_eq!(saved(&place.path("run")), 3);
    }
    let config = String::from_utf8(place.bytes("run/config.toml")).unwrap();
    assert!(config.contains("steps = 3"), "{config}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let place = Place::new();
    place.ok(&format!("{} --set checkpoint_every=2", tiny("vae-mlp-mnist", 4, "run")));
    let last = place.bytes("run/checkpoints/step-000004.safetensors");
    place.write("run/checkpoints/step-000004.safetensors", &last[..last.len() / 2]);
    let output = place.run("train --resume run --no-eval");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: the checkpoint of step 4 is passed over"), "{said}");
    assert!(place.bytes("run/checkpoints/step-000004.safetensors") == last, "step 3 and 4 were not done again");
}
