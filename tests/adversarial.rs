//! Adversarial networks: images of every size, the spectral norm of a critic, steps of the critic, classes,
//! and the moving averages of a generator.

use pixtape::backend::{self, Backend, Scalars};
use pixtape::config::{Config, preset};
use pixtape::data::{self, Batch, Batches, Images, Levels, Order, Split};
use pixtape::models::{Family, Model};
use pixtape::optim::LEARNING_RATE;
use pixtape::parameters;
use pixtape::sampling::{DrawOptions, Redraw, Sampler, restore};
use pixtape::shape::ImageSize;
use pixtape::store::{Checkpoint, Tensor};
use pixtape::tape::InputRole;
use pixtape::tape::op::Scalar;
use pixtape::train::trainer::Trainer;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const OBJECTIVES: [&str; 6] = ["minimax", "non-saturating", "lsgan", "wgan", "wgan-gp", "hinge"];

type Tensors = BTreeMap<String, Tensor>;

fn config(settings: &[&str]) -> Config {
    let mut config = preset("gan-mnist").unwrap();
    settings.iter().for_each(|setting| config.set(setting).unwrap());
    config
}

/// A small network.
fn small(settings: &[&str]) -> Config {
    config(&[&["model.channels=4", "model.latent=8", "batch=8"], settings].concat())
}

fn of_size(height: usize, width: usize, colours: usize) -> Config {
    let keys = [("height", height), ("width", width), ("colours", colours)];
    let mut config = config(&["model.channels=2", "model.latent=3", "batch=2"]);
    keys.iter().for_each(|(key, value)| config.set(&format!("model.{key}={value}")).unwrap());
    config
}

fn cpu() -> Box<dyn Backend> {
    backend::open("cpu", 2).unwrap()
}

fn glyph_images() -> Arc<Images> {
    Arc::new(data::open("glyphs", Split::Train, None).unwrap())
}

/// The first batch of glyphs for a model of 28x28 images.
fn glyphs(model: &Model) -> Batch {
    Batches::new(glyph_images(), model.batch_options(Order::Shuffled)).unwrap().next_batch()
}

fn trainer(config: &Config) -> (Trainer, Batch) {
    let model = Model::new(config).unwrap();
    let batch = glyphs(&model);
    (Trainer::new(model, cpu(), 1000).unwrap(), batch)
}

fn snapshot(trainer: &mut Trainer) -> Tensors {
    parameters::snapshot(&mut *trainer.backend, &trainer.model.set).unwrap()
}

/// The shapes of the weights, without batch norm.
fn kernels(config: &Config) -> Vec<(String, Vec<usize>)> {
    let set = Model::new(config).unwrap().set;
    let of = |path: &str, dims: &[usize]| (path.trim_start_matches("params/").to_string(), dims.to_vec());
    let kernels = set.weights().filter(|param| param.shape.rank() == 4);
    kernels.map(|param| of(&param.path, param.shape.dims())).collect()
}

#[test]
fn digits_have_the_layers_that_they_always_had() {
    let expected = [
        ("g.t1.weight", [4, 4, 256, 100]),
        ("g.t2.weight", [4, 4, 128, 256]),
        ("g.t3.weight", [4, 4, 64, 128]),
        ("g.t4.weight", [4, 4, 1, 64]),
        ("d.c1.weight", [4, 4, 1, 64]),
        ("d.c2.weight", [4, 4, 64, 128]),
        ("d.c3.weight", [4, 4, 128, 256]),
        ("d.c4.weight", [4, 4, 256, 1]),
    ];
    let expected = expected.map(|(name, dims)| (name.to_string(), dims.to_vec()));
    assert_eq!(kernels(&config(&[])), expected);
    assert_eq!(kernels(&config(&["model.height=32", "model.width=32"])), expected);
    let set = Model::new(&config(&[])).unwrap().set;
    let norms = set.weights().filter(|param| param.path.contains(".n") && param.path.ends_with("weight"));
    let norms: Vec<_> = norms.map(|param| (&*param.path, param.shape.len())).collect();
    let expected = [("g.n1", 256), ("g.n2", 128), ("g.n3", 64), ("d.n2", 128), ("d.n3", 256)];
    assert_eq!(
        norms,
        expected
            .map(|(name, width)| (format!("params/{name}.weight"), width))
            .each_ref()
            .map(|(name, width)| (&**name, *width))
    );
}

