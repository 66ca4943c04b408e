//! A small network learns to classify the ten built-in digits: 784 pixels, 64 hidden units, 10 classes.
//!
//! A training step is one plan: forward pass, loss, backward pass and Adam. It is compiled once and replayed
//! for each batch. A second plan computes the scores of the classes for the images of the test split.
//!
//!     cargo run --release --no-default-features --example train_small

use pixtape::backend::{self, Scalars};
use pixtape::config::Optimizer;
use pixtape::data::{self, BatchOptions, Batches, Split};
use pixtape::nn::{Env, Linear, Mode, ParamSet};
use pixtape::optim::{LEARNING_RATE, Learner, STEP};
use pixtape::parameters;
use pixtape::shape::Meta;
use pixtape::tape::{InputRole, Tape, plan::Plan};
use std::sync::Arc;

const BATCH: usize = 100;
const CLASSES: usize = 10;
const STEPS: usize = 300;

fn main() -> pixtape::Result<()> {
    let mut set = ParamSet::new();
    let hidden = Linear::new(&mut set, "hidden", 28 * 28, 64);
    let scores = Linear::new(&mut set, "scores", 64, CLASSES);
    let weights = set.weights().cloned().collect();
    let learner = Learner::new(&mut set, weights, Optimizer::default(), STEP);

    // Records the scores and the loss for both plans, and the step of Adam for the training plan.
    let record = |name: &str, mode: Mode| {
        let t = Tape::new();
        let env = Env::new(&t, mode);
        let (x, label) = (
            t.input_of(InputRole::Images, Meta::f32([BATCH, 28, 28, 1])),
            t.input_of(InputRole::Labels, Meta::u32([BATCH])),
        );
        let y = scores.forward(&env, t.relu(hidden.forward(&env, t.reshape(x, [BATCH, 28 * 28]))));
        let loss = t.mean(t.softmax_cross_entropy(y, label));
        t.output("scores", y);
        t.output("loss", loss);
        if mode == Mode::Train {
            learner.minimize(&env, loss);
            env.commit();
        }
        Plan::new(name, &t)
    };
    let (train, test) = (record("train", Mode::Train), record("test", Mode::Infer));
    let mut device = backend::open("cpu", 0)?;
    parameters::initialize(&mut *device, &set, 1)?;

    let images = |split| Ok::<_, pixtape::Error>(Arc::new(data::open("glyphs", split, None)?));
    let mut batches = Batches::new(images(Split::Train)?, BatchOptions::new(BATCH, 1))?;
    let compiled = device.compile(&train)?;
    for step in 1..=STEPS {
        let mut scalars = Scalars::default();
        scalars.set(LEARNING_RATE, 1e-3).set(STEP, step as f32);
        device.run(compiled, &batches.next_batch().feeds(&train), &scalars)?;
        if step % 50 == 0 {
            let mut loss = [0.0];
            backend::read(&mut *device, compiled, train.output("loss"), &mut loss)?;
            println!("step {step}: {:.4} nats", loss[0]);
        }
    }

    let mut batches = Batches::new(images(Split::Test)?, BatchOptions::new(BATCH, 1))?;
    let compiled = device.compile(&test)?;
    let (mut right, mut rows) = (0, vec![0.0; BATCH * CLASSES]);
    let count = batches.per_epoch();
    for _ in 0..count {
        let batch = batches.next_batch();
        device.run(compiled, &batch.feeds(&test), &Scalars::default())?;
        backend::read(&mut *device, compiled, test.output("scores"), &mut rows)?;
        let best = |row: &[f32]| (0..CLASSES).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        right +=
            rows.chunks(CLASSES).zip(&batch.labels).filter(|(row, label)| best(row) == Some(**label as usize)).count();
    }
    let accuracy = right as f64 / (count * BATCH) as f64;
    println!("accuracy on the test split: {:.1} %", 100.0 * accuracy);
    assert!(accuracy > 0.9, "the network has learned too little");
    Ok(())
}
