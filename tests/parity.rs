//! Compares training with PyTorch step by step. `tests/reference/parity.py` trained the same models from the
//! same weights, on the same batch and with the same noise. Its losses are in `tests/reference/parity.json`.

use pixtape::backend;
use pixtape::config::preset;
use pixtape::data::Batch;
use pixtape::models::{Family, Model};
use pixtape::rng::{self, Stream};
use pixtape::train::trainer::Trainer;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

const SEED: u32 = 1;

/// Presets, the settings that make them small enough for a loop in Python, and the number of steps.
const RUNS: [(&str, &str, usize); 7] = [
    ("pixelcnn-mnist", "", 20),
    ("pixelcnn-cifar", "batch=4 schedule.kind=constant model.hidden=12 model.blocks=2 model.head=24", 10),
    (
        "gated-pixelcnn-mnist",
        "batch=8 model.hidden=12 model.layers=3 model.head=16 model.kernel=5 model.classes=10",
        10,
    ),
    ("row-lstm-mnist", "batch=8 model.hidden=6 model.layers=2 model.head=16", 10),
    ("diagonal-bilstm-mnist", "batch=8 model.hidden=6 model.layers=2 model.head=16", 4),
    ("vae-mlp-mnist", "", 20),
    ("dcgan-cifar", "", 4),
];

/// Loss terms by name, with one value per step.
type Losses = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Golden {
    /// Largest relative difference of a loss.
    allowed: f64,
    losses: Losses,
}

fn goldens() -> BTreeMap<String, Golden> {
    serde_json::from_str(include_str!("reference/parity.json")).unwrap()
}

/// Whether each pixel of `n` images is inside the disc of its image, whose position and size are random.
fn discs(n: usize, side: usize) -> Vec<bool> {
    let mut inside = vec![];
    for image in 0..n as u32 {
        let word = |i: u32| rng::words(SEED, Stream::Test, [1, 3 * image + i])[0] as i64;
        let side = side as i64;
        let (top, left, radius) = (side / 4 + word(0) % (side / 2), side / 4 + word(1) % (side / 2), 3 + word(2) % 6);
        let pixels = (0..side).flat_map(|r| (0..side).map(move |c| (r, c)));
        inside.extend(pixels.map(|(r, c)| (r - top).pow(2) + (c - left).pow(2) <= radius.pow(2)));
    }
    inside
}

fn uniform(i: usize) -> f32 {
    rng::uniform(SEED, Stream::Test, [2, i as u32])
}

/// A batch of discs. In grey images 5 % of the pixels are flipped. Colour images have noise and a different
/// tint in each channel: levels for an autoregressive model, otherwise values from -1 to 1.
fn batch(model: &Model) -> Vec<f32> {
    let n = model.config.batch;
    if model.image.channels == 1 {
        return discs(n, 28).iter().enumerate().map(|(i, inside)| f32::from(inside ^ (uniform(i) < 0.05))).collect();
    }
    if let Family::Autoregressive(_) = model.family {
        let level = |(i, inside): (usize, &bool)| {
            let noise = |c: usize| rng::words(SEED, Stream::Test, [2, (3 * i + c) as u32])[0] % 32;
            let ground = if *inside { 160 } else { 40 };
            (0..3).map(|c| (ground + 30 * c as u32 + noise(c)) as f32 / 255.0).collect::<Vec<_>>()
        };
        return discs(n, 32).iter().enumerate().flat_map(level).collect();
    }
    let value = |(i, inside): (usize, &bool)| {
        [0.5f32, 0.0, -0.5].map(|tint| if *inside { tint } else { -tint }).into_iter().enumerate().map(move |(c, v)| {
            let noise = uniform(3 * i + c) - 0.5;
            v + 0.4 * noise
        })
    };
    discs(n, 32).iter().enumerate().flat_map(value).collect()
}

fn model(name: &str, settings: &str) -> Model {
    let mut config = preset(name).unwrap();
    config.seed = SEED;
    // The script gives the KL term its full weight from the first step.
    config.kl_warmup = config.kl_warmup.map(|_| 0);
    settings.split_whitespace().for_each(|setting| config.set(setting).unwrap());
    Model::new(&config).unwrap()
}

fn train(name: &str, settings: &str, steps: usize) -> Losses {
    let model = model(name, settings);
    let labels = (0..model.config.batch as u32).map(|i| i % model.classes().max(1) as u32).collect();
    let mut batch = Batch { pixels: batch(&model), labels, ..Batch::default() };
    let mut trainer = Trainer::new(model, backend::open("cpu", 0).unwrap(), steps as u64).unwrap();
    let mut losses = Losses::new();
    for _ in 0..steps {
        trainer.step(&mut batch).unwrap();
        for (name, value) in trainer.losses().unwrap() {
            losses.entry(name).or_default().push(value);
        }
    }
    losses
}

fn replay(name: &str) {
    let golden = &goldens()[name];
    let (_, settings, steps) = RUNS.iter().find(|(run, ..)| *run == name).unwrap();
    let ours = train(name, settings, *steps);
    for (loss, theirs) in &golden.losses {
        assert_eq!(theirs.len(), *steps, "{name}: {loss}");
        for (step, (ours, theirs)) in ours[loss].iter().zip(theirs).enumerate() {
            let error = (ours - theirs).abs() / theirs.abs();
            assert!(error <= golden.allowed, "{name}, step {step}: {loss} is {ours}, PyTorch's {theirs}");
        }
    }
}

#[test]
fn pixelcnns_learn_like_pytorch() {
    replay("pixelcnn-mnist");
    replay("pixelcnn-cifar");
}

#[test]
fn a_gated_pixelcnn_with_classes_learns_like_pytorch() {
    replay("gated-pixelcnn-mnist");
}

#[test]
fn pixelrnns_learn_like_pytorch() {
    replay("row-lstm-mnist");
    replay("diagonal-bilstm-mnist");
}

#[test]
fn vae_learns_like_pytorch() {
    replay("vae-mlp-mnist");
}

#[test]
fn both_players_of_a_gan_learn_like_pytorch() {
    replay("dcgan-cifar");
}

#[test]
fn every_run_has_its_golden_losses() {
    assert!(goldens().keys().map(String::as_str).eq({
        let mut names = RUNS.map(|(name, ..)| name);
        names.sort_unstable();
        names
    }));
}

/// Writes the files that `parity.py` reads to the folder `PIXTAPE_PARITY`: initial weights in PyTorch's
/// layout, and our losses.
#[test]
#[ignore = "writes the files of tests/reference/parity.py, which runs it"]
fn export_for_the_script() {
    let dir = PathBuf::from(std::env::var_os("PIXTAPE_PARITY").expect("PIXTAPE_PARITY names a folder"));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, settings, steps) in RUNS {
        let model = model(name, settings);
        let mut tensors = BTreeMap::new();
        for spec in model.set.specs() {
            if let Some(path) = spec.param.path.strip_prefix("params/") {
                let (shape, values) = spec.to_torch(&spec.initial(SEED));
                tensors.insert(path.to_string(), (shape, bytemuck::cast_slice::<f32, u8>(&values).to_vec()));
            }
        }
        let views = tensors
            .iter()
            .map(|(name, (shape, bytes))| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &dir.join(format!("{name}.safetensors"))).unwrap();
        let losses = serde_json::to_string(&train(name, settings, steps)).unwrap();
        std::fs::write(dir.join(format!("{name}.json")), losses).unwrap();
    }
}
