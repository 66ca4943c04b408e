//! The layers through which a PixelCNN reads a reduced image. They have no masks, because the whole reduced
//! image is known before the first pixel is drawn.

use crate::data::Reduction;
use crate::nn::{Channels, Conv, ConvTranspose, Env, ParamSet};
use crate::shape::ImageSize;
use crate::tape::Var;
use crate::tape::record::ConvAttrs;

/// Three layers from the reduced image to a feature map of the size of the image that is drawn.
#[derive(Clone, Debug)]
pub(super) struct ReducedEncoder {
    layers: [Layer; 3],
    /// The size of the image that is drawn.
    size: ImageSize,
}

#[derive(Clone, Debug)]
enum Layer {
    Same(Conv),
    Enlarge(ConvTranspose),
}

impl ReducedEncoder {
    /// Declares the parameters `given.{c1,c2,c3}`, from an image that `reduction` makes to `channels`
    /// channels. A grey image goes through a 7x7 and two 3x3 kernels. A small image goes through a 3x3
    /// kernel, is enlarged by a transposed 4x4 kernel with stride 4, and goes through another 3x3 kernel.
    pub fn new(set: &mut ParamSet, reduction: Reduction, size: ImageSize, channels: usize) -> Self {
        let given = reduction.size(size).channels;
        let mut same = |path: &str, inputs: usize, k: usize| {
            Layer::Same(Conv::new(set, path, Channels { inputs, outputs: channels }, k, ConvAttrs::new(1, k / 2)))
        };
        let layers = match reduction {
            Reduction::Grey => {
                [same("given.c1", given, 7), same("given.c2", channels, 3), same("given.c3", channels, 3)]
            }
            Reduction::Small => {
                let first = same("given.c1", given, 3);
                let last = same("given.c3", channels, 3);
                let within = Channels { inputs: channels, outputs: channels };
                let enlarge = ConvTranspose::new(set, "given.c2", within, 4, ConvAttrs::new(4, 0));
                [first, Layer::Enlarge(enlarge), last]
            }
        };
        ReducedEncoder { layers, size }
    }

    /// `reduced[n, h', w', c'] (0 to 1) -> [n, h, w, channels]`
    pub fn forward(&self, env: &Env, reduced: Var) -> Var {
        let t = env.t;
        let mut y = t.affine(reduced, 2.0, -1.0);
        for (i, layer) in self.layers.iter().enumerate() {
            let x = if i == 0 { y } else { t.relu(y) };
            y = match layer {
                Layer::Same(conv) => conv.forward(env, x),
                Layer::Enlarge(conv) => conv.forward_to(env, x, [self.size.height, self.size.width]),
            };
        }
        y
    }
}
