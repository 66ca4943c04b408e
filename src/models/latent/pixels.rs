//! The distribution of an image given its latent vector: what the numbers mean that the decoder writes.
//!
//! Given z, the colours of all pixels are independent. Bernoulli pixels are 0 or 1. The other distributions
//! are of the 256 levels of a byte. They use the coordinate y = 2 x - 1 in -1 to 1, in which a level is
//! [`LEVEL`] wide, and they give bounds on a probability, never a density:
//!
//! - `logistic`: the probability of a level is the mass of a logistic distribution within half a level
//!   around it; the first and the last level also have the tails (Salimans et al., "PixelCNN++", ICLR
//!   2017, eq. 1 and 2, with one component).
//! - `gaussian`, `gaussian-fixed`: the mass of a normal distribution within half a level around a level
//!   has no elementary form. Its logarithm is at least the mean of the log density there (Jensen), plus
//!   the logarithm of the width (Theis et al., "A note on the evaluation of generative models", ICLR
//!   2016, eq. 4). With u uniform in the level, E (y + u - m)^2 = (y - m)^2 + LEVEL^2 / 12, so this bound
//!   needs no noise.

use crate::config::{Config, DecoderKind};
use crate::error::{Error, Result};
use crate::shape::ImageSize;
use crate::tape::{Tape, Var};
use std::f64::consts::TAU;

/// The width of a level in the coordinate y.
const LEVEL: f64 = 2.0 / 255.0;

/// The least log variance of a normal value: that of the error of rounding to a level. The best variance is
/// never below it, because (y - m)^2 + LEVEL^2 / 12 is the expected square.
fn least_logvar() -> f64 {
    (LEVEL * LEVEL / 12.0).ln()
}

/// The least log scale of a logistic value, as in PixelCNN++. A level at the middle then has a
/// probability of 0.97.
const LEAST_LOG_SCALE: f64 = -7.0;

/// The distribution of the colours of a pixel.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelDistribution {
    kind: DecoderKind,
    /// Colours of a pixel.
    colours: usize,
    /// The standard deviation of `gaussian-fixed`, in the coordinate y.
    deviation: f64,
}

impl PixelDistribution {
    /// The distribution that `config` describes by `model.decoder` and `model.deviation`. A plain
    /// autoencoder has neither key: it is no distribution, and its output is a logit, like that of binary
    /// pixels.
    ///
    /// # Errors
    /// [`Error::Usage`] if the configuration has no `model.deviation` where it is needed.
    #[doc(hidden)]
    pub fn new(config: &Config, image: ImageSize) -> Result<Self> {
        let kind = config.model.decoder.unwrap_or(DecoderKind::Bernoulli);
        let deviation = match (kind, config.model.deviation) {
            (DecoderKind::GaussianFixed, None) => {
                return Err(Error::Usage("the decoder gaussian-fixed needs the key model.deviation".into()));
            }
            (_, deviation) => 2.0 * deviation.unwrap_or_default(),
        };
        Ok(PixelDistribution { kind, colours: image.channels, deviation })
    }

    /// Channels that the decoder writes: a logit or a mean of each colour, then for `gaussian` a log
    /// variance and for `logistic` a log scale of each.
    #[doc(hidden)]
    pub fn outputs(&self) -> usize {
        match self.kind {
            DecoderKind::Bernoulli | DecoderKind::GaussianFixed => self.colours,
            DecoderKind::Gaussian | DecoderKind::Logistic => 2 * self.colours,
        }
    }

    /// Levels that a colour can take.
    pub(crate) fn levels(&self) -> usize {
        if self.kind == DecoderKind::Bernoulli { 2 } else { 256 }
    }

    /// The image as the encoder reads it: binary pixels as they are, levels in -1 to 1.
    #[track_caller]
    pub(super) fn centred(&self, t: &Tape, x: Var) -> Var {
        if self.levels() == 2 { x } else { t.affine(x, 2.0, -1.0) }
    }

