//! What a PixelCNN sees of an image that it is given whole: convolutions without masks, since nothing of it is drawn.

use crate::data::Reduction;
use crate::nn::{Conv, ConvTranspose, Env, ParamSet};
use crate::tape::Var;
use crate::tape::record::ConvAttrs;

/// Three layers from the given image to a feature map of the size of the images that are drawn.
#[derive(Clone, Debug)]
pub(super) struct Context {
    layers: [Layer; 3],
    /// Height and width of the images that are drawn.
    size: [usize; 2],
}

#[derive(Clone, Debug)]
enum Layer {
    Same(Conv),
    Enlarge(ConvTranspose),
}

impl Context {
    /// Declares the parameters `given.{c1,c2,c3}`, from an image that `reduction` made to `channels`. A grey image
    /// meets a 7x7 and two 3x3 kernels, a small one a 3x3 kernel before it is enlarged by a transposed 4x4 with stride 4.
    pub fn new(set: &mut ParamSet, reduction: Reduction, size: [usize; 3], channels: usize) -> Self {
        let [height, width, _] = size;
        let [.., cin] = reduction.size(size);
        let mut same = |path: &str, cin: usize, k: usize| {
            Layer::Same(Conv::new(set, path, [cin, channels], k, ConvAttrs::new(1, k / 2)))
        };
        let layers = match reduction {
            Reduction::Grey => [same("given.c1", cin, 7), same("given.c2", channels, 3), same("given.c3", channels, 3)],
            Reduction::Small => {
                let first = same("given.c1", cin, 3);
                let last = same("given.c3", channels, 3);
                let enlarge = ConvTranspose::new(set, "given.c2", [channels, channels], 4, ConvAttrs::new(4, 0));
                [first, Layer::Enlarge(enlarge), last]
            }
        };
        Context { layers, size: [height, width] }
    }

    /// `reduced[n, h', w', c'] (0 to 1) -> [n, h, w, channels]`
    pub fn forward(&self, env: &Env, reduced: Var) -> Var {
        let t = env.t;
        let mut y = t.affine(reduced, 2.0, -1.0);
        for (i, layer) in self.layers.iter().enumerate() {
            let x = if i == 0 { y } else { t.relu(y) };
            y = match layer {
                Layer::Same(conv) => conv.forward(env, x),
                Layer::Enlarge(conv) => conv.forward_to(env, x, self.size),
            };
        }
        y
    }
}
