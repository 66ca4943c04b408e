//! Sequence models. The tests verify that
//!
//! - the likelihood is a distribution, and draws are as frequent as they are likely,
//! - stepping gives the same results as reading a whole sequence,
//! - a plan made in a model has the return that stepping gives.

use pixtape::backend::{self, Backend, Compiled, Feed, Scalars};
use pixtape::config::{Distribution, preset};
use pixtape::control::{self, Task};
use pixtape::data::{Images, Levels, Pendulum, Split};
use pixtape::eval;
use pixtape::models::{Family, Model, Observations, Sequence};
use pixtape::rng::{self, Stream};
use pixtape::sampling::{DrawOptions, Sampler, Simulator};
use std::sync::Arc;

const PRESETS: [&str; 3] = ["lstm-oscillator", "lstm-pendulum", "lstm-rows-mnist"];

const HOW: DrawOptions = DrawOptions { seed: 5, temperature: 1.0, classes: &[], reduced: &[] };

/// A small model of a preset on the CPU, with its initial parameters multiplied by three.
fn small(name: &str, [steps, width]: [usize; 2]) -> (Model, Box<dyn Backend>) {
    let mut config = preset(name).unwrap();
    for (key, value) in [("height", steps), ("width", width), ("hidden", 5)] {
        config.set(&format!("model.{key}={value}")).unwrap();
    }
    let model = Model::new(&config).unwrap();
    let mut device = backend::open("cpu", 1).unwrap();
    for spec in model.set.specs() {
        let value: Vec<f32> = spec.initial(11).iter().map(|w| 3.0 * w).collect();
        device.write_param(spec.param.id, &value).unwrap();
    }
    (model, device)
}

fn network(model: &Model) -> &Sequence {
    let Family::Sequence(net) = &model.family else { panic!("{} models no sequences", model.config.name()) };
    net
}

fn read(device: &mut dyn Backend, plan: Compiled, output: usize, len: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; len];
    backend::read(device, plan, output, &mut values).unwrap();
    values
}

/// Sequences of random values, of the kind that the model describes.
fn sequences(observations: Observations, n: usize) -> Vec<f32> {
    let value = |i: usize| {
        let u = rng::uniform(3, Stream::Test, [9, i as u32]);
        if observations.distribution == Distribution::Bernoulli {
            f32::from(u < 0.5)
        } else {
            (255.0 * u).round() / 255.0
        }
    };
    (0..n * observations.steps * observations.width).map(value).collect()
}

/// -log p of each step of each sequence, `[n, t]`, by the plan of whole sequences.
fn nll_of_steps(device: &mut dyn Backend, net: &Sequence, x: &[f32], n: usize) -> Vec<f32> {
    let plan = net.likelihood(n);
    let compiled = device.compile(&plan).unwrap();
    device.run(compiled, &[Feed::F32(x)], &Scalars::default()).unwrap();
    read(device, compiled, plan.output("steps"), n * net.observations().steps)
}

#[test]
fn the_probabilities_of_all_binary_images_of_3x2_sum_to_one() {
    let (model, mut device) = small("lstm-rows-mnist", [3, 2]);
    let images: Vec<f32> = (0..64).flat_map(|image| (0..6).map(move |bit| (image >> bit & 1) as f32)).collect();
    let plan = network(&model).likelihood(64);
    let compiled = device.compile(&plan).unwrap();
    device.run(compiled, &[Feed::F32(&images)], &Scalars::default()).unwrap();
    let nll = read(&mut *device, compiled, plan.output("nll"), 64);
    let p: Vec<f64> = nll.iter().map(|nll| (-f64::from(*nll)).exp()).collect();
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{p:?}");
    assert!(p.iter().any(|p| *p > 3.0 / 64.0), "weights that make every image equally likely test nothing");
}

