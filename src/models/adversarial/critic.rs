//! The critic: the generator's maps in reverse order, from an image to one number, a logit or a score.
//!
//! With classes it is a projection critic (Miyato & Koyama, "cGANs with projection discriminator", ICLR
//! 2018, eq. 3): the number is that of the last layer plus the inner product of a vector of the class with
//! the features of the image, the sum of the last map over its pixels. Given a reduced image, it judges the
//! pair: the channels of the reduced image follow those of the image (Isola et al. 2017).

use super::STD;
use super::game::Game;
use super::given::{Given, beside};
use super::spectral::SpectralNorm;
use super::stages::Stages;
use crate::nn::{BatchNorm, Channels, Conv, Env, Init, Layout, ParamSet};
use crate::tape::Var;
use crate::tape::op::Param;
use crate::tape::record::ConvAttrs;

/// Slope of leaky relus below zero (Radford et al. 2016, section 4).
pub(super) const SLOPE: f64 = 0.2;

/// image -> .. -> base map -> one number.
#[derive(Clone, Debug)]
pub(super) struct Critic {
    layers: Vec<Layer>,
    /// A vector per class, `[classes, channels of the base map]`, if the model has classes.
    classes: Option<Weight>,
}

#[derive(Clone, Debug)]
struct Layer {
    conv: Conv,
    weight: Weight,
    /// After every layer but the first and the last, if the objective lets the critic have batch norm.
    norm: Option<BatchNorm>,
}

/// A weight, and its spectral norm if the objective divides by it.
#[derive(Clone, Debug)]
struct Weight {
    param: Param,
    spectral: Option<SpectralNorm>,
}

/// The weights of a critic as its layers use them, at a point of a plan.
pub(super) struct CriticWeights {
    convs: Vec<Var>,
    classes: Option<Var>,
}

impl Critic {
    /// Declares `d.c1 d.c2 d.n2 d.c3 d.n3 ..`, and `d.class` if there are classes. `given` is the number of
    /// channels of a reduced image, 0 without one.
    pub fn new(set: &mut ParamSet, stages: &Stages, classes: usize, given: usize, game: &Game) -> Self {
        let inner: Vec<usize> = stages.widths.iter().rev().copied().collect();
        let widths = [&[stages.padded.channels + given], &inner[..], &[1]].concat();
        let last = widths.len() - 2;
        let weight = |set: &mut ParamSet, path: &str, param: &Param| {
            let spectral = game.has_spectral_norm().then(|| SpectralNorm::new(set, path, param));
            Weight { param: param.clone(), spectral }
        };
        let mut layers = vec![];
        for (i, pair) in widths.windows(2).enumerate() {
            let path = format!("d.c{}", i + 1);
            let (kernel, attrs) =
                if i == last { (stages.base, ConvAttrs::new(1, 0)) } else { ([4, 4], ConvAttrs::new(2, 1)) };
            let channels = Channels { inputs: pair[0], outputs: pair[1] };
            let mut conv = Conv::plain(set, &path, channels, kernel, attrs, STD);
            let mut norm = None;
            if !game.has_critic_norm() {
                conv = conv.with_bias(set, &path);
            } else if i != 0 && i != last {
                norm = Some(BatchNorm::new(set, &format!("d.n{}", i + 1), pair[1], Init::Normal(1.0, STD)));
            }
            let weight = weight(set, &path, &conv.weight);
            layers.push(Layer { conv, weight, norm });
        }
        let classes = (classes > 0).then(|| {
            let table = set.weight("d.class.weight", [classes, widths[last]], Init::Normal(0.0, STD), Layout::Same);
            weight(set, "d.class", &table)
        });
        Critic { layers, classes }
    }

    /// One step of the power iterations, if its weights have spectral norms.
    pub fn advance(&self, env: &Env) {
        let weights = self.layers.iter().map(|layer| &layer.weight).chain(&self.classes);
        weights.filter_map(|weight| weight.spectral.as_ref()).for_each(|spectral| spectral.advance(env));
    }

    /// The weights, divided by their spectral norms if they have such.
    pub fn weights(&self, env: &Env) -> CriticWeights {
        let of = |weight: &Weight| match &weight.spectral {
            Some(spectral) => spectral.normalized(env),
            None => env.get(&weight.param),
        };
        CriticWeights {
            convs: self.layers.iter().map(|layer| of(&layer.weight)).collect(),
            classes: self.classes.as_ref().map(of),
        }
    }

    /// `x[n, h, w, c] -> [n]`
    pub fn forward(&self, env: &Env, weights: &CriticWeights, x: Var, given: Given) -> Var {
        let t = env.t;
        let x = given.image.map_or(x, |image| beside(t, x, image));
        let n = t.shape(x).dims()[0];
        let (mut map, mut y) = (x, x);
        for (i, (layer, weight)) in self.layers.iter().zip(&weights.convs).enumerate() {
            map = y;
            y = t.scope(&format!("c{}", i + 1), || {
                let y = layer.conv.forward_with(env, y, *weight);
                let y = layer.norm.as_ref().map_or(y, |norm| norm.forward(env, y));
                if i + 1 == self.layers.len() { y } else { t.leaky_relu(y, SLOPE) }
            });
        }
        let y = t.reshape(y, [n]);
        let (Some(table), Some(class)) = (weights.classes, given.class) else { return y };
        // psi(phi(x)) + <V y, phi(x)>
        t.scope("class", || {
            let channels = t.shape(map).last();
            let features = t.reshape(t.sum_to(map, [n, 1, 1, channels]), [n, channels]);
            t.add(y, t.sum_rows(t.mul(t.gather(table, class), features)))
        })
    }
}
