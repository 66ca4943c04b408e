//! What a conditional GAN is given of an image: its class, and a reduced form of it (Isola, Zhu, Zhou &
//! Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017).
//!
//! Both networks see the reduced image at the height and width of the whole one. The encoder is the first
//! half of the generator of that paper, whose second half is the generator of a DCGAN.

use super::critic::SLOPE;
use super::{STD, stages::Stages};
use crate::data::Reduction;
use crate::nn::{BatchNorm, Channels, Conv, Env, Init, ParamSet};
use crate::shape::ImageSize;
use crate::tape::op::Param;
use crate::tape::record::ConvAttrs;
use crate::tape::{Tape, Var};

/// What both networks know of an image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// The class of each image, `[n]` (u32), if the model has classes.
    pub class: Option<Var>,
    /// The reduced image in [-1, 1], `[n, h, w, c']`, if the model is given one.
    pub image: Option<Var>,
}

/// `reduced[n, h', w', c']` in 0 to 1 -> `[n, h, w, c']` in [-1, 1], for whole images of size `whole`. Each
/// pixel of a smaller image is repeated.
pub(super) fn enlarged(t: &Tape, reduction: Reduction, reduced: Var, whole: ImageSize) -> Var {
    let (n, ImageSize { height, width, channels }) = (t.shape(reduced).dims()[0], reduction.size(whole));
    let factor = reduction.factor();
    let y = t.affine(reduced, 2.0, -1.0);
    if factor == 1 {
        return y;
    }
    let repeat = |y: Var, outer: usize, inner: usize| t.expand(t.reshape(y, [outer, 1, inner]), [outer, factor, inner]);
    let rows = repeat(y, n * height, width * channels);
    let pixels = repeat(rows, n * height * factor * width, channels);
    let (rows, columns) = (height * factor, width * factor);
    // A block of pixels may be cut off at the lower and right border.
    let y = t.reshape(pixels, [n, rows, columns, channels]);
    let excess = [0, rows - whole.height, columns - whole.width, 0];
    if excess == [0; 4] { y } else { t.slice(y, [0; 4], excess) }
}

/// The channels of a, then those of b: `[n, h, w, a], [n, h, w, b] -> [n, h, w, a + b]`.
pub(super) fn beside(t: &Tape, a: Var, b: Var) -> Var {
    let (of_a, of_b) = (t.shape(a).last(), t.shape(b).last());
    t.add(t.pad(a, [0; 4], [0, 0, 0, of_b]), t.pad(b, [0, 0, 0, of_a], [0; 4]))
}

/// reduced image -> .. -> base map, half as high and as wide with every layer.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    layers: Vec<Conv>,
    /// After every layer but the first (ibid., section 6.1.1).
    norms: Vec<Option<BatchNorm>>,
}

impl Encoder {
    /// Declares `g.e1 g.e2 g.m2 ..`, one layer per stage, for a reduced image of `channels` channels.
    pub fn new(set: &mut ParamSet, channels: usize, stages: &Stages) -> Self {
        let (mut layers, mut norms, mut inputs) = (vec![], vec![], channels);
        for (i, outputs) in stages.widths.iter().rev().copied().enumerate() {
            let (path, attrs) = (format!("g.e{}", i + 1), ConvAttrs::new(2, 1));
            layers.push(Conv::plain(set, &path, Channels { inputs, outputs }, [4, 4], attrs, STD));
            let norm = || BatchNorm::new(set, &format!("g.m{}", i + 1), outputs, Init::Normal(1.0, STD));
            norms.push((i > 0).then(norm));
            inputs = outputs;
        }
        Encoder { layers, norms }
    }

    /// The running statistics of its batch norms.
    pub fn statistics(&self) -> impl Iterator<Item = &Param> {
        self.norms.iter().flatten().flat_map(BatchNorm::statistics)
    }

    /// `image[n, h, w, c']` -> the maps of all stages, the base map first.
    pub fn forward(&self, env: &Env, image: Var) -> Vec<Var> {
        let t = env.t;
        let (mut maps, mut y) = (vec![], image);
        for (i, (layer, norm)) in self.layers.iter().zip(&self.norms).enumerate() {
            y = t.scope(&format!("e{}", i + 1), || {
                let y = layer.forward(env, y);
                t.leaky_relu(norm.as_ref().map_or(y, |norm| norm.forward(env, y)), SLOPE)
            });
            maps.insert(0, y);
        }
        maps
    }
}