    /// `output[n, h, w, outputs], x[n, h, w, c] -> -log p` of each colour of each pixel in nats, `[n, h, w,
    /// c]`; for the normal distributions an upper bound on it.
    #[doc(hidden)]
    #[track_caller]
    pub fn nll(&self, t: &Tape, output: Var, x: Var) -> Var {
        let c = self.colours;
        match self.kind {
            DecoderKind::Bernoulli => t.bce_with_logits(output, x),
            DecoderKind::GaussianFixed => {
                let variance = self.deviation * self.deviation;
                let constant = (TAU * variance).ln() + LEVEL * LEVEL / 12.0 / variance;
                t.affine(t.mse(output, self.centred(t, x)), 0.5 / variance, 0.5 * constant - LEVEL.ln())
            }
            DecoderKind::Gaussian => {
                let (mean, raw) = (t.channels(output, 0, c), t.channels(output, c, 2 * c));
                let logvar = at_least(t, raw, least_logvar());
                let square = t.affine(t.mse(mean, self.centred(t, x)), 1.0, LEVEL * LEVEL / 12.0);
                let ratio = t.mul(square, t.exp(t.scale(logvar, -1.0)));
                t.affine(t.add(logvar, ratio), 0.5, 0.5 * TAU.ln() - LEVEL.ln())
            }
            DecoderKind::Logistic => {
                let (mean, raw) = (t.channels(output, 0, c), t.channels(output, c, 2 * c));
                let inverse = t.exp(t.scale(at_least(t, raw, LEAST_LOG_SCALE), -1.0));
                let centre = t.mul(t.sub(self.centred(t, x), mean), inverse);
                level_of_logistic(t, x, centre, t.scale(inverse, 0.5 * LEVEL))
            }
        }
    }

    /// The image that is shown for an output: the mean of each colour of each pixel in 0 to 1; for
    /// `logistic` the centre of the distribution.
    #[track_caller]
    pub(super) fn mean(&self, t: &Tape, output: Var) -> Var {
        match self.kind {
            DecoderKind::Bernoulli => t.sigmoid(output),
            DecoderKind::Gaussian | DecoderKind::GaussianFixed | DecoderKind::Logistic => {
                t.clamp(t.affine(t.channels(output, 0, self.colours), 0.5, 0.5), 0.0, 1.0)
            }
        }
    }
}

/// A number that is above `least`, and close to `raw` if that is well above it.
#[track_caller]
fn at_least(t: &Tape, raw: Var, least: f64) -> Var {
    t.affine(t.softplus(t.affine(raw, 1.0, -least)), 1.0, least)
}

/// `-log p` of a level under a logistic distribution. `centre` is (y - m) / s and `half` is LEVEL / 2 /
/// s, so the level is between b = centre - half and a = centre + half:
///
/// `-log (sigmoid(a) - sigmoid(b)) = softplus(-a) + softplus(b) - log(1 - exp(-2 half))`
///
/// and `1 - exp(-2 half) = tanh(half) (1 + exp(-2 half))`, which is accurate for wide distributions too. The
/// first level has all that is below a, the last one all that is above b.
#[track_caller]
fn level_of_logistic(t: &Tape, x: Var, centre: Var, half: Var) -> Var {
    let below = t.softplus(t.scale(t.add(centre, half), -1.0));
    let above = t.softplus(t.sub(centre, half));
    let inside = t.add(t.log(t.tanh(half)), t.softplus(t.scale(half, -2.0)));
    // 1 at the level named, 0 at every other. A level is 1 / 255, so rounding does not matter.
    let is_first = t.clamp(t.affine(x, -3.0 * 255.0, 2.0), 0.0, 1.0);
    let is_last = t.clamp(t.affine(x, 3.0 * 255.0, -3.0 * 255.0 + 2.0), 0.0, 1.0);
    let is_not = |level: Var| t.affine(level, -1.0, 1.0);
    let is_between = is_not(t.add(is_first, is_last));
    let edges = t.add(t.mul(below, is_not(is_last)), t.mul(above, is_not(is_first)));
    t.sub(edges, t.mul(inside, is_between))
}