#[test]
fn images_of_64_by_64_have_the_generator_of_the_paper() {
    let generator: Vec<_> = kernels(&config(&["model.height=64", "model.width=64", "model.channels=128"]))
        .into_iter()
        .filter_map(|(name, dims)| name.starts_with("g.").then_some(dims))
        .collect();
    // Radford et al. 2016, figure 1: 4x4x1024, 8x8x512, 16x16x256, 32x32x128, 64x64.
    assert_eq!(generator, [[4, 4, 1024, 100], [4, 4, 512, 1024], [4, 4, 256, 512], [4, 4, 128, 256], [4, 4, 1, 128]]);
}

#[test]
fn images_of_every_size_are_learnt_and_drawn() {
    for (height, width, colours) in
        [(8, 8, 1), (16, 9, 3), (28, 28, 1), (40, 28, 1), (64, 64, 3), (8, 128, 1), (100, 72, 1)]
    {
        let model = Model::new(&of_size(height, width, colours)).unwrap();
        assert_eq!(model.image, ImageSize { height, width, channels: colours });
        let bytes = (0..4 * model.image.dims()).map(|i| (i * 37 % 256) as u8).collect();
        let images = Arc::new(Images::new("test", model.image, bytes, None, Levels::Grey256).unwrap());
        let mut batch = Batches::new(images, model.batch_options(Order::Shuffled)).unwrap().next_batch();
        let mut trainer = Trainer::new(model, cpu(), 10).unwrap();
        trainer.step(&mut batch).unwrap();
        let losses = trainer.losses().unwrap();
        assert_eq!(losses.len(), 4, "{losses:?}");
        let Trainer { model, backend, .. } = &mut trainer;
        let sampler = Sampler::new(&mut **backend, model, 2).unwrap();
        let drawn = sampler.draw(&mut **backend, 3, DrawOptions::default()).unwrap();
        assert_eq!(drawn.len(), 3 * model.image.dims(), "{height}x{width}");
        assert!(drawn.iter().any(|byte| *byte != drawn[0]), "{height}x{width}");
    }
}

#[test]
fn sizes_beyond_the_limits_are_refused() {
    for (height, width) in [(7, 8), (8, 7), (129, 64), (64, 129), (1, 1)] {
        let error = Model::new(&of_size(height, width, 1)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains(&format!("8x8 to 128x128, not {height}x{width}")), "{message}");
    }
}

#[test]
fn every_objective_records_valid_plans_with_and_without_classes() {
    for objective in OBJECTIVES {
        for classes in ["model.classes=0", "model.classes=10"] {
            let objective = format!("objective={objective}");
            let model = Model::new(&small(&[&objective, classes, "critic_steps=3", "ema=0.9"])).unwrap();
            let plans = model.training();
            assert_eq!(plans.len(), 3);
            for plan in plans {
                plan.check().unwrap_or_else(|why| panic!("{objective}: {why}"));
                let copies = plan.steps().iter().filter(|step| step.label().starts_with("store")).count();
                assert_eq!(copies, 0, "{objective} copies {copies} parameters\n{plan}");
                let has_labels = plan.inputs().iter().any(|input| input.role == Some(InputRole::Labels));
                assert_eq!(has_labels, model.classes() > 0, "{objective}, {classes}");
            }
        }
    }
}

// ---- spectral norm ----

