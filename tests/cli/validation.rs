//! The key `validate_every`: held-out likelihoods while a model trains, and the best checkpoint, which
//! stands for the run. Recipes, which have the key.

use super::{Place, tiny};
use pixtape::store::{Checkpoint, Row, RunDir};

fn rows(place: &Place, run: &str) -> Vec<Row> {
    RunDir::open(&place.path(run)).unwrap().metrics().unwrap()
}

/// The steps that were validated, with their values.
fn validated(place: &Place, run: &str, name: &str) -> Vec<(u64, f64)> {
    rows(place, run).iter().filter_map(|row| Some((row.step, row.loss(name)?))).collect()
}

fn load(place: &Place, run: &str, step: u64) -> Checkpoint {
    Checkpoint::load(&RunDir::open(&place.path(run)).unwrap().checkpoint_path(step)).unwrap()
}

#[test]
fn the_best_checkpoint_is_kept_and_stands_for_the_run() {
    let place = Place::new();
    // The rate is too high, so that the bound gets worse again.
    let more = "--set validate_every=4 --set log_every=100 --set keep_checkpoints=1 --set optimizer.lr=1";
    let said = place.ok(&format!("{} {more}", tiny("vae-mlp-mnist", 30, "run")));
    let values = validated(&place, "run", "valid_elbo");
    assert_eq!(values.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 8, 12, 16, 20, 24, 28, 30]);
    let (best, value) = values.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(best < 30, "the last step is the best, so this test shows nothing");
    let kept = super::runs::steps(&place, "run");
    assert_eq!(kept, [best, 30]);
    assert!(
        said.contains(&format!("best: run/checkpoints/step-{best:06}.safetensors (valid_elbo {value:.3})")),
        "{said}"
    );
    let report = String::from_utf8(place.bytes("run/report.html")).unwrap();
    assert!(report.contains(&format!("step {best}, valid_elbo {value:.3} nats per image")));
    // What was measured in training is what `eval` measures of this checkpoint.
    let measured = place.json("eval run --data glyphs --split valid --iwae 1");
    assert_eq!(measured["step"], best);
    assert!((measured["elbo_nats"].as_f64().unwrap() - value).abs() < 1e-9, "{measured} {value}");
    assert_eq!(place.json("sample run -n 4")["step"], best);
    assert_eq!(place.json("sample run/checkpoints/step-000030.safetensors -n 4")["step"], 30);
    // A damaged best checkpoint is passed over with a word.
    place.write(&format!("run/checkpoints/step-{best:06}.safetensors"), b"damaged");
    let output = place.run("sample run -n 4 --json");
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains(&format!("the checkpoint of step {best} is passed over")), "{warning}");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["step"], 30);
}

#[test]
fn validation_changes_no_bit_of_the_training_and_survives_a_resume() {
    let place = Place::new();
    for (preset, name, more) in [
        ("pixelcnn-mnist", "valid_nll", "--set ema=0.5"),
        ("vae-mnist", "valid_iwae", "--set importance_samples=2"),
        ("lstm-oscillator", "valid_nll", ""),
    ] {
        let train = |steps: u32, kind: &str, every: u32| {
            let often = format!("--set validate_every={every} --set checkpoint_every=3 {more}");
            place.ok(&format!("{} {often}", tiny(preset, steps, &format!("{preset}-{kind}"))));
        };
        train(6, "with", 2);
        train(6, "without", 0);
        train(3, "resumed", 2);
        place.ok(&format!("train --resume {preset}-resumed --no-eval --steps 6"));
        let runs = ["with", "without", "resumed"].map(|kind| load(&place, &format!("{preset}-{kind}"), 6).tensors);
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{preset}");
        let of = |kind: &str| validated(&place, &format!("{preset}-{kind}"), name);
        let (with, resumed) = (of("with"), of("resumed"));
        assert_eq!((with.len(), of("without").len()), (3, 0), "{preset}");
        // The shorter run also validated its last step.
        assert_eq!(resumed.iter().filter(|(step, _)| *step != 3).copied().collect::<Vec<_>>(), with, "{preset}");
    }
}

#[test]
fn validation_images_are_needed_and_networks_without_a_likelihood_have_no_such_key() {
    let place = Place::new();
    let every = "--set validate_every=1";
    place.refused(2, &format!("{} {every}", tiny("gan-mnist", 1, "gan")), &["validate_every"]);
    for index in 0..3 {
        let image = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([((x * y + index) % 256) as u8]));
        std::fs::create_dir_all(place.path("few/train")).unwrap();
        image.save(place.path(&format!("few/train/{index}.png"))).unwrap();
    }
    let train = tiny("vae-mlp-mnist", 1, "few-run").replace("--data glyphs --batch 8", "--data few/ --batch 1");
    place.refused(1, &format!("{train} {every}"), &["no validation images", "validate_every to 0"]);
    assert!(!place.path("few-run").exists());
}

#[test]
fn a_recipe_trains_by_its_name_and_by_its_path() {
    let place = Place::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    for recipe in folder.read_dir().unwrap() {
        let recipe = recipe.unwrap().path();
        place.ok(&format!("plan {}", recipe.file_stem().unwrap().display()));
    }
    place.write("mine.toml", &std::fs::read(folder.join("vae-mnist-paper.toml")).unwrap());
    let more = "--data glyphs --set binarize=threshold --steps 1 --set model.channels=2 --no-eval --device cpu";
    place.ok(&format!("train vae-mnist-paper {more}"));
    place.ok(&format!("train mine.toml {more} --out by-path"));
    let (by_name, by_path) = (load(&place, "runs/vae-mnist-paper", 1), load(&place, "by-path", 1));
    assert!(by_name.tensors == by_path.tensors && by_name.config == by_path.config);
    assert!(by_name.config.contains("validate_every = 780"));
    place.refused(2, "train vae-mnist-papr", &["did you mean vae-mnist-paper"]);
}
