//! The generator: transposed convolutions from a latent vector to an image (Radford et al. 2016, figure 1).
//!
//! With classes, batch norm scales and shifts its channels by the class of the image (Dumoulin, Shlens &
//! Kudlur, "A learned representation for artistic style", ICLR 2017, eq. 5), as in Miyato & Koyama 2018.
//! Given a reduced image, every layer but the first also reads the encoder's map of the same size (Isola et
//! al. 2017, section 3.2.1: skips).

use super::STD;
use super::given::{Encoder, Given, beside};
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
    /// Reads the reduced image, if the model is given one.
    encoder: Option<Encoder>,
}

impl Generator {
    /// Declares `g.t1 g.n1 g.t2 g.n2 ..`, for a latent vector of `latent` dimensions, and the encoder of a
    /// reduced image of `given` channels. `classes` is 0 without classes, `given` without a reduced image.
    pub fn new(set: &mut ParamSet, latent: usize, stages: &Stages, classes: usize, given: usize) -> Self {
        let widths = [&[latent], &stages.widths[..], &[stages.padded.channels]].concat();
        let (mut layers, mut norms) = (vec![], vec![]);
        for (i, pair) in widths.windows(2).enumerate() {
            let (kernel, attrs) =
                if i == 0 { (stages.base, ConvAttrs::new(1, 0)) } else { ([4, 4], ConvAttrs::new(2, 1)) };
            let inputs = if given > 0 && i > 0 { 2 * pair[0] } else { pair[0] };
            let channels = Channels { inputs, outputs: pair[1] };
            layers.push(ConvTranspose::plain(set, &format!("g.t{}", i + 1), channels, kernel, attrs, STD));
            if i + 2 < widths.len() {
                let (path, scale) = (format!("g.n{}", i + 1), Init::Normal(1.0, STD));
                norms.push(match classes {
                    0 => BatchNorm::new(set, &path, pair[1], scale),
                    _ => BatchNorm::by_class(set, &path, classes, pair[1], scale),
                });
            }
        }
        let encoder = (given > 0).then(|| Encoder::new(set, given, stages));
        Generator { layers, norms, encoder }
    }

    /// The running statistics of its batch norms.
    pub fn statistics(&self) -> impl Iterator<Item = &Param> {
        let of_encoder = self.encoder.iter().flat_map(Encoder::statistics);
        self.norms.iter().flat_map(BatchNorm::statistics).chain(of_encoder)
    }

    /// `z[n, 1, 1, d] -> [n, h, w, c]` in [-1, 1], with padding.
    pub fn forward(&self, env: &Env, z: Var, given: Given) -> Var {
        let t = env.t;
        let maps = match (&self.encoder, given.image) {
            (Some(encoder), Some(image)) => encoder.forward(env, image),
            _ => vec![],
        };
        let mut y = z;
        for (i, layer) in self.layers.iter().enumerate() {
            y = t.scope(&format!("t{}", i + 1), || {
                let skip = i.checked_sub(1).and_then(|stage| maps.get(stage));
                let y = layer.forward(env, skip.map_or(y, |map| beside(t, y, *map)));
                match (self.norms.get(i), given.class) {
                    (Some(norm), Some(class)) => t.relu(norm.forward_by_class(env, y, class)),
                    (Some(norm), None) => t.relu(norm.forward(env, y)),
                    (None, _) => t.tanh(y),
                }
            });
        }
        y
    }
}