/// A weight as the matrix `[rest, out]` in f64, row by row.
struct Matrix {
    rest: usize,
    out: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn new(tensor: &Tensor) -> Matrix {
        let values = tensor.data.iter().map(|v| f64::from(*v)).collect();
        Matrix { rest: tensor.shape.rows(), out: tensor.shape.last(), values }
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.rest).map(|r| (0..self.out).map(|c| self.values[r * self.out + c] * x[c]).sum()).collect()
    }

    fn transposed_times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.out).map(|c| (0..self.rest).map(|r| self.values[r * self.out + c] * x[r]).sum()).collect()
    }

    /// One power iteration from the vector `u[out]`.
    fn iterate(&self, u: &[f64]) -> Vec<f64> {
        unit(self.transposed_times(&unit(self.times(u))))
    }

    /// The largest singular value, by many power iterations.
    fn norm(&self) -> f64 {
        let start: Vec<f64> = (0..self.out).map(|c| 1.0 + (c as f64 * 0.7).sin()).collect();
        let u = (0..1000).fold(start, |u, _| self.iterate(&u));
        length(&self.times(&u))
    }
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn unit(x: Vec<f64>) -> Vec<f64> {
    let length = length(&x);
    x.into_iter().map(|x| x / length).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    length(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

/// The names of the weights that have a spectral norm.
const SPECTRAL: [&str; 5] = ["d.c1", "d.c2", "d.c3", "d.c4", "d.class"];

fn matrix_of(tensors: &Tensors, name: &str) -> Matrix {
    Matrix::new(&tensors[&format!("params/{name}.weight")])
}

fn vector(tensors: &Tensors, name: &str) -> Vec<f64> {
    tensors[&format!("state/{name}")].data.iter().map(|v| f64::from(*v)).collect()
}

/// How far each estimate u^T W v of the largest singular value is from the true one.
fn errors(tensors: &Tensors) -> Vec<f64> {
    let error = |name: &str| {
        let (weight, u, v) =
            (matrix_of(tensors, name), vector(tensors, &format!("{name}.u")), vector(tensors, &format!("{name}.v")));
        let estimate: f64 = weight.times(&u).iter().zip(&v).map(|(a, b)| a * b).sum();
        let truth = weight.norm();
        (estimate - truth).abs() / truth
    };
    SPECTRAL.map(error).to_vec()
}

/// One iteration per step follows weights that move slowly. Where two singular values change places, it lags
/// behind.
#[test]
fn the_estimated_norms_follow_the_weights() {
    let config = small(&["objective=hinge", "model.classes=10", "optimizer.lr=5e-5", "seed=4"]);
    let (mut trainer, mut batch) = trainer(&config);
    let mut batches = Batches::new(glyph_images(), trainer.model.batch_options(Order::Shuffled)).unwrap();
    let first = snapshot(&mut trainer);
    for step in 1..=100 {
        trainer.step(&mut batches.next_batch()).unwrap();
        // The vectors start at random and need some steps.
        if step >= 60 && step % 5 == 0 {
            let errors = errors(&snapshot(&mut trainer));
            assert!(errors.iter().all(|error| *error < 0.02), "step {step}: {errors:?}");
        }
    }
    let last = snapshot(&mut trainer);
    let moved = |name: &str| {
        let (first, last) = (matrix_of(&first, name), matrix_of(&last, name));
        distance(&first.values, &last.values) / length(&first.values)
    };
    assert!(SPECTRAL.iter().all(|name| moved(name) > 0.01), "{:?}", SPECTRAL.map(moved));
    // Weights that stand still: the iterations converge.
    trainer.model.config.optimizer.lr = 1e-30;
    (0..100).for_each(|_| trainer.step(&mut batch).unwrap());
    let errors = errors(&snapshot(&mut trainer));
    assert!(errors.iter().all(|error| *error < 1e-3), "{errors:?}");
}

#[test]
fn the_vectors_advance_once_per_step_of_the_critic() {
    let (mut trainer, mut batch) =
        trainer(&small(&["objective=hinge", "model.classes=10", "critic_steps=2", "optimizer.lr=1e-30"]));
    let before = snapshot(&mut trainer);
    trainer.step(&mut batch).unwrap();
    let after = snapshot(&mut trainer);
    // The weights have not moved, so two steps of the critic are two iterations on the same matrix.
    for name in SPECTRAL {
        let (weight, got) = (matrix_of(&before, name), vector(&after, &format!("{name}.u")));
        let mut steps = vec![vector(&before, &format!("{name}.u"))];
        (0..3).for_each(|_| steps.push(weight.iterate(steps.last().unwrap())));
        assert!(distance(&got, &steps[2]) < 1e-4, "{name}: {got:?}, not {:?}", steps[2]);
        if weight.out > 1 {
            let others = [distance(&got, &steps[1]), distance(&got, &steps[3])];
            assert!(others.iter().all(|other| *other > 1e-3), "{name}: {others:?}");
        }
    }
}

// ---- steps of the critic ----

/// A step of the critic alone changes the critic and the running statistics of the generator. A step of both
/// changes everything that a step of the critic changes, and the weights of the generator.
#[test]
fn further_steps_of_the_critic_leave_the_generator_alone() {
    for objective in OBJECTIVES {
        let model = Model::new(&small(&[&format!("objective={objective}"), "critic_steps=2", "ema=0.9"])).unwrap();
        let (plans, batch) = (model.training(), glyphs(&model));
        let mut device = cpu();
        parameters::initialize(&mut *device, &model.set, 1).unwrap();
        let mut earlier = parameters::snapshot(&mut *device, &model.set).unwrap();
        for (index, plan) in plans.iter().enumerate() {
            let compiled = device.compile(plan).unwrap();
            let mut scalars = Scalars::default();
            scalars.set(LEARNING_RATE, 1e-3).set_u32(Scalar::REPLAY, index as u32);
            device.run(compiled, &batch.feeds(plan), &scalars).unwrap();
            let now = parameters::snapshot(&mut *device, &model.set).unwrap();
            // A bias of the last layer cancels out of a Wasserstein distance, and of a hinge in its margin.
            // A vector of one element, that of the norm of d.c4, is 1 once and for all.
            let names = || now.keys().filter(|name| !name.ends_with("/d.c4.bias") && *name != "state/d.c4.u");
            let same: Vec<&String> = names().filter(|name| now[*name].data == earlier[*name].data).collect();
            let of_generator = |name: &&String| name.contains("/g.") && !name.starts_with("state/");
            let expected: Vec<&String> = names().filter(|name| index == 0 && of_generator(name)).collect();
            assert_eq!(same, expected, "{objective}, plan {index}");
            earlier = now;
        }
    }
}

// ---- classes ----

/// Images of one level per class, with a little noise: class 0 is dark, class 1 is bright.
fn dark_and_bright(model: &Model) -> Arc<Images> {
    let (count, dims) = (64, model.image.dims());
    let level = |i: usize| if (i / dims).is_multiple_of(2) { 40 + i % 7 * 5 } else { 180 + i % 7 * 5 };
    let bytes = (0..count * dims).map(|i| level(i) as u8).collect();
    let labels = (0..count).map(|i| (i % 2) as u8).collect();
    Arc::new(Images::new("levels", model.image, bytes, Some(labels), Levels::Grey256).unwrap())
}

#[test]
fn a_generator_learns_what_the_classes_look_like() {
    for settings in [
        ["objective=non-saturating", "critic_steps=1"],
        ["objective=wgan-gp", "critic_steps=3"],
        ["objective=hinge", "critic_steps=1"],
    ] {
        let size = ["model.height=8", "model.width=8", "model.classes=2", "model.channels=8"];
        let model = Model::new(&small(&[&size[..], &["batch=16", "optimizer.lr=2e-3"], &settings].concat())).unwrap();
        let mut batches = Batches::new(dark_and_bright(&model), model.batch_options(Order::Shuffled)).unwrap();
        let mut trainer = Trainer::new(model, cpu(), 200).unwrap();
        for _ in 0..200 {
            trainer.step(&mut batches.next_batch()).unwrap();
        }
        let Trainer { model, backend, .. } = &mut trainer;
        let sampler = Sampler::new(&mut **backend, model, 16).unwrap();
        let mut draw = |classes: &[u32]| {
            sampler.draw(&mut **backend, 16, DrawOptions { classes, ..DrawOptions::default() }).unwrap()
        };
        let [dark, bright] = [0, 1].map(|class| draw(&[class; 16]));
        let mean = |bytes: &[u8]| bytes.iter().map(|b| f64::from(*b)).sum::<f64>() / bytes.len() as f64;
        let (dark_mean, bright_mean) = (mean(&dark), mean(&bright));
        assert!(dark_mean + 60.0 < bright_mean, "{settings:?}: {dark_mean} and {bright_mean}");
        // Without classes that are asked for, every class is drawn in turn, from the same z.
        let both = draw(&[]);
        for (i, image) in both.chunks(64).enumerate() {
            let of_class = if i % 2 == 0 { &dark } else { &bright };
            assert!(image == &of_class[64 * i..][..64], "{settings:?}: image {i}");
        }
    }
}

// ---- reduced images ----

/// Images of blocks of 4x4 pixels. The place and the image decide the level of a block.
fn blocks(model: &Model) -> Arc<Images> {
    let ImageSize { height, width, channels } = model.image;
    let level =
        |i: usize, r: usize, c: usize| if (i + r / 4 + c / 4).is_multiple_of(3) { 40 } else { 140 + 30 * (c / 4 % 4) };
    let pixel =
        |i: usize, r: usize, c: usize| (0..channels).map(move |k| (level(i, r, c) as u8).saturating_add(30 * k as u8));
    let image = |i: usize| (0..height).flat_map(move |r| (0..width).flat_map(move |c| pixel(i, r, c)));
    let bytes = (0..32).flat_map(image).collect();
    Arc::new(Images::new("blocks", model.image, bytes, None, Levels::Grey256).unwrap())
}

#[test]
fn a_generator_restores_what_a_reduced_image_lacks() {
    for (reduced, size) in [("grey", [12, 8, 3]), ("small", [11, 10, 1])] {
        let mut config = small(&[&format!("model.reduced={reduced}"), "optimizer.lr=2e-3", "objective=hinge"]);
        let keys = ["height", "width", "colours"];
        keys.iter().zip(size).for_each(|(key, value)| config.set(&format!("model.{key}={value}")).unwrap());
        let model = Model::new(&config).unwrap();
        let mut batches = Batches::new(blocks(&model), model.batch_options(Order::Shuffled)).unwrap();
        let mut trainer = Trainer::new(model, cpu(), 200).unwrap();
        let mut l1 = vec![];
        for _ in 0..200 {
            trainer.step(&mut batches.next_batch()).unwrap();
            let losses: BTreeMap<String, f64> = trainer.losses().unwrap().into_iter().collect();
            l1.push(losses["l1"]);
        }
        let (first, last) = (l1[0], l1[199]);
        assert!(last < 0.3 * first, "{reduced}: the difference falls only from {first} to {last}");
        let Trainer { model, backend, .. } = &mut trainer;
        let originals = blocks(model);
        let how = Redraw { draws: 2, seed: 1, temperature: 1.0 };
        let reduction = model.reduction().unwrap();
        let restored = restore(&mut **backend, model, originals.clone(), reduction, &how, &|_| {}).unwrap();
        assert_eq!(restored.originals, originals.pixels(), "{reduced}");
        assert_eq!(restored.given.len(), restored.given_channels * 32 * size[0] * size[1]);
        let mean =
            |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
        let (own, other) = (
            mean(&restored.draws[0], &restored.originals),
            mean(&restored.draws[0][..31 * model.image.dims()], &restored.originals[model.image.dims()..]),
        );
        assert!(own < 0.6 * other, "{reduced}: {own} levels from the original, {other} from another image");
        assert!(restored.draws[0] != restored.draws[1], "{reduced}: two draws have the same z");
    }
}

#[test]
fn every_objective_records_valid_plans_for_pairs_with_classes() {
    for objective in OBJECTIVES {
        let objective = format!("objective={objective}");
        for reduced in ["model.reduced=grey", "model.reduced=small"] {
            let model =
                Model::new(&small(&[&objective, reduced, "model.classes=3", "critic_steps=2", "ema=0.9"])).unwrap();
            for plan in model.training() {
                plan.check().unwrap_or_else(|why| panic!("{objective}: {why}"));
                let roles: Vec<_> = plan.inputs().iter().filter_map(|input| input.role).collect();
                assert_eq!(roles, [InputRole::Images, InputRole::Labels, InputRole::Reduced]);
            }
        }
    }
}

// ---- moving averages ----

#[test]
fn the_generator_is_averaged_with_its_statistics_and_the_critic_is_not() {
    let (mut trainer, mut batch) = trainer(&small(&["ema=0.5", "critic_steps=2"]));
    trainer.step(&mut batch).unwrap();
    let before = snapshot(&mut trainer);
    trainer.step(&mut batch).unwrap();
    let after = snapshot(&mut trainer);
    let averaged: Vec<&str> = before.keys().filter_map(|name| name.strip_prefix("ema/")).collect();
    let exchanged = before.keys().filter_map(|name| name.strip_prefix("params/").or(name.strip_prefix("state/")));
    let mut of_generator: Vec<&str> = exchanged.filter(|name| name.starts_with("g.")).collect();
    of_generator.sort_unstable();
    assert_eq!(averaged, of_generator);
    // After one step the decay is 2 / 11.
    for name in averaged {
        let group = if name.contains("running") { "state" } else { "params" };
        let (old, new) = (&before[&format!("ema/{name}")], &after[&format!("{group}/{name}")]);
        for ((got, old), new) in after[&format!("ema/{name}")].data.iter().zip(&old.data).zip(&new.data) {
            let expected = new - 2.0 / 11.0 * (new - old);
            assert!((got - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{name}: {got}, not {expected}");
        }
    }
}

#[test]
fn checkpoints_of_earlier_versions_with_averages_are_read() {
    let config = small(&["ema=0.5"]);
    let (mut trainer, mut batch) = trainer(&config);
    trainer.step(&mut batch).unwrap();
    // Earlier versions averaged the critic too, but no statistics.
    let mut old = trainer.checkpoint().unwrap();
    old.tensors.retain(|name, _| !(name.starts_with("ema/") && name.contains("running")));
    let critic: Vec<_> = old
        .group("params")
        .filter(|(name, _)| name.starts_with("d."))
        .map(|(name, tensor)| (format!("ema/{name}"), tensor.clone()))
        .collect();
    assert!(!critic.is_empty());
    old.tensors.extend(critic);
    let (set, path) = (&trainer.model.set, Path::new("old.safetensors"));
    for load in [parameters::load, parameters::load_for_inference] {
        let mut device = cpu();
        parameters::initialize(&mut *device, set, 9).unwrap();
        load(&mut *device, set, &old, path).unwrap();
        let now = parameters::snapshot(&mut *device, set).unwrap();
        for name in ["g.n1.running_mean", "g.n3.running_var"] {
            assert_eq!(now[&format!("ema/{name}")], old.tensors[&format!("state/{name}")], "{name}");
        }
        assert_eq!(now["ema/g.t1.weight"], old.tensors["ema/g.t1.weight"]);
        let raw = Model::new(&Config { ema: 0.0, ..config.clone() }).unwrap().set;
        parameters::load_for_inference(&mut *cpu(), &raw, &old, path).unwrap();
        // An average of nothing and a lost average of a weight are refused.
        for spoil in [
            |c: &mut Checkpoint| drop(c.tensors.insert("ema/x".into(), c.tensors["ema/g.t1.weight"].clone())),
            |c: &mut Checkpoint| drop(c.tensors.remove("ema/g.t2.weight")),
        ] {
            let mut spoilt = old.clone();
            spoil(&mut spoilt);
            assert!(load(&mut *device, set, &spoilt, path).is_err());
        }
    }
}

#[test]
fn a_gan_draws_with_what_is_averaged() {
    let model = Model::new(&small(&["ema=0.5"])).unwrap();
    let Family::Adversarial(gan) = &model.family else { unreachable!() };
    let plan = gan.sampling(2).to_string();
    assert!(plan.contains("ema/g.t1.weight") && plan.contains("ema/g.n1.running_var"), "{plan}");
    assert!(!plan.contains("params/") && !plan.contains("state/"), "{plan}");
}
