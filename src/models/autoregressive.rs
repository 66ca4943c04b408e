//! PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural networks", ICML 2016).
//!
//! p(x) is the product over all pixels of p(x_i | x_1 .. x_{i-1}) in raster order (eq. 1). Masked convolutions (section
//! 3.4) let every conditional be computed at once in training; the residual block is the one of figure 5, left.

use super::size;
use crate::config::Config;
use crate::error::Result;
use crate::nn::{Conv, Env, Mode, ParamSet};
use crate::optim::Learner;
use crate::rng::Stream;
use crate::shape::Meta;
use crate::tape::geometry::Mask;
use crate::tape::op::{Dist, Scalar};
use crate::tape::plan::Plan;
use crate::tape::record::ConvAttrs;
use crate::tape::{Tape, Var};

const SIDE: usize = 28;

/// PixelCNN on binary images.
#[derive(Clone, Debug)]
pub struct PixelCnn {
    set: ParamSet,
    first: Conv,
    blocks: Vec<Block>,
    head1: Conv,
    head2: Conv,
    learner: Learner,
}

/// Relu, 1x1 to h; relu, 3x3; relu, 1x1 back to 2h; added to the input.
#[derive(Clone, Debug)]
struct Block {
    narrow: Conv,
    spatial: Conv,
    widen: Conv,
}

impl PixelCnn {
    /// Declares the parameters: `first`, `blocks.N.{c1,c2,c3}`, `h1`, `h2`.
    pub(super) fn new(set: &mut ParamSet, config: &Config) -> Result<Self> {
        let (h, head) = (size(config.model.hidden, "hidden")?, size(config.model.head, "head")?);
        let masked = |kind, kernel| ConvAttrs::masked(kind, kernel, 1);
        let first = Conv::new(set, "first", [1, 2 * h], 7, masked(Mask::A, 7));
        let blocks = (0..size(config.model.blocks, "blocks")?)
            .map(|i| Block {
                narrow: Conv::new(set, &format!("blocks.{i}.c1"), [2 * h, h], 1, masked(Mask::B, 1)),
                spatial: Conv::new(set, &format!("blocks.{i}.c2"), [h, h], 3, masked(Mask::B, 3)),
                widen: Conv::new(set, &format!("blocks.{i}.c3"), [h, 2 * h], 1, masked(Mask::B, 1)),
            })
            .collect();
        let head1 = Conv::new(set, "h1", [2 * h, head], 1, masked(Mask::B, 1));
        let head2 = Conv::new(set, "h2", [head, 1], 1, masked(Mask::B, 1));
        let weights = set.weights().cloned().collect();
        let learner = Learner::new(set, weights, config, Scalar::Step);
        Ok(PixelCnn { set: set.clone(), first, blocks, head1, head2, learner })
    }

    /// `x[n, 28, 28, 1] -> logits[n, 28, 28, 1]` of p(x_i = 1 | what comes before).
    pub fn logits(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let mut y = t.scope("first", || self.first.forward(env, x));
        for (i, block) in self.blocks.iter().enumerate() {
            y = t.scope(&format!("blocks.{i}"), || block.forward(env, y));
        }
        let y = t.scope("h1", || self.head1.forward(env, t.relu(y)));
        t.scope("h2", || self.head2.forward(env, t.relu(y)))
    }

    /// One step: loss `nll` in nats an image.
    pub(super) fn training(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::new(&t, Mode::Train);
        let x = t.input("x", Meta::f32([batch, SIDE, SIDE, 1]));
        let loss = t.mean(t.bce_with_logits(self.logits(&env, x), x));
        t.output("nll", t.scale(loss, (SIDE * SIDE) as f32));
        if let Some(norm) = self.learner.minimize(&env, loss) {
            t.output("grad_norm", norm);
        }
        env.commit();
        Plan::new("pixelcnn.train", &t)
    }

    /// `x -> nll[n]`: the exact negative log-likelihood of each image in nats.
    pub fn likelihood(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let x = t.input("x", Meta::f32([batch, SIDE, SIDE, 1]));
        t.output("nll", t.sum_rows(t.bce_with_logits(self.logits(&env, x), x)));
        Plan::new("pixelcnn.likelihood", &t)
    }

    /// `x -> draw[n, 28, 28, 1]`: a draw of every pixel given what comes before it in x. Drawing an image replays this
    /// once a pixel; the draw of a pixel depends on the seed, the image's index and the pixel's index alone.
    pub fn draw(&self, batch: usize) -> Plan {
        let t = Tape::new();
        let env = Env::infer(&t, &self.set);
        let shape = [batch, SIDE, SIDE, 1];
        let x = t.input("x", Meta::f32(shape));
        let u = t.random_by_image(Dist::Uniform, Stream::Pixel, shape);
        t.output("draw", t.bernoulli(self.logits(&env, x), u, t.scalar(Scalar::Temperature)));
        Plan::new("pixelcnn.draw", &t)
    }
}

impl Block {
    fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let y = self.narrow.forward(env, t.relu(x));
        let y = self.spatial.forward(env, t.relu(y));
        t.add(self.widen.forward(env, t.relu(y)), x)
    }
}
