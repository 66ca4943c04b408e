//! Cases of random sampling.

use crate::check::case::{Case, drawn, normal};
use crate::check::elements::Elements;
use crate::models::TEMPERATURE;
use crate::rng::Stream;
use crate::shape::Shape;
use crate::tape::op::{Dist, Op, Scalar};

pub fn random() -> Vec<Case> {
    let sizes: [Shape; 5] = [[].into(), [0, 3].into(), [17, 33].into(), [3, 5, 7, 2].into(), [40_001].into()];
    let mut all = vec![];
    for dist in [Dist::Uniform, Dist::Normal] {
        for size in sizes {
            for by_image in [false, true] {
                let counter = if by_image { "image" } else { "replay" };
                let case = Case::new("random", format!("{dist:?} {size} by {counter}"), vec![], move |t, _| {
                    vec![if by_image {
                        t.random_by_image(dist, Stream::Pixel, size)
                    } else {
                        t.random(dist, Stream::Latent, size)
                    }]
                });
                all.push(case.scalars(|s| {
                    s.set_u32(Scalar::SEED, 0x9abc_def0)
                        .set_u32(Scalar::REPLAY, 12_345)
                        .set_u32(Scalar::FIRST_IMAGE, 777);
                }));
            }
        }
    }
    all
}

/// Rows, dimensions, and the distribution of the log variances: odd sizes, the size that is timed, log
/// variances so small that the sample equals its mean, and so large that the mean does not matter. If the
/// sample equals its mean, z - mu is a rounding error, so second gradients are left out.
fn gaussians() -> [([usize; 2], Elements, &'static str); 9] {
    [
        ([5, 9], Elements::Normal, ""),
        ([1, 1], Elements::Normal, ""),
        ([33, 1], Elements::Normal, ""),
        ([130, 33], Elements::Normal, ""),
        ([0, 4], Elements::Normal, ""),
        ([3, 0], Elements::Normal, ""),
        ([128, 32], Elements::Normal, ""),
        ([17, 20], Elements::Uniform(-40.0, -30.0), " narrow"),
        ([17, 20], Elements::Uniform(30.0, 40.0), " wide"),
    ]
}

pub fn gaussian_sample() -> Vec<Case> {
    let one = |([n, d], logvar, detail): ([usize; 2], Elements, &str)| {
        let inputs = vec![normal("mu", [n, d]), drawn("logvar", [n, d], logvar)];
        let case = Case::new("gaussian_sample", format!("[{n}x{d}]{detail}"), inputs, |t, v| {
            t.gaussian_sample(v[0], v[1], Stream::Latent).to_vec()
        });
        let case = if detail == " narrow" { case.once() } else { case.twice() };
        case.scalars(|s| _ = s.set_u32(Scalar::SEED, 0x9abc_def0).set_u32(Scalar::REPLAY, 12_345))
    };
    gaussians().map(one).into()
}

pub fn gaussian_sample_bwd() -> Vec<Case> {
    let one = |([n, d], logvar, detail): ([usize; 2], Elements, &str)| {
        let inputs = vec![
            normal("dz", [n, d]),
            normal("dkl", [n]),
            normal("mu", [n, d]),
            drawn("logvar", [n, d], logvar),
            normal("z", [n, d]),
        ];
        let case = Case::new("gaussian_sample_bwd", format!("[{n}x{d}]{detail}"), inputs, |t, v| {
            let dmu = t.record(Op::GaussianSampleBwd, v);
            vec![dmu, t.output_of(dmu, 1)]
        });
        case.once()
    };
    gaussians().map(one).into()
}

pub fn categorical() -> Vec<Case> {
    let one = |[m, k]: [usize; 2], logits: Elements, u: Elements, temperature: f32, detail: &str| {
        let inputs = vec![drawn("logits", [m, k], logits), drawn("u", [m], u)];
        let case = Case::new("categorical", format!("[{m}x{k}]{detail}"), inputs, |t, v| {
            vec![t.categorical(v[0], v[1], t.scalar(TEMPERATURE))]
        });
        case.scalars(|s| _ = s.set(TEMPERATURE, temperature))
    };
    let unit = Elements::Uniform(0.0, 1.0);
    let largest = 1.0 - 1.0 / 16_777_216.0;
    vec![
        one([64, 2], Elements::Normal, unit, 1.0, ""),
        one([64, 256], Elements::Normal, unit, 1.0, ""),
        one([33, 17], Elements::Normal, unit, 0.5, " cold"),
        one([33, 17], Elements::Normal, unit, 3.0, " hot"),
        one([17, 1], Elements::Normal, unit, 1.0, ""),
        one([0, 5], Elements::Normal, unit, 1.0, ""),
        one([33, 17], Elements::Saturated, unit, 1.0, " saturated"),
        one([17, 33], Elements::Normal, Elements::Uniform(0.0, 0.0), 1.0, " with u = 0"),
        one([17, 33], Elements::Normal, Elements::Uniform(largest, largest), 1.0, " with the largest u"),
    ]
}

pub fn bernoulli() -> Vec<Case> {
    let one = |size: Shape, logits: Elements, temperature: f32, detail: &str| {
        let inputs = vec![drawn("logits", size, logits), drawn("u", size, Elements::Uniform(0.0, 1.0))];
        let case = Case::new("bernoulli", format!("{size}{detail}"), inputs, |t, v| {
            vec![t.bernoulli(v[0], v[1], t.scalar(TEMPERATURE))]
        });
        case.scalars(|s| _ = s.set(TEMPERATURE, temperature))
    };
    vec![
        one([33, 17].into(), Elements::Normal, 1.0, ""),
        one([0, 17].into(), Elements::Normal, 1.0, ""),
        one([3, 5, 7, 1].into(), Elements::Normal, 0.5, " cold"),
        one([130].into(), Elements::Saturated, 1.0, " saturated"),
    ]
}
