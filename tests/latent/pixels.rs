//! The distribution of a level given the output of the decoder.

use crate::small;
use crate::truth::{self, ReplayInputs};
use pixtape::backend::{self, Feed, Scalars};
use pixtape::models::PixelDistribution;
use pixtape::shape::{ImageSize, Meta};
use pixtape::tape::plan::Plan;
use pixtape::tape::{Tape, Var};

const PIXEL: ImageSize = ImageSize { height: 1, width: 1, channels: 1 };

/// The width of a level in -1 to 1.
const LEVEL: f64 = 2.0 / 255.0;

/// Means in -1 to 1 and outside of it.
const MEANS: [f64; 6] = [-1.5, -1.0, -0.3, 0.001, 0.9, 40.0];

/// Log scales or log variances, from far below the least to a distribution that is flat.
const WIDTHS: [f64; 7] = [-100.0, -12.0, -7.0, -4.0, -1.5, 0.5, 12.0];

fn pixels(decoder: &str) -> PixelDistribution {
    let config = small("vae-mlp-mnist", &[&format!("model.decoder={decoder}"), "model.deviation=0.05"]);
    PixelDistribution::new(&config, PIXEL).unwrap()
}

/// A tape with -log p of `n` pixels, and its gradient with respect to the outputs.
struct Recorded {
    t: Tape,
    nll: Var,
    gradient: Var,
}

fn record(pixels: PixelDistribution, n: usize) -> Recorded {
    let t = Tape::new();
    let output = t.input("output", Meta::f32([n, 1, 1, pixels.outputs()]));
    let x = t.input("x", Meta::f32([n, 1, 1, 1]));
    let nll = pixels.nll(&t, output, x);
    let gradient = t.grad(t.sum(nll), &[output])[0];
    t.output("nll", nll);
    t.output("gradient", gradient);
    Recorded { t, nll, gradient }
}

/// -log p and its gradient by the definition of every op in f64, and by the kernels of the CPU in f32.
struct Both {
    nll: [Vec<f64>; 2],
    gradient: [Vec<f64>; 2],
}

fn compute(pixels: PixelDistribution, outputs: &[f64], x: &[f64]) -> Both {
    let Recorded { t, nll, gradient } = record(pixels, x.len());
    let exact = truth::run(&t, &ReplayInputs { feeds: vec![outputs.to_vec(), x.to_vec()], ..Default::default() });
    let plan = Plan::new("pixels", &t);
    let mut device = backend::open("cpu", 1).unwrap();
    let compiled = device.compile(&plan).unwrap();
    let [outputs, x] = [outputs, x].map(|values| values.iter().map(|v| *v as f32).collect::<Vec<_>>());
    device.run(compiled, &[Feed::F32(&outputs), Feed::F32(&x)], &Scalars::default()).unwrap();
    let mut read = |name: &str, len: usize| {
        let mut values = vec![f32::NAN; len];
        backend::read(&mut *device, compiled, plan.output(name), &mut values).unwrap();
        values.into_iter().map(f64::from).collect::<Vec<_>>()
    };
    Both {
        nll: [exact.value(nll).to_vec(), read("nll", x.len())],
        gradient: [exact.value(gradient).to_vec(), read("gradient", outputs.len())],
    }
}

/// The values of all levels.
fn levels() -> Vec<f64> {
    (0..256).map(|level| f64::from(level) / 255.0).collect()
}

/// -log p of every level for one output.
fn of_all_levels(pixels: PixelDistribution, output: &[f64]) -> [Vec<f64>; 2] {
    compute(pixels, &output.repeat(256), &levels()).nll
}

fn total(nll: &[f64]) -> f64 {
    nll.iter().map(|nll| (-nll).exp()).sum()
}

#[test]
fn the_probabilities_of_the_levels_of_a_logistic_pixel_sum_to_one() {
    for mean in MEANS {
        for width in WIDTHS {
            let [exact, rounded] = of_all_levels(pixels("logistic"), &[mean, width]);
            let at = format!("mean {mean}, log scale {width}");
            assert!((total(&exact) - 1.0).abs() < 1e-9, "{at}: {} in f64", total(&exact));
            assert!((total(&rounded) - 1.0).abs() < 1e-4, "{at}: {} in f32", total(&rounded));
            assert!(exact.iter().chain(&rounded).all(|nll| nll.is_finite() && *nll > -1e-6), "{at}");
        }
    }
}

#[test]
fn a_logistic_level_has_the_mass_around_it_and_an_edge_has_the_tail() {
    let (mean, log_scale): (f64, f64) = (0.2, -1.0);
    // The scale is not exp(log_scale) but a little more.
    let scale = (-7.0 + ((log_scale + 7.0).exp() + 1.0).ln()).exp();
    let below = |y: f64| 1.0 / (1.0 + (-(y - mean) / scale).exp());
    let [exact, _] = of_all_levels(pixels("logistic"), &[mean, log_scale]);
    for (level, nll) in exact.iter().enumerate() {
        let y = -1.0 + level as f64 * LEVEL;
        let [low, high] = [y - LEVEL / 2.0, y + LEVEL / 2.0].map(below);
        let want = if level == 0 {
            high
        } else if level == 255 {
            1.0 - low
        } else {
            high - low
        };
        assert!((nll + want.ln()).abs() < 1e-6, "level {level}: {nll} and {}", -want.ln());
    }
}

