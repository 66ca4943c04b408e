//! The generator: transposed convolutions from a latent vector to an image (Radford et al. 2016, figure 1).
//!
//! With classes, batch norm scales and shifts its channels by the class of the image (Dumoulin, Shlens &
//! Kudlur, "A learned representation for artistic style", ICLR 2017, eq. 5), as in Miyato & Koyama 2018.

use super::STD;
use super::stages::Stages;
use crate::nn::{BatchNorm, Channels, ConvTranspose, Env, Init, ParamSet};
use crate::tape::Var;
use crate::tape::op::Param;
use crate::tape::record::ConvAttrs;

/// z -> base map -> .. -> image, twice as high and as wide with every layer but the first.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    layers: Vec<ConvTranspose>,
    /// After every layer but the last.
    norms: Vec<BatchNorm>,
}

impl Generator {
    /// Declares `g.t1 g.n1 g.t2 g.n2 ..`, for a latent vector of `latent` dimensions. `classes` is 0 without
    /// classes.
    pub fn new(set: &mut ParamSet, latent: usize, stages: &Stages, classes: usize) -> Self {
        let widths = [&[latent], &stages.widths[..], &[stages.padded.channels]].concat();
        let (mut layers, mut norms) = (vec![], vec![]);
        for (i, pair) in widths.windows(2).enumerate() {
            let (kernel, attrs) =
                if i == 0 { (stages.base, ConvAttrs::new(1, 0)) } else { ([4, 4], ConvAttrs::new(2, 1)) };
            let channels = Channels { inputs: pair[0], outputs: pair[1] };
            layers.push(ConvTranspose::plain(set, &format!("g.t{}", i + 1), channels, kernel, attrs, STD));
            if i + 2 < widths.len() {
                let (path, scale) = (format!("g.n{}", i + 1), Init::Normal(1.0, STD));
                norms.push(match classes {
                    0 => BatchNorm::new(set, &path, pair[1], scale),
                    _ => BatchNorm::by_class(set, &path, classes, pair[1], scale),
                });
            }
        }
        Generator { layers, norms }
    }

    /// The running statistics of its batch norms.
    pub fn statistics(&self) -> impl Iterator<Item = &Param> {
        self.norms.iter().flat_map(BatchNorm::statistics)
    }

    /// `z[n, 1, 1, d], class[n] (u32) -> [n, h, w, c]` in [-1, 1], with padding.
    pub fn forward(&self, env: &Env, z: Var, class: Option<Var>) -> Var {
        let t = env.t;
        let mut y = z;
        for (i, layer) in self.layers.iter().enumerate() {
            y = t.scope(&format!("t{}", i + 1), || {
                let y = layer.forward(env, y);
                match (self.norms.get(i), class) {
                    (Some(norm), Some(class)) => t.relu(norm.forward_by_class(env, y, class)),
                    (Some(norm), None) => t.relu(norm.forward(env, y)),
                    (None, _) => t.tanh(y),
                }
            });
        }
        y
    }
}
