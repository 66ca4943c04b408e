//! PixelCNN (van den Oord et al. 2016, section 3.4). With masked convolutions, training computes all
//! conditionals at once. The residual block is that of figure 5, left.

use super::reduced::ReducedEncoder;
use super::{Conditions, Pixels};
use crate::config::Config;
use crate::error::Result;
use crate::models::required;
use crate::nn::{Channels, Conv, Env, ParamSet};
use crate::tape::Var;
use crate::tape::geometry::Mask;
use crate::tape::record::ConvAttrs;

/// A stack of masked convolutions.
#[derive(Clone, Debug)]
pub struct PixelCnn {
    pixels: Pixels,
    first: Conv,
    /// Reads the reduced image, if the model is given one. Its output is added to that of the first layer.
    encoder: Option<Box<ReducedEncoder>>,
    blocks: Vec<ResidualBlock>,
    head1: Conv,
    head2: Conv,
}

/// A residual block: relu, 1x1 to h; relu, 3x3; relu, 1x1 back to 2h; added to its input.
#[derive(Clone, Debug)]
struct ResidualBlock {
    narrow: Conv,
    spatial: Conv,
    widen: Conv,
}

impl PixelCnn {
    /// Declares the parameters: `first`, `blocks.N.{c1,c2,c3}`, `h1`, `h2`, and those of the encoder if a
    /// reduced image is given.
    pub(super) fn new(set: &mut ParamSet, config: &Config, pixels: Pixels) -> Result<Self> {
        let (h, head) = (required(config.model.hidden, "hidden")?, required(config.model.head, "head")?);
        let colours = pixels.colours();
        let masked = |kind, kernel| ConvAttrs::masked(kind, kernel, colours);
        let first = Conv::new(set, "first", Channels { inputs: colours, outputs: 2 * h }, 7, masked(Mask::A, 7));
        let encoder =
            pixels.reduction.map(|reduction| Box::new(ReducedEncoder::new(set, reduction, pixels.size, 2 * h)));
        let to_narrow = Channels { inputs: 2 * h, outputs: h };
        let within = Channels { inputs: h, outputs: h };
        let to_wide = Channels { inputs: h, outputs: 2 * h };
        let blocks = (0..required(config.model.blocks, "blocks")?)
            .map(|i| ResidualBlock {
                narrow: Conv::new(set, &format!("blocks.{i}.c1"), to_narrow, 1, masked(Mask::B, 1)),
                spatial: Conv::new(set, &format!("blocks.{i}.c2"), within, 3, masked(Mask::B, 3)),
                widen: Conv::new(set, &format!("blocks.{i}.c3"), to_wide, 1, masked(Mask::B, 1)),
            })
            .collect();
        let head1 = Conv::new(set, "h1", Channels { inputs: 2 * h, outputs: head }, 1, masked(Mask::B, 1));
        let to_logits = Channels { inputs: head, outputs: pixels.logits_per_pixel() };
        let head2 = Conv::new(set, "h2", to_logits, 1, masked(Mask::B, 1));
        Ok(PixelCnn { pixels, first, encoder, blocks, head1, head2 })
    }

    /// `x[n, h, w, c] -> logits[n, h, w, c * k]`
    pub fn logits(&self, env: &Env, x: Var, conditions: Conditions) -> Var {
        let t = env.t;
        let mut y = t.scope("first", || self.first.forward(env, self.pixels.centred(t, x)));
        if let (Some(encoder), Some(reduced)) = (&self.encoder, conditions.reduced) {
            y = t.add(y, t.scope("given", || encoder.forward(env, reduced)));
        }
        for (i, block) in self.blocks.iter().enumerate() {
            y = t.scope(&format!("blocks.{i}"), || block.forward(env, y));
        }
        let y = t.scope("h1", || self.head1.forward(env, t.relu(y)));
        t.scope("h2", || self.head2.forward(env, t.relu(y)))
    }
}

impl ResidualBlock {
    fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        let y = self.narrow.forward(env, t.relu(x));
        let y = self.spatial.forward(env, t.relu(y));
        t.add(self.widen.forward(env, t.relu(y)), x)
    }
}
