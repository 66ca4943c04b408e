//! A run that is resumed at any step, with any number of threads, has the bits of a run in one go.

use super::Place;
use std::fs;

const STEPS: u32 = 8;
const THREADS: [u32; 4] = [1, 2, 3, 16];

/// Resumes a run at each of its steps, each time with another number of threads.
fn resumes_anywhere(model: &str, data: &str) {
    let place = Place::new();
    let train = format!(
        "train {model} --data {data} --batch 16 --steps {STEPS} --seed 3 --device cpu --threads 1 --no-eval --set sample_every=0 \
         --set checkpoint_every=1 --set keep_checkpoints=0 --out whole"
    );
    place.ok(&train);
    for (step, threads) in (1..STEPS).zip(THREADS.into_iter().cycle()) {
        place.remove("run");
        fs::create_dir_all(place.path("run/checkpoints")).unwrap();
        let name = format!("checkpoints/step-{step:06}.safetensors");
        for file in ["config.toml", "metrics.jsonl", &name] {
            fs::copy(place.path("whole").join(file), place.path("run").join(file)).unwrap();
        }
        place.ok(&format!("train --resume run --data {data} --threads {threads} --no-eval"));
        for later in step + 1..=STEPS {
            let same = place.last("run", later) == place.last("whole", later);
            assert!(same, "{model}: resumed at step {step} with {threads} threads, step {later} differs");
        }
    }
}

#[test]
fn a_vae_with_dynamic_binarisation_and_a_schedule() {
    // An epoch has four batches, so the order and the binarisation change within the run.
    resumes_anywhere(&super::MODEL.replace("--batch 8 --seed 3 --device cpu", ""), "own");
}

#[test]
fn a_gan_with_several_plans_per_step() {
    let sizes = "--set model.channels=2 --set model.latent=4 --set critic_steps=2 --set ema=0.5";
    resumes_anywhere(&format!("gan-mnist {sizes}"), "own");
}

#[test]
fn an_lstm_of_a_time_series() {
    resumes_anywhere("lstm-pendulum --set model.hidden=4", "pendulum");
}

#[test]
fn a_pixelcnn() {
    resumes_anywhere("pixelcnn-mnist --set model.hidden=2 --set model.blocks=1 --set model.head=4", "own");
}
