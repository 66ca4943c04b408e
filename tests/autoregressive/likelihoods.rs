//! An exact likelihood is a distribution: the probabilities of all possible images sum to 1, for every
//! autoregressive model.
//!
//! The images are small enough to list all of them, and the weights make the probabilities far from uniform.

use super::{models, network};
use pixtape::backend::{self, Backend, Feed, Scalars};
use pixtape::models::Model;
use pixtape::rng::{self, Stream};
use pixtape::shape::DType;

/// How far a sum of probabilities may be from 1.
const TOLERANCE: f64 = 1e-4;

/// Writes the initial parameters, including biases, multiplied by three, so that the conditionals are far
/// from uniform.
fn draw_weights(device: &mut dyn Backend, model: &Model) {
    for spec in model.set.specs() {
        let value: Vec<f32> = spec.initial(11).iter().map(|w| 3.0 * w).collect();
        device.write_param(spec.param.id, &value).unwrap();
    }
}

/// All possible images, one after another. The levels of image i are the digits of i in base `levels`.
fn every_image(dims: usize, levels: usize) -> Vec<f32> {
    let count = levels.pow(dims as u32);
    let level = |image: usize, dim: usize| image / levels.pow(dim as u32) % levels;
    let value = |image| move |dim| level(image, dim) as f32 / (levels - 1) as f32;
    (0..count).flat_map(|image| (0..dims).map(value(image))).collect()
}

/// The probability of every image. A conditional model gets the condition number `condition`.
fn probabilities(model: &Model, condition: u32) -> Vec<f64> {
    let (net, mut device) = (network(model), backend::open("cpu", 1).unwrap());
    draw_weights(&mut *device, model);
    let images = every_image(net.pixels().dims(), net.pixels().levels);
    let count = images.len() / net.pixels().dims();
    let plan = net.likelihood(count);
    let compiled = device.compile(&plan).unwrap();
    let (mut floats, mut words) = (vec![], vec![]);
    for input in &plan.inputs()[1..] {
        let per_image = input.meta.shape.len() / count;
        // The condition is the same for every image.
        let value = |i: usize| rng::uniform(condition, Stream::Test, [1, (i % per_image) as u32]);
        match input.meta.dtype {
            DType::U32 => words.push(vec![condition; count]),
            DType::F32 => floats.push((0..count * per_image).map(value).collect::<Vec<f32>>()),
        }
    }
    let mut feeds = vec![Feed::F32(&images)];
    feeds.extend(words.iter().map(|w| Feed::U32(w)));
    feeds.extend(floats.iter().map(|f| Feed::F32(f)));
    device.run(compiled, &feeds, &Scalars::default()).unwrap();
    let mut nll = vec![f32::NAN; count];
    backend::read(&mut *device, compiled, plan.output("nll"), &mut nll).unwrap();
    nll.iter().map(|nll| (-f64::from(*nll)).exp()).collect()
}

fn every_distribution_sums_to_one(size: [usize; 3], levels: usize, images: usize) {
    for model in models(size, levels) {
        let conditions = if network(&model).likelihood(1).inputs().len() > 1 { 3 } else { 1 };
        let all: Vec<Vec<f64>> = (0..conditions).map(|condition| probabilities(&model, condition)).collect();
        for p in &all {
            let (name, sum) = (model.config.name(), p.iter().sum::<f64>());
            assert_eq!(p.len(), images, "{name}");
            assert!((sum - 1.0).abs() <= TOLERANCE, "{name}: the probabilities of all images sum to {sum}");
            let uniform = 1.0 / images as f64;
            assert!(
                p.iter().any(|p| *p > 3.0 * uniform),
                "{name}: weights that make every image equally likely test nothing"
            );
        }
        assert!(conditions == 1 || all[0] != all[1], "{}: what it is told changes nothing", model.config.name());
    }
}

#[test]
fn over_all_binary_images_of_3x3_pixels() {
    every_distribution_sums_to_one([3, 3, 1], 2, 512);
}

#[test]
fn over_all_images_of_1x2_pixels_in_two_colours_of_three_levels() {
    every_distribution_sums_to_one([1, 2, 2], 3, 81);
}

#[test]
fn over_all_binary_images_of_2x2_pixels_in_two_colours() {
    every_distribution_sums_to_one([2, 2, 2], 2, 256);
}