/// The mass of a normal distribution within half a level around y, by the trapezoid rule.
fn normal_mass(y: f64, mean: f64, deviation: f64) -> f64 {
    let steps = 2000;
    let density = |y: f64| (-((y - mean) / deviation).powi(2) / 2.0).exp() / (deviation * std::f64::consts::TAU.sqrt());
    let at = |i: usize| density(y - LEVEL / 2.0 + LEVEL * i as f64 / steps as f64);
    let inner: f64 = (1..steps).map(at).sum();
    LEVEL / steps as f64 * (inner + (at(0) + at(steps)) / 2.0)
}

#[test]
fn gaussian_pixels_bound_the_mass_of_a_level_and_closely_where_they_are_wide() {
    // The log variance is not the output but a little more.
    let least = (LEVEL * LEVEL / 12.0).ln();
    let variance = |output: f64| (least + ((output - least).exp() + 1.0).ln()).exp();
    let learnt = [-14.0, -9.0, -6.0, -3.0].map(|output| ("gaussian", vec![0.2, output], variance(output).sqrt()));
    let fixed = [("gaussian-fixed", vec![0.2], 0.1)];
    for (decoder, output, deviation) in learnt.into_iter().chain(fixed) {
        let [exact, rounded] = of_all_levels(pixels(decoder), &output);
        for (level, (nll, rounded)) in exact.iter().zip(&rounded).enumerate() {
            let y = -1.0 + level as f64 * LEVEL;
            if (y - 0.2).abs() > 4.0 * deviation + LEVEL {
                continue;
            }
            let gap = nll + normal_mass(y, 0.2, deviation).ln();
            // Jensen's gap is about the variance of the log density within a level, divided by two.
            let slope = (y - 0.2) / (deviation * deviation);
            let width = LEVEL / deviation;
            let most = (slope * LEVEL).powi(2) / 24.0 + width.powi(4) / 200.0;
            assert!(gap > -1e-6 && gap < 1.5 * most + 1e-6, "{decoder} {deviation}: level {level} is off by {gap}");
            assert!((nll - rounded).abs() < 1e-4 * nll.abs().max(1.0), "{decoder}: {nll} in f64, {rounded} in f32");
        }
        assert!(total(&exact) < 1.0, "{decoder}: {}", total(&exact));
        if deviation > 5.0 * LEVEL {
            assert!(total(&exact) > 0.98, "{decoder}: {}", total(&exact));
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for decoder in ["bernoulli", "gaussian", "gaussian-fixed", "logistic"] {
        let pixels = pixels(decoder);
        let (mut outputs, mut x) = (vec![], vec![]);
        let values =
            if decoder == "bernoulli" { &[0.0, 1.0][..] } else { &[0.0, 1.0 / 255.0, 0.6, 254.0 / 255.0, 1.0] };
        for mean in [-1.5, -0.3, 0.21, 1.1] {
            for width in WIDTHS {
                for value in values {
                    outputs.extend([mean, width].iter().take(pixels.outputs()));
                    x.push((value * 255.0_f64).round() / 255.0);
                }
            }
        }
        let Both { gradient: [exact, rounded], .. } = compute(pixels, &outputs, &x);
        let nll = |outputs: &[f64]| compute(pixels, outputs, &x).nll[0].clone();
        let step = 1e-6;
        for parameter in 0..pixels.outputs() {
            let moved = |by: f64| {
                let every = outputs.chunks(pixels.outputs());
                every
                    .flat_map(|o| o.iter().enumerate().map(|(i, v)| if i == parameter { v + by } else { *v }))
                    .collect()
            };
            let (up, down): (Vec<f64>, Vec<f64>) = (moved(step), moved(-step));
            for (i, (up, down)) in nll(&up).iter().zip(nll(&down)).enumerate() {
                let at = i * pixels.outputs() + parameter;
                let (want, got) = ((up - down) / (2.0 * step), exact[at]);
                let about =
                    format!("{decoder}, output {:?}, x {}", &outputs[at - parameter..][..pixels.outputs()], x[i]);
                // The difference of two large numbers is rounded.
                let rounding = 1e-9 * up.abs();
                assert!((got - want).abs() < 1e-5 * want.abs().max(1.0) + rounding, "{about}: {got}, not {want}");
                assert!(
                    (rounded[at] - got).abs() < 2e-3 * got.abs().max(0.1),
                    "{about}: {} in f32, not {got}",
                    rounded[at]
                );
            }
        }
    }
}