#[test]
fn step_by_step_is_what_the_whole_sequence_says() {
    for name in PRESETS {
        let (model, mut device) = small(name, [7, 4]);
        let (net, n) = (network(&model), 3);
        let Observations { steps, width, distribution, .. } = net.observations();
        let (p, d) = (net.observations().predicted(), net.units());
        let x = sequences(net.observations(), n);
        let whole = nll_of_steps(&mut *device, net, &x, n);

        let plan = net.stepping(n);
        let compiled = device.compile(&plan).unwrap();
        let (mut now, mut h, mut c) = (vec![0.0; n * width], vec![0.0; n * d], vec![0.0; n * d]);
        let noise = vec![0.0; n * p];
        for step in 0..steps {
            let feeds = [&now, &h, &c, &noise].map(|v| Feed::F32(v));
            device.run(compiled, &feeds, &Scalars::default()).unwrap();
            h = read(&mut *device, compiled, plan.output("h"), n * d);
            c = read(&mut *device, compiled, plan.output("c"), n * d);
            let mean = read(&mut *device, compiled, plan.output("mean"), n * p);
            let logvar = match distribution {
                Distribution::Normal => read(&mut *device, compiled, plan.output("logvar"), n * p),
                Distribution::Bernoulli => vec![0.0; n * p],
            };
            now = x.chunks(steps * width).flat_map(|s| &s[step * width..][..width]).copied().collect();
            for sequence in 0..n {
                let nll: f64 = (0..p)
                    .map(|j| {
                        let [value, mean, logvar] =
                            [now[sequence * width + j], mean[sequence * p + j], logvar[sequence * p + j]]
                                .map(f64::from);
                        match distribution {
                            Distribution::Bernoulli => -(value * mean + (1.0 - value) * (1.0 - mean)).ln(),
                            Distribution::Normal => {
                                let tau = std::f64::consts::TAU;
                                0.5 * (tau.ln() + logvar + (value - mean).powi(2) / logvar.exp())
                            }
                        }
                    })
                    .sum();
                let want = f64::from(whole[sequence * steps + step]);
                let close = (nll - want).abs() <= 1e-4 * (1.0 + want.abs());
                assert!(close, "{name}, sequence {sequence}, step {step}: {nll}, not {want}");
            }
        }
    }
}

#[test]
fn a_simulation_keeps_what_is_given_and_draws_the_rest_by_seed_and_number() {
    for name in PRESETS {
        let (model, mut device) = small(name, [6, 4]);
        let (net, n) = (network(&model), 5);
        let Observations { steps, width, .. } = net.observations();
        let (p, truth) = (net.observations().predicted(), sequences(net.observations(), n));
        let mut run = |batch: usize, given: usize, first: usize, how: DrawOptions| {
            let simulator = Simulator::new(&mut *device, net, batch).unwrap();
            let mut all = truth.clone();
            simulator.run(&mut *device, &mut all, given, first, how).unwrap();
            all
        };
        assert_eq!(run(5, steps, 0, HOW), truth, "{name}: nothing is left to draw");
        let drawn = run(5, 2, 0, HOW);
        for (at, (drawn, truth)) in drawn.iter().zip(&truth).enumerate() {
            let (step, value) = (at / width % steps, at % width);
            if step < 2 || value >= p {
                assert_eq!(drawn, truth, "{name}: step {step}, value {value}");
            }
            assert!((0.0..=1.0).contains(drawn), "{name}: {drawn}");
        }
        assert_eq!(run(2, 2, 0, HOW), drawn, "{name}: the size of a batch changes the draws");
        let others = [run(5, 2, 5, HOW), run(5, 2, 0, DrawOptions { seed: 6, ..HOW })];
        assert!(others.iter().all(|other| *other != drawn), "{name}");
        let likely = DrawOptions { temperature: 1e-9, ..HOW };
        let [one, other] = [0, 9].map(|first| run(5, 2, first, likely));
        let off = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{name}: without noise nothing is left to chance, but two draws are {off} apart");
    }
}

#[test]
fn the_nats_of_prefix_and_future_are_those_of_the_whole_sequence() {
    for name in PRESETS {
        let (model, mut device) = small(name, [6, 4]);
        let net = network(&model);
        let Observations { steps, width, distribution, .. } = net.observations();
        let (levels, n) =
            if distribution == Distribution::Bernoulli { (Levels::Binary, 130) } else { (Levels::Grey256, 130) };
        let bytes: Vec<u8> =
            sequences(net.observations(), n).iter().map(|v| (v * f32::from(levels.max())).round() as u8).collect();
        let images = Arc::new(Images::new("test", [steps, width, 1], bytes, None, levels).unwrap());
        let found = eval::evaluate(&mut *device, &model, images.clone(), Split::Test, 1, "here").unwrap();
        let whole = &found.likelihoods[0];
        assert_eq!(whole.protocol.dims, net.observations().dims());
        for given in [0, 1, 4] {
            let parts = eval::futures(&mut *device, &model, images.clone(), images.clone(), given).unwrap();
            assert_eq!(parts.sequences, n);
            let prefix = if given == 0 { 0.0 } else { parts.prefix * given as f64 };
            let sum = prefix + parts.future * (steps - given) as f64;
            assert!((sum - whole.nats).abs() < 1e-4 * whole.nats.abs(), "{name}: {sum}, not {}", whole.nats);
            // These values are independent, and the baseline was fitted to the same sequences, so it is
            // better than the model.
            assert!(parts.baseline < parts.future, "{name}: {parts:?}");
        }
        assert!(eval::futures(&mut *device, &model, images.clone(), images, steps).is_err());
    }
}

