//! Cases of random sampling.

use crate::check::case::{Case, drawn, normal};
use crate::check::draw::Draw;
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
fn gaussians() -> [([usize; 2], Draw, &'static str); 9] {
    [
        ([5, 9], Draw::Normal, ""),
        ([1, 1], Draw::Normal, ""),
        ([33, 1], Draw::Normal, ""),
        ([130, 33], Draw::Normal, ""),
        ([0, 4], Draw::Normal, ""),
        ([3, 0], Draw::Normal, ""),
        ([128, 32], Draw::Normal, ""),
        ([17, 20], Draw::Uniform(-40.0, -30.0), " narrow"),
        ([17, 20], Draw::Uniform(30.0, 40.0), " wide"),
    ]
}

pub fn gaussian_sample() -> Vec<Case> {
    let one = |([n, d], logvar, detail): ([usize; 2], Draw, &str)| {
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
    let one = |([n, d], logvar, detail): ([usize; 2], Draw, &str)| {
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
    let one = |[m, k]: [usize; 2], logits: Draw, u: Draw, temperature: f32, detail: &str| {
        let inputs = vec![drawn("logits", [m, k], logits), drawn("u", [m], u)];
        let case = Case::new("categorical", format!("[{m}x{k}]{detail}"), inputs, |t, v| {
            vec![t.categorical(v[0], v[1], t.scalar(TEMPERATURE))]
        });
        case.scalars(|s| _ = s.set(TEMPERATURE, temperature))
    };
    let unit = Draw::Uniform(0.0, 1.0);
    let largest = 1.0 - 1.0 / 16_777_216.0;
    vec![
        one([64, 2], Draw::Normal, unit, 1.0, ""),
        one([64, 256], Draw::Normal, unit, 1.0, ""),
        one([33, 17], Draw::Normal, unit, 0.5, " cold"),
        one([33, 17], Draw::Normal, unit, 3.0, " hot"),
        one([17, 1], Draw::Normal, unit, 1.0, ""),
        one([0, 5], Draw::Normal, unit, 1.0, ""),
        one([33, 17], Draw::Saturated, unit, 1.0, " saturated"),
        one([17, 33], Draw::Normal, Draw::Uniform(0.0, 0.0), 1.0, " with u = 0"),
        one([17, 33], Draw::Normal, Draw::Uniform(largest, largest), 1.0, " with the largest u"),
    ]
}

pub fn bernoulli() -> Vec<Case> {
    let one = |size: Shape, logits: Draw, temperature: f32, detail: &str| {
        let inputs = vec![drawn("logits", size, logits), drawn("u", size, Draw::Uniform(0.0, 1.0))];
        let case = Case::new("bernoulli", format!("{size}{detail}"), inputs, |t, v| {
            vec![t.bernoulli(v[0], v[1], t.scalar(TEMPERATURE))]
        });
        case.scalars(|s| _ = s.set(TEMPERATURE, temperature))
    };
    vec![
        one([33, 17].into(), Draw::Normal, 1.0, ""),
        one([0, 17].into(), Draw::Normal, 1.0, ""),
        one([3, 5, 7, 1].into(), Draw::Normal, 0.5, " cold"),
        one([130].into(), Draw::Saturated, 1.0, " saturated"),
    ]
}
