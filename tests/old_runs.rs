//! Run folders that an earlier version wrote (`tests/old_runs/`): they can be opened and continued. Training
//! on undivided plans gives the same bits as the earlier version, which did not divide plans. Divided plans
//! add up gradients in another order, so a run that is continued agrees within rounding.
//!
//! `pixtape train PRESET --data glyphs --device cpu --threads 2 --steps 40 --seed 1` wrote the four runs on
//! a processor with AVX2, with the sizes in their `config.toml`. This file's own loop wrote
//! `portable.safetensors` at the same commit (989f86c). They are never regenerated, because later versions
//! are compared with them. There is no run with AVX-512; on a processor with AVX-512 the AVX2 and portable
//! paths are compared.

use assert_cmd::Command;
use pixtape::backend::cpu::product::Isa;
use pixtape::backend::cpu::{Cpu, Options};
use pixtape::check::compare::relative_error;
use pixtape::config::Config;
use pixtape::data::{self, Batches, Loader, Order, Split};
use pixtape::models::Model;
use pixtape::store::Checkpoint;
use pixtape::tape::divide::Policy;
use pixtape::train::trainer::Trainer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const RUNS: [&str; 4] = ["vae-mnist", "pixelcnn-mnist", "gan-mnist", "diagonal-bilstm-mnist"];
const LAST: &str = "checkpoints/step-000040.safetensors";

fn folder(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_runs").join(run)
}

/// The checkpoint that the earlier version wrote on this instruction set, if it wrote one.
fn fixture(run: &str, isa: Isa) -> Option<PathBuf> {
    match isa {
        Isa::Avx512 => None,
        Isa::Avx2 => Some(folder(run).join(LAST)),
        Isa::Portable => Some(folder(run).join("portable.safetensors")),
    }
}

/// Trains the run of `config.toml` to its last step.
fn train(run: &str, isa: Isa) -> Checkpoint {
    let path = folder(run).join("config.toml");
    let config = Config::from_toml(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let steps = u64::from(config.steps.unwrap());
    let model = Model::new(&config).unwrap();
    let images = Arc::new(data::open("glyphs", Split::Train, None).unwrap());
    let batches = Batches::new(images, model.batch_options(Order::Shuffled)).unwrap();
    let mut batches = Loader::new(batches).unwrap();
    let policy = Policy { most_groups: 0, ..Policy::default() };
    let device = Cpu::new(Options { threads: 2, isa: Some(isa), policy, ..Options::default() }).unwrap();
    let mut trainer = Trainer::new(model, Box::new(device), steps).unwrap();
    for _ in 0..steps {
        trainer.step(&mut batches).unwrap();
    }
    let mut checkpoint = trainer.checkpoint().unwrap();
    checkpoint.data_cursor = serde_json::to_string(&batches.cursor()).unwrap();
    checkpoint
}

/// Panics unless everything that training computes has the same bits. `config` may have new keys.
#[track_caller]
fn assert_same_bits(what: &str, now: &Checkpoint, then: &Checkpoint) {
    assert_eq!((now.step, &now.rng, &now.data_cursor), (then.step, &then.rng, &then.data_cursor), "{what}");
    assert!(now.tensors.keys().eq(then.tensors.keys()), "{what}: other tensors");
    for (name, tensor) in &now.tensors {
        let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(tensor.shape, then.tensors[name].shape, "{what}: {name}");
        assert!(bits(&tensor.data) == bits(&then.tensors[name].data), "{what}: {name} has other bits");
    }
}

/// Panics unless the tensors agree within the rounding errors of some training steps. A wrong batch, counter
/// or state of the optimiser changes them by a hundred times more.
#[track_caller]
fn assert_close(what: &str, now: &Checkpoint, then: &Checkpoint) {
    assert_eq!((now.step, &now.rng, &now.data_cursor), (then.step, &then.rng, &then.data_cursor), "{what}");
    for (name, tensor) in now.tensors.iter().filter(|(name, _)| name.starts_with("params/")) {
        let wide = |data: &[f32]| data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let error = relative_error(&wide(&tensor.data), &wide(&then.tensors[name].data));
        println!("{what}: {name} {error:.1e}");
        assert!(error < 1e-3, "{what}: {name} is off by {error:.1e}");
    }
}

#[test]
fn forty_steps_give_the_bits_that_an_earlier_version_gave() {
    for run in RUNS {
        for isa in Isa::available() {
            let Some(path) = fixture(run, isa) else {
                println!("SKIP {run} on {isa}: the earlier version did not run on it");
                continue;
            };
            let then = Checkpoint::load(&path).unwrap();
            assert_same_bits(&format!("{run} on {isa}"), &train(run, isa), &then);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { _ = std::fs::copy(entry.path(), to).unwrap() }
    }
}

/// Runs `pixtape` in `place` and returns its stdout. Panics if the command fails.
#[track_caller]
fn pixtape(place: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtape"));
    let output = command.args(arguments.split_whitespace()).current_dir(place).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn old_folders_are_measured_sampled_and_resumed() {
    let place = tempfile::tempdir().unwrap();
    for run in RUNS {
        copy(&folder(run), &place.path().join(run));
        pixtape(place.path(), &format!("sample {run} -n 4 --seed 1 --device cpu --out {run}.png"));
        assert!(image::open(place.path().join(format!("{run}.png"))).is_ok());
        if let Ok(kept) = std::fs::read_to_string(folder(run).join("likelihood.json")) {
            let then = serde_json::from_str::<serde_json::Value>(&kept).unwrap()["rows"][0]["nats"].as_f64().unwrap();
            std::fs::remove_file(place.path().join(run).join("likelihood.json")).unwrap();
            pixtape(place.path(), &format!("eval {run} --data glyphs --split test --device cpu"));
            let now = std::fs::read_to_string(place.path().join(run).join("likelihood.json")).unwrap();
            let now = serde_json::from_str::<serde_json::Value>(&now).unwrap()["rows"][0]["nats"].as_f64().unwrap();
            // Different instruction sets give results that differ in the last bits.
            assert!((now - then).abs() < 1e-4 * then.abs(), "{run}: {now} nats, {then} then");
        }
        // If this processor uses the instruction set of the fixture, a run of 45 steps that resumes the old
        // checkpoint agrees with a run from the start.
        pixtape(place.path(), &format!("train --resume {run} --steps 45 --no-eval --device cpu"));
        let resumed = Checkpoint::load(&place.path().join(run).join("checkpoints/step-000045.safetensors")).unwrap();
        assert_eq!(resumed.step, 45);
        if Isa::detect() == Isa::Avx2 {
            let config = folder(run).join("config.toml");
            pixtape(
                place.path(),
                &format!(
                    "train {} --steps 45 --no-eval --out {run}-whole --device cpu --data glyphs",
                    config.display()
                ),
            );
            let whole = place.path().join(format!("{run}-whole/checkpoints/step-000045.safetensors"));
            assert_close(run, &resumed, &Checkpoint::load(&whole).unwrap());
        }
    }
}