#[test]
fn draws_are_as_frequent_as_they_are_likely() {
    let (model, mut device) = small("lstm-rows-mnist", [3, 2]);
    let net = network(&model);
    let n = 4000;
    let simulator = Simulator::new(&mut *device, net, 500).unwrap();
    let mut drawn = vec![0.0; n * 6];
    simulator.run(&mut *device, &mut drawn, 0, 0, HOW).unwrap();
    let mut counts = [0; 64];
    drawn.chunks(6).for_each(|s| counts[s.iter().rev().fold(0, |sum, bit| 2 * sum + *bit as usize)] += 1);
    let images: Vec<f32> = (0..64).flat_map(|image| (0..6).map(move |bit| (image >> bit & 1) as f32)).collect();
    let steps = nll_of_steps(&mut *device, net, &images, 64);
    for (image, count) in counts.into_iter().enumerate() {
        let p = (-f64::from(steps[image * 3..][..3].iter().sum::<f32>())).exp();
        let deviation = (n as f64 * p * (1.0 - p)).sqrt();
        let off = (f64::from(count) - n as f64 * p).abs();
        assert!(off <= 4.5 * deviation + 1.0, "image {image}: {count} of {n}, p {p}");
    }
}

#[test]
fn whole_sequences_do_not_depend_on_how_many_are_drawn() {
    for name in PRESETS {
        let (model, mut device) = small(name, [6, 4]);
        let mut draw = |batch: usize, n: usize| {
            Sampler::new(&mut *device, &model, batch).unwrap().draw(&mut *device, n, HOW).unwrap()
        };
        let many = draw(4, 7);
        assert_eq!(many.len(), 7 * 24);
        assert_eq!(draw(3, 5), many[..5 * 24], "{name}");
        assert_ne!(many[..24], many[24..48], "{name}");
    }
}

#[test]
fn a_planned_return_is_that_of_going_step_by_step() {
    let (model, mut device) = small("lstm-pendulum", [6, 4]);
    let net = network(&model);
    let task = Task { episodes: 2, seed: 1, horizon: 12, candidates: 3 };
    let (d, b, n) = (net.units(), task.torques(), 6);
    let uniform =
        |k: u32, len: usize| -> Vec<f32> { (0..len).map(|i| rng::uniform(8, Stream::Test, [k, i as u32])).collect() };
    let (h, c, seen, torques) = (uniform(1, 2 * d), uniform(2, 2 * d), uniform(3, 6), uniform(4, n * b));
    let plan = control::returns(net, &task);
    let compiled = device.compile(&plan).unwrap();
    let feeds = [&h, &c, &seen, &torques].map(|v| Feed::F32(v));
    device.run(compiled, &feeds, &Scalars::default()).unwrap();
    let got = read(&mut *device, compiled, 0, n);

    let of_each = |v: &[f32], len: usize| -> Vec<f32> { v.chunks(len).flat_map(|row| row.repeat(3)).collect() };
    let (mut h, mut c, mut seen) = (of_each(&h, d), of_each(&c, d), of_each(&seen, 3));
    let stepping = net.stepping(n);
    let compiled = device.compile(&stepping).unwrap();
    let mut want = vec![0.0; n];
    for step in 0..task.horizon {
        let mut x = vec![];
        for (row, want) in want.iter_mut().enumerate() {
            let (seen, torque) = (&seen[3 * row..][..3], torques[row * b + step / control::HELD]);
            // The reward depends on the cosine of the angle only, as in the plan.
            let pendulum = Pendulum { angle: (2.0 * seen[0] - 1.0).acos(), speed: 8.0 * (2.0 * seen[2] - 1.0) };
            *want += control::reward(pendulum, Pendulum::torque_of_unit(torque));
            x.extend(seen.iter().chain([&torque]));
        }
        let noise = vec![0.0; 3 * n];
        device.run(compiled, &[&x, &h, &c, &noise].map(|v| Feed::F32(v)), &Scalars::default()).unwrap();
        h = read(&mut *device, compiled, stepping.output("h"), n * d);
        c = read(&mut *device, compiled, stepping.output("c"), n * d);
        let mean = read(&mut *device, compiled, stepping.output("mean"), n * 3);
        seen = mean.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    }
    for (row, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() < 0.05, "candidate {row}: {got}, not {want}");
    }
    assert!(want.iter().any(|v| (v - want[0]).abs() > 0.5), "torques that make no difference test nothing: {want:?}");
}
