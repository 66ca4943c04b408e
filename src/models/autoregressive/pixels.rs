//! The images of an autoregressive model, and what is computed from its logits: losses and draws.

use crate::config::{Config, ReducedImage};
use crate::data::Reduction;
use crate::error::Result;
use crate::models::required;
use crate::shape::{ImageSize, Meta};
use crate::tape::{InputRole, Tape, Var};

/// The images of a model: their extents, and the number of levels that a colour of a pixel can take.
///
/// Values are in 0 to 1, with `levels` levels at equal distances. Binary pixels (two levels) have one logit,
/// that of p(1). With more levels, each level has a logit, and the logits of colour g are the channels
/// `g * levels .. (g + 1) * levels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Their size; a channel is a colour.
    pub size: ImageSize,
    /// Number of levels, at least 2.
    pub levels: usize,
    /// Number of classes that the model is conditional on; 0 if it is not conditional on a class.
    pub classes: usize,
    /// How the reduced image is made that the model is conditional on, if it is.
    pub reduction: Option<Reduction>,
}

impl Pixels {
    /// The images that `config` describes by `model.height`, `model.width`, `model.colours`, `model.levels`
    /// and, where the network has them, `model.classes` and `model.reduced`.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let m = &config.model;
        let reduction = m.reduced.and_then(ReducedImage::reduction);
        let extents = [(m.height, "height"), (m.width, "width"), (m.colours, "colours"), (m.levels, "levels")];
        let [height, width, colours, levels] = extents.map(|(value, key)| required(value, key));
        let size = ImageSize { height: height?, width: width?, channels: colours? };
        Ok(Pixels { size, levels: levels?, classes: m.classes.unwrap_or(0), reduction })
    }

    /// Colour groups of the masks.
    pub(crate) fn colours(&self) -> usize {
        self.size.channels
    }

    /// Number of dimensions of an image.
    #[doc(hidden)]
    pub fn dims(&self) -> usize {
        self.size.dims()
    }

    /// Number of logits of one dimension.
    #[doc(hidden)]
    pub fn logits_per_dimension(&self) -> usize {
        if self.levels == 2 { 1 } else { self.levels }
    }

    /// Number of logits of one pixel: the channels of a network's output.
    pub(crate) fn logits_per_pixel(&self) -> usize {
        self.colours() * self.logits_per_dimension()
    }

    /// Declares images as an input: `[n, h, w, c]`, values in 0 to 1.
    #[track_caller]
    pub(crate) fn input(&self, t: &Tape, batch: usize) -> Var {
        t.input_of(InputRole::Images, Meta::f32(self.size.batch(batch)))
    }

    /// The image as the first layer reads it: binary pixels as they are, others in -1 to 1.
    #[track_caller]
    pub(crate) fn centred(&self, t: &Tape, x: Var) -> Var {
        if self.levels == 2 { x } else { t.affine(x, 2.0, -1.0) }
    }

    /// `logits[n, h, w, c * k], x[n, h, w, c] -> -log p` of each dimension of x, `[n, h, w, c]`.
    #[track_caller]
    pub(crate) fn nll(&self, t: &Tape, logits: Var, x: Var) -> Var {
        if self.levels == 2 {
            return t.bce_with_logits(logits, x);
        }
        let shape = t.shape(x);
        // Every dimension is a row of k logits.
        let target = t.reshape(t.quantize(x, self.levels), [shape.len()]);
        let nll = t.softmax_cross_entropy(t.reshape(logits, [shape.len(), self.levels]), target);
        t.reshape(nll, shape)
    }

    /// `logits[n, h, w, c * k], u[n, h, w, c], temperature[] -> draw[n, h, w, c]`: a draw of each dimension,
    /// in 0 to 1.
    #[track_caller]
    pub(crate) fn draw(&self, t: &Tape, logits: Var, u: Var, temperature: Var) -> Var {
        if self.levels == 2 {
            return t.bernoulli(logits, u, temperature);
        }
        let shape = t.shape(u);
        let (logits, u) = (t.reshape(logits, [shape.len(), self.levels]), t.reshape(u, [shape.len()]));
        let level = t.categorical(logits, u, temperature);
        t.reshape(t.dequantize(level, self.levels), shape)
    }
}
