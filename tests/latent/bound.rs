//! Bounds on models whose likelihood is known, and the gradients of losses.

use crate::{noise, small};
use pixtape::backend::{self, Backend};
use pixtape::config::Config;
use pixtape::data::{self, Batches, Images, Levels, Loader, Order, Split};
use pixtape::eval::{self, Evaluation};
use pixtape::models::Model;
use pixtape::parameters;
use pixtape::shape::ImageSize;
use pixtape::store::Tensor;
use pixtape::train::trainer::Trainer;
use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};
use std::sync::Arc;

const SIZE: ImageSize = ImageSize { height: 8, width: 8, channels: 1 };
const DIMS: usize = 64;
const LATENT: usize = 3;
/// Standard deviation of a pixel in -1 to 1, twice that in 0 to 1.
const DEVIATION: f64 = 0.2;
const LEVEL: f64 = 2.0 / 255.0;
const MEAN: f64 = -0.2;

/// Column `j` of W in y = W z + MEAN + noise. The columns are orthogonal.
fn column(j: usize) -> Vec<f64> {
    (0..DIMS).map(|i| 0.3 / (1 + j) as f64 * (PI * (i as f64 + 0.5) * (j + 1) as f64 / DIMS as f64).cos()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The variance of the posterior of latent dimension `j`.
fn posterior_variance(j: usize) -> f64 {
    1.0 / (1.0 + dot(&column(j), &column(j)) / DEVIATION.powi(2))
}

/// `vae-mlp` as a linear model: x = relu(x) - relu(-x) makes its hidden layers linear. The encoder is the
/// exact posterior, except that its log variances are `wider` larger.
fn linear(settings: &[&str], wider: f64) -> (Model, Vec<(String, Vec<f32>)>) {
    let deviation = format!("model.deviation={}", DEVIATION / 2.0);
    let sizes = ["model.height=8", "model.width=8", "model.hidden=6", "model.latent=3"];
    let decoder = ["model.decoder=gaussian-fixed", &deviation, "binarize=none", "kl_warmup=0"];
    let model = Model::new(&small("vae-mlp-mnist", &[&sizes, &decoder[..], settings].concat())).unwrap();
    // Weights are `[in, out]`. Of the six hidden units, three are positive parts and three negative ones.
    let sign = |unit: usize| if unit < LATENT { 1.0 } else { -1.0 };
    let matrix = |rows: usize, columns: usize, value: &dyn Fn(usize, usize) -> f64| {
        (0..rows * columns).map(|i| value(i / columns, i % columns) as f32).collect::<Vec<_>>()
    };
    let gain = |j: usize| posterior_variance(j) / DEVIATION.powi(2);
    let encoder = |i: usize, unit: usize| sign(unit) * gain(unit % LATENT) * column(unit % LATENT)[i];
    let join = |unit: usize, j: usize| if unit % LATENT == j { sign(unit) } else { 0.0 };
    let shift = |unit: usize| (0..DIMS).map(|i| -MEAN * encoder(i, unit)).sum::<f64>();
    let values = vec![
        ("fc1.weight", matrix(DIMS, 6, &encoder)),
        ("fc1.bias", matrix(1, 6, &|_, unit| shift(unit))),
        ("mu.weight", matrix(6, LATENT, &join)),
        ("mu.bias", vec![0.0; LATENT]),
        ("lv.weight", vec![0.0; 6 * LATENT]),
        ("lv.bias", matrix(1, LATENT, &|_, j| posterior_variance(j).ln() + wider)),
        ("fc3.weight", matrix(LATENT, 6, &|j, unit| join(unit, j))),
        ("fc3.bias", vec![0.0; 6]),
        ("fc4.weight", matrix(6, DIMS, &|unit, i| sign(unit) * column(unit % LATENT)[i])),
        ("fc4.bias", vec![MEAN as f32; DIMS]),
    ];
    (model, values.into_iter().map(|(name, value)| (format!("params/{name}"), value)).collect())
}

fn write(device: &mut dyn Backend, model: &Model, values: &[(String, Vec<f32>)]) {
    for (name, value) in values {
        device.write_param(model.set.find(name).unwrap().param.id, value).unwrap();
    }
}

/// Smooth images, whose pixels are not far from the model's mean.
fn waves(n: usize) -> Arc<Images> {
    let value = |i: usize| {
        let (image, pixel) = ((i / DIMS) as f64, (i % DIMS) as f64);
        100.0 + 40.0 * (0.13 * pixel + image).sin() + 25.0 * (1.7 * pixel * (1.0 + 0.1 * image)).cos()
    };
    let bytes = (0..n * DIMS).map(|i| value(i) as u8).collect();
    Arc::new(Images::new("waves", SIZE, bytes, None, Levels::Grey256).unwrap())
}

/// -log p of an image in closed form: y is normal with covariance W W' + DEVIATION^2 I. A level has the
/// mean log density within it, times its width.
fn closed_form(image: &[u8]) -> f64 {
    let r: Vec<f64> = image.iter().map(|byte| f64::from(*byte) / 127.5 - 1.0 - MEAN).collect();
    let noise = DEVIATION.powi(2);
    let (mut log_det, mut square) = ((DIMS - LATENT) as f64 * noise.ln(), dot(&r, &r));
    for w in (0..LATENT).map(column) {
        log_det += (noise + dot(&w, &w)).ln();
        square -= dot(&w, &r).powi(2) / (noise + dot(&w, &w));
    }
    let within_levels = DIMS as f64 * (LEVEL * LEVEL / 12.0 / noise / 2.0 - LEVEL.ln());
    0.5 * (DIMS as f64 * TAU.ln() + log_det + square / noise) + within_levels
}

/// ELBO and IWAE-k as negative log-likelihoods.
fn bounds(found: &Evaluation) -> [f64; 2] {
    [found.likelihoods[0].nats, found.likelihoods[1].nats]
}

#[test]
fn the_bounds_of_a_linear_gaussian_model_are_its_likelihood_if_the_posterior_is_exact() {
    let images = waves(20);
    let want = (0..20).map(|i| closed_form(images.image(i))).sum::<f64>() / 20.0;
    for (wider, k) in [(0.0, 5), (0.7, 50)] {
        let (model, values) = linear(&[], wider);
        let mut device = backend::open("cpu", 1).unwrap();
        write(&mut *device, &model, &values);
        let found = eval::evaluate(&mut *device, &model, images.clone(), Split::Test, k, "here").unwrap();
        let [elbo, iwae] = bounds(&found);
        // The gap is the divergence from the posterior.
        let gap = LATENT as f64 * 0.5 * (wider.exp() - 1.0 - wider);
        println!("{want:.4} nats, ELBO {elbo:.4}, IWAE-{k} {iwae:.4}, gap {gap:.4}");
        // Its reconstruction term is a mean over k draws per image.
        assert!((elbo - want - gap).abs() < 0.1, "ELBO {elbo}, not {want} + {gap}");
        if wider == 0.0 {
            assert!((iwae - want).abs() < 2e-3, "every weight is the likelihood: {iwae}, not {want}");
        } else {
            assert!((iwae - want).abs() < 0.15 * gap, "IWAE-{k} {iwae}, not {want}");
        }
    }
}

#[test]
fn the_importance_weighted_loss_of_a_linear_gaussian_model_is_its_likelihood() {
    for (wider, is_exact) in [(0.0, true), (0.7, false)] {
        let (model, values) = linear(&["importance_samples=6", "batch=20"], wider);
        let images = waves(20);
        let want = (0..20).map(|i| closed_form(images.image(i))).sum::<f64>() / 20.0;
        let mut batches = Batches::new(images, model.batch_options(Order::Shuffled)).unwrap();
        let mut trainer = Trainer::new(model.clone(), backend::open("cpu", 1).unwrap(), 1).unwrap();
        write(&mut *trainer.backend, &model, &values);
        trainer.step(&mut batches.next_batch()).unwrap();
        let losses: BTreeMap<String, f64> = trainer.losses().unwrap().into_iter().collect();
        let (iwae, elbo) = (-losses["iwae"], -losses["elbo"]);
        println!("{want:.4} nats, IWAE-6 {iwae:.4}, ELBO {elbo:.4}");
        if is_exact {
            assert!((iwae - want).abs() < 2e-3 && (elbo - want).abs() < 2e-3, "{iwae} and {elbo}, not {want}");
        } else {
            assert!(want < iwae && iwae < elbo - 0.05, "{want} < {iwae} < {elbo}");
        }
    }
}

/// Trains a small model of glyphs.
fn trained_on_glyphs(settings: &[&str], steps: u64) -> (Model, Box<dyn Backend>) {
    let config = small("vae-mlp-mnist", &[&["model.hidden=32", "model.latent=4", "batch=64"], settings].concat());
    let model = Model::new(&config).unwrap();
    let images = Arc::new(data::open("glyphs", Split::Train, None).unwrap());
    let mut batches = Loader::new(Batches::new(images, model.batch_options(Order::Shuffled)).unwrap()).unwrap();
    let mut trainer = Trainer::new(model.clone(), backend::open("cpu", 2).unwrap(), steps).unwrap();
    for _ in 0..steps {
        trainer.step(&mut batches).unwrap();
    }
    (model, trainer.backend)
}

struct Statistic {
    mean: f64,
    /// The standard error of the mean.
    error: f64,
}

fn statistic(values: &[f64]) -> Statistic {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Statistic { mean, error: (variance / n).sqrt() }
}

#[test]
fn more_importance_samples_are_a_tighter_bound() {
    let (mut model, mut device) = trained_on_glyphs(&["kl_warmup=0"], 150);
    let images = Arc::new(data::open("glyphs", Split::Test, None).unwrap().sample(100, 0));
    let mut of = |k: u32| {
        let mut elbo = 0.0;
        let values: Vec<f64> = (0..6)
            .map(|seed| {
                model.config.seed = seed;
                let found = eval::evaluate(&mut *device, &model, images.clone(), Split::Test, k, "here").unwrap();
                let [of_seed, iwae] = bounds(&found);
                elbo += of_seed / 6.0;
                -iwae
            })
            .collect();
        (statistic(&values), -elbo)
    };
    let ((one, elbo), (five, _), (fifty, _)) = (of(1), of(5), of(50));
    for (k, Statistic { mean, error }) in [(1, &one), (5, &five), (50, &fifty)] {
        println!("IWAE-{k}: {mean:.3} ± {error:.3} nats (ELBO {elbo:.3})");
    }
    for [less, more] in [[&one, &five], [&five, &fifty]] {
        let error = less.error.hypot(more.error);
        assert!(more.mean - less.mean > 3.0 * error, "{} and {}, ± {error}", less.mean, more.mean);
    }
    assert!((one.mean - elbo).abs() < 5.0 * one.error, "IWAE-1 {} is a sample of the ELBO {elbo}", one.mean);
}

/// The loss terms of the first step, and the gradient that it follows.
struct FirstStep {
    losses: BTreeMap<String, f64>,
    gradient: BTreeMap<String, Tensor>,
}

/// A training step from initial values that are moved by `by` times `along`. The buffers of plain gradient
/// descent with momentum hold the gradient after the first step.
fn first_step(config: &Config, images: &Arc<Images>, along: &BTreeMap<String, Tensor>, by: f32) -> FirstStep {
    let model = Model::new(config).unwrap();
    let mut batches = Batches::new(images.clone(), model.batch_options(Order::Shuffled)).unwrap();
    let mut trainer = Trainer::new(model.clone(), backend::open("cpu", 1).unwrap(), 1).unwrap();
    for spec in model.set.specs().iter().filter(|spec| spec.param.path.starts_with("params/")) {
        let mut value = spec.initial(config.seed);
        if let Some(direction) = along.get(&*spec.param.path) {
            value.iter_mut().zip(&direction.data).for_each(|(v, d)| *v += by * d);
        }
        trainer.backend.write_param(spec.param.id, &value).unwrap();
    }
    trainer.step(&mut batches.next_batch()).unwrap();
    let losses = trainer.losses().unwrap().into_iter().collect();
    let state = parameters::snapshot(&mut *trainer.backend, &model.set).unwrap();
    let gradients = state
        .into_iter()
        .filter_map(|(name, value)| Some((format!("params/{}", name.strip_prefix("optim/buf/")?), value)));
    FirstStep { losses, gradient: gradients.collect() }
}

/// Settings, and the loss as a function of the loss terms.
type Case = (&'static [&'static str], fn(&BTreeMap<String, f64>) -> f64);

#[test]
fn every_loss_falls_along_its_gradient_as_fast_as_its_norm_says() {
    let cases: [Case; 8] = [
        (&[], |l| -l["elbo"]),
        (&["beta=3"], |l| l["reconstruction"] + 3.0 * l["kl"]),
        // Every dimension is below so many free bits.
        (&["free_bits=1000"], |l| l["reconstruction"]),
        // Every dimension is above so few.
        (&["free_bits=1e-9"], |l| -l["elbo"]),
        (&["importance_samples=3"], |l| -l["iwae"]),
        (&["model.classes=3", "importance_samples=2", "model.decoder=logistic", "binarize=none"], |l| -l["iwae"]),
        (&["model.classes=3", "model.decoder=gaussian", "binarize=none"], |l| -l["elbo"]),
        (&["model.decoder=gaussian-fixed", "binarize=none"], |l| -l["elbo"]),
    ];
    let images = noise(ImageSize { height: 9, width: 12, channels: 1 }, 8);
    for name in ["vae-mnist", "vae-mlp-mnist"] {
        for (settings, loss) in cases {
            let sizes = ["model.height=9", "model.width=12", "kl_warmup=0", "model.latent=3"];
            let descent = ["optimizer.kind=sgd", "optimizer.momentum=0.9", "optimizer.lr=1e-30"];
            let config = small(name, &[&sizes[..], &descent, settings].concat());
            let start = first_step(&config, &images, &BTreeMap::new(), 0.0);
            let square: f64 = start.gradient.values().flat_map(|g| &g.data).map(|g| f64::from(*g).powi(2)).sum();
            // Far enough for the rounding of losses, and so near that few relus change their sign.
            let by = (0.05 / square) as f32;
            let [up, down] = [by, -by].map(|by| loss(&first_step(&config, &images, &start.gradient, by).losses));
            let ratio = (up - down) / (2.0 * f64::from(by) * square);
            println!("{name} {settings:?}: {ratio:.4} of the norm {:.3}", square.sqrt());
            assert!((ratio - 1.0).abs() < 0.03, "{name} {settings:?}: {ratio}");
            if settings.contains(&"model.classes=3") {
                let tables = ["params/class_e.weight", "params/class_d.weight"];
                assert!(tables.iter().all(|table| start.gradient[*table].data.iter().any(|g| *g != 0.0)), "{name}");
            }
        }
    }
}

#[test]
fn one_importance_sample_is_the_evidence_lower_bound() {
    let images = noise(ImageSize { height: 28, width: 28, channels: 1 }, 8);
    let of = |settings: &[&str]| first_step(&small("vae-mnist", settings), &images, &BTreeMap::new(), 0.0).losses;
    let plain = of(&[]);
    assert_eq!(of(&["importance_samples=1", "beta=1", "free_bits=0"]), plain);
    assert!(plain.keys().eq(["elbo", "kl", "reconstruction"]), "{plain:?}");
}
