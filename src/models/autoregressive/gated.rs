//! Gated PixelCNN (van den Oord et al., "Conditional image generation with PixelCNN decoders", NIPS 2016,
//! figure 2).
//!
//! A stack of masked convolutions cannot reach some of the earlier pixels: what it sees grows to the upper
//! right by only one column per row, which leaves a blind spot. Two stacks have none. The vertical stack
//! sees all rows above in full width. The horizontal stack sees the pixels to the left in its own row and,
//! through a 1x1 convolution, the vertical stack one row up.
//!
//! Only the horizontal stack needs masks, for the order of colours within a pixel: the vertical stack passes
//! on earlier rows only.

use super::{Conditions, Pixels};
use crate::config::Config;
use crate::error::Result;
use crate::models::required;
use crate::nn::{Channels, Conv, Embedding, Env, ParamSet};
use crate::tape::geometry::Mask;
use crate::tape::record::ConvAttrs;
use crate::tape::{Tape, Var};

/// Width of the kernels of the first layer. That of every later layer is `model.kernel`.
const FIRST_KERNEL: usize = 7;

/// A vertical and a horizontal stack of gated layers.
#[derive(Clone, Debug)]
pub struct GatedPixelCnn {
    pixels: Pixels,
    layers: Vec<Layer>,
    head1: Conv,
    head2: Conv,
}

/// One layer of both stacks, p channels wide. Convolutions before a gate have 2p channels.
#[derive(Clone, Debug)]
struct Layer {
    /// Reads the rows above and the row itself, in full width.
    vertical: Conv,
    /// 1x1, reads the vertical stack one row up.
    down: Conv,
    /// Reads the pixels to the left, and from the second layer on the pixel itself.
    horizontal: Conv,
    /// 1x1, after the gate.
    out: Conv,
    /// What the class adds before the vertical and the horizontal gate (eq. 4).
    classes: Option<ClassTables>,
    /// Whether the horizontal stack is added to its input: in all layers but the first, whose input is the
    /// image.
    residual: bool,
}

/// What each class adds before the gate of each stack, `[classes, 2p]`.
#[derive(Clone, Debug)]
struct ClassTables {
    vertical: Embedding,
    horizontal: Embedding,
}

/// The feature maps of both stacks, `[n, h, w, c]` each.
#[derive(Clone, Copy)]
struct Stacks {
    vertical: Var,
    horizontal: Var,
}

impl GatedPixelCnn {
    /// Declares the parameters: `layers.N.{v,v2h,h,ho}`, with classes also `layers.N.{class_v,class_h}`,
    /// `h1`, `h2`.
    pub(super) fn new(set: &mut ParamSet, config: &Config, pixels: Pixels) -> Result<Self> {
        let (p, head) = (required(config.model.hidden, "hidden")?, required(config.model.head, "head")?);
        let colours = pixels.colours();
        let masked = ConvAttrs::masked(Mask::B, 1, colours);
        let kernel = required(config.model.kernel, "kernel")?;
        let layers =
            (0..required(config.model.layers, "layers")?).map(|i| Layer::new(set, i, p, kernel, pixels)).collect();
        let head1 = Conv::new(set, "h1", Channels { inputs: p, outputs: head }, 1, masked);
        let head2 = Conv::new(set, "h2", Channels { inputs: head, outputs: pixels.logits_per_pixel() }, 1, masked);
        Ok(GatedPixelCnn { pixels, layers, head1, head2 })
    }

    /// `x[n, h, w, c] -> logits[n, h, w, c * k]`
    pub fn logits(&self, env: &Env, x: Var, conditions: Conditions) -> Var {
        let t = env.t;
        let x = self.pixels.centred(t, x);
        let mut stacks = Stacks { vertical: x, horizontal: x };
        for (i, layer) in self.layers.iter().enumerate() {
            stacks = t.scope(&format!("layers.{i}"), || layer.forward(env, stacks, conditions));
        }
        let y = t.scope("h1", || self.head1.forward(env, t.relu(stacks.horizontal)));
        t.scope("h2", || self.head2.forward(env, t.relu(y)))
    }
}

impl Layer {
    fn new(set: &mut ParamSet, i: usize, p: usize, later_kernel: usize, pixels: Pixels) -> Self {
        let (first, colours) = (i == 0, pixels.colours());
        let (cin, k) = if first { (colours, FIRST_KERNEL) } else { (p, later_kernel) };
        let r = k / 2;
        let mut conv = |name: &str, channels: Channels, kernel: [usize; 2], attrs: ConvAttrs| {
            Conv::rectangular(set, &format!("layers.{i}.{name}"), channels, kernel, attrs)
        };
        // Output row y reads rows y - r ..= y.
        let above = ConvAttrs { pad: [r, r], pad_end: [0, r as isize], ..ConvAttrs::default() };
        // Output row y reads row y - 1; the first one reads zeros.
        let shifted = ConvAttrs { pad: [1, 0], pad_end: [-1, 0], ..ConvAttrs::default() };
        let mask = if first { Mask::A } else { Mask::B };
        let left = ConvAttrs {
            pad: [0, r],
            pad_end: [0, r as isize],
            mask,
            groups: colours,
            blocks: 2,
            ..ConvAttrs::default()
        };
        let vertical = conv("v", Channels { inputs: cin, outputs: 2 * p }, [r + 1, k], above);
        let down = conv("v2h", Channels { inputs: 2 * p, outputs: 2 * p }, [1, 1], shifted);
        let horizontal = conv("h", Channels { inputs: cin, outputs: 2 * p }, [1, k], left);
        let out = conv("ho", Channels { inputs: p, outputs: p }, [1, 1], ConvAttrs::masked(Mask::B, 1, colours));
        let classes = (pixels.classes > 0).then(|| {
            let mut table = |name: &str| Embedding::new(set, &format!("layers.{i}.{name}"), pixels.classes, 2 * p);
            ClassTables { vertical: table("class_v"), horizontal: table("class_h") }
        });
        Layer { vertical, down, horizontal, out, classes, residual: !first }
    }

    /// `[n, h, w, c] -> [n, h, w, p]` of both stacks.
    fn forward(&self, env: &Env, x: Stacks, conditions: Conditions) -> Stacks {
        let t = env.t;
        let classes = self.classes.as_ref().zip(conditions.class);
        let class_v = classes.map(|(tables, class)| tables.vertical.forward(env, class));
        let class_h = classes.map(|(tables, class)| tables.horizontal.forward(env, class));
        let v = add_everywhere(t, self.vertical.forward(env, x.vertical), class_v);
        let beside = t.add(self.horizontal.forward(env, x.horizontal), self.down.forward(env, v));
        let gated = t.gated(add_everywhere(t, beside, class_h));
        let out = self.out.forward(env, gated);
        let vertical = t.gated(v);
        let horizontal = if self.residual { t.add(out, x.horizontal) } else { out };
        Stacks { vertical, horizontal }
    }
}

/// `x[n, h, w, c] + each[n, c]`, the same at every pixel.
fn add_everywhere(t: &Tape, x: Var, each: Option<Var>) -> Var {
    let Some(each) = each else { return x };
    let (shape, c) = (t.shape(x), t.shape(x).last());
    let one = t.reshape(each, [shape.dims()[0], 1, 1, c]);
    t.add(x, t.expand(one, shape))
}
