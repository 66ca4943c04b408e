//! The layers between an image and a latent vector, in both directions.
//!
//! The convolutional layers halve the image in stages ([`stages`]); the decoder mirrors them with transposed
//! convolutions. The dense ones have one hidden layer each way (Kingma & Welling 2014, appendix C.1).

use crate::config::{Config, NetworkKind};
use crate::error::{Error, Result};
use crate::models::required;
use crate::nn::{Channels, Conv, ConvTranspose, Env, Linear, ParamSet};
use crate::shape::ImageSize;
use crate::tape::record::ConvAttrs;
use crate::tape::{Tape, Var};
use std::ops::RangeInclusive;

/// Height and width that an image may have.
const SIDES: RangeInclusive<usize> = 8..=128;

/// The stages go on until the longer side of the map is at most this.
const LONGEST: usize = 8;

/// The image that `config` describes by `model.height`, `model.width` and `model.colours`.
///
/// # Errors
/// [`Error::Usage`] for a size outside of the limits, which it names.
pub(super) fn image(config: &Config) -> Result<ImageSize> {
    let m = &config.model;
    let [height, width, channels] =
        [(m.height, "height"), (m.width, "width"), (m.colours, "colours")].map(|(value, key)| required(value, key));
    let (height, width, channels) = (height?, width?, channels?);
    let refuse = |what: String| Err(Error::Usage(format!("{} models {what}", config.name())));
    if !SIDES.contains(&height) || !SIDES.contains(&width) {
        let (least, most) = SIDES.into_inner();
        return refuse(format!(
            "images of {least} to {most} pixels a side, not {height}x{width}; set model.height and model.width, and scale \
             the images"
        ));
    }
    if ![1, 3].contains(&channels) {
        return refuse(format!("grey and RGB images; set model.colours to 1 or 3, not {channels}"));
    }
    Ok(ImageSize { height, width, channels })
}

/// The image and the maps after each stage of the encoder. A stage halves height and width, rounded up,
/// until the longer one is at most [`LONGEST`]; there is at least one stage. The maps have c, 2c, 4c and 8c
/// channels, because an image of at most 128 pixels a side has at most four stages.
fn stages(image: ImageSize, c: usize) -> Vec<ImageSize> {
    let mut sizes = vec![image];
    let mut channels = c;
    loop {
        let ImageSize { height, width, .. } = sizes[sizes.len() - 1];
        if sizes.len() > 1 && height.max(width) <= LONGEST {
            return sizes;
        }
        sizes.push(ImageSize { height: height.div_ceil(2), width: width.div_ceil(2), channels });
        channels *= 2;
    }
}

/// A 4x4 convolution that halves a map of this size, rounded up: an odd height or width gets one more row or
/// column of zeros at its end.
fn halving(size: ImageSize) -> ConvAttrs {
    let end = |extent: usize| 1 + (extent % 2) as isize;
    ConvAttrs { pad_end: [end(size.height), end(size.width)], ..ConvAttrs::new(2, 1) }
}

/// From an image to hidden units.
#[derive(Clone, Debug)]
pub(super) enum Encoder {
    /// Convolutions with stride 2, and a hidden layer of the flattened last map.
    Convolutional {
        /// One for each stage.
        convs: Vec<Conv>,
        /// Reads the flattened last map.
        hidden: Linear,
    },
    /// One hidden layer of the flattened image.
    Dense(Linear),
}

impl Encoder {
    /// Declares the parameters: `e1`, `e2`, .. (one per stage) and `ef`, or `fc1`.
    pub(super) fn new(set: &mut ParamSet, config: &Config, image: ImageSize) -> Result<Self> {
        let hidden = required(config.model.hidden, "hidden")?;
        if config.network == NetworkKind::VaeMlp {
            return Ok(Encoder::Dense(Linear::from_map(set, "fc1", image, hidden)));
        }
        let sizes = stages(image, required(config.model.channels, "channels")?);
        let conv = |(i, pair): (usize, &[ImageSize])| {
            let channels = Channels { inputs: pair[0].channels, outputs: pair[1].channels };
            Conv::new(set, &format!("e{}", i + 1), channels, 4, halving(pair[0]))
        };
        let convs = sizes.windows(2).enumerate().map(conv).collect();
        let hidden = Linear::from_map(set, "ef", sizes[sizes.len() - 1], hidden);
        Ok(Encoder::Convolutional { convs, hidden })
    }

    /// `x[n, h, w, c], added[n, hidden] -> [n, hidden]`. `added` is added before the activation of the
    /// hidden layer.
    pub(super) fn forward(&self, env: &Env, x: Var, added: Option<Var>) -> Var {
        let t = env.t;
        let n = t.shape(x).dims()[0];
        let flat = |y: Var| t.reshape(y, [n, t.shape(y).len() / n]);
        match self {
            Encoder::Convolutional { convs, hidden } => {
                let stage = |y: Var, (i, conv): (usize, &Conv)| {
                    t.scope(&format!("e{}", i + 1), || t.relu(conv.forward(env, y)))
                };
                let y = convs.iter().enumerate().fold(x, stage);
                t.scope("ef", || t.relu(plus(t, hidden.forward(env, flat(y)), added)))
            }
            Encoder::Dense(hidden) => t.scope("fc1", || t.relu(plus(t, hidden.forward(env, flat(x)), added))),
        }
    }
}

/// From a latent vector to the parameters of the distribution of every pixel.
#[derive(Clone, Debug)]
pub(super) enum Decoder {
    /// Two hidden layers, the second of which is a map, and transposed convolutions with stride 2.
    Convolutional {
        /// Reads the latent vector.
        first: Linear,
        /// Writes the first map.
        second: Linear,
        /// One for each stage, from the smallest map to the image.
        convs: Vec<ConvTranspose>,
        /// The maps before each of them, and the output.
        sizes: Vec<ImageSize>,
    },
    /// One hidden layer.
    Dense {
        /// Reads the latent vector.
        hidden: Linear,
        /// Writes the output.
        out: Linear,
        /// The size of the output.
        size: ImageSize,
    },
}

impl Decoder {
    /// Declares the parameters: `d1`, `d2` and `t1`, `t2`, .. (one per stage), or `fc3` and `fc4`. The
    /// output is a map of the size of `image` with `outputs` channels.
    pub(super) fn new(set: &mut ParamSet, config: &Config, image: ImageSize, outputs: usize) -> Result<Self> {
        let (hidden, dims) = (required(config.model.hidden, "hidden")?, required(config.model.latent, "latent")?);
        let size = ImageSize { channels: outputs, ..image };
        if config.network == NetworkKind::VaeMlp {
            let first = Linear::new(set, "fc3", dims, hidden);
            return Ok(Decoder::Dense { hidden: first, out: Linear::to_map(set, "fc4", hidden, size), size });
        }
        let mut sizes = stages(size, required(config.model.channels, "channels")?);
        sizes.reverse();
        let first = Linear::new(set, "d1", dims, hidden);
        let second = Linear::to_map(set, "d2", hidden, sizes[0]);
        let conv = |(i, pair): (usize, &[ImageSize])| {
            let channels = Channels { inputs: pair[0].channels, outputs: pair[1].channels };
            ConvTranspose::new(set, &format!("t{}", i + 1), channels, 4, halving(pair[1]))
        };
        let convs = sizes.windows(2).enumerate().map(conv).collect();
        Ok(Decoder::Convolutional { first, second, convs, sizes })
    }

    /// `z[n, d], added[n, hidden] -> [n, h, w, outputs]`. `added` is added before the activation of the
    /// first hidden layer.
    pub(super) fn forward(&self, env: &Env, z: Var, added: Option<Var>) -> Var {
        let t = env.t;
        let n = t.shape(z).dims()[0];
        match self {
            Decoder::Convolutional { first, second, convs, sizes } => {
                let y = t.scope("d1", || t.relu(plus(t, first.forward(env, z), added)));
                let y = t.scope("d2", || t.relu(second.forward(env, y)));
                let stage = |y: Var, (i, conv): (usize, &ConvTranspose)| {
                    t.scope(&format!("t{}", i + 1), || {
                        let size = sizes[i + 1];
                        let y = conv.forward_to(env, y, [size.height, size.width]);
                        if i + 1 < convs.len() { t.relu(y) } else { y }
                    })
                };
                convs.iter().enumerate().fold(t.reshape(y, sizes[0].batch(n)), stage)
            }
            Decoder::Dense { hidden, out, size } => {
                let y = t.scope("fc3", || t.relu(plus(t, hidden.forward(env, z), added)));
                let y = t.scope("fc4", || out.forward(env, y));
                t.reshape(y, size.batch(n))
            }
        }
    }
}

/// `y + added`, if there is something to add.
fn plus(t: &Tape, y: Var, added: Option<Var>) -> Var {
    added.map_or(y, |added| t.add(y, added))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;

    fn maps(height: usize, width: usize) -> Vec<[usize; 3]> {
        stages(ImageSize { height, width, channels: 3 }, 5)[1..].iter().map(|size| size.axes()).collect()
    }

    #[test]
    fn the_longer_side_of_the_last_map_is_4_to_8() {
        assert_eq!(maps(28, 28), [[14, 14, 5], [7, 7, 10]]);
        assert_eq!(maps(64, 64), [[32, 32, 5], [16, 16, 10], [8, 8, 20]]);
        assert_eq!(maps(40, 28), [[20, 14, 5], [10, 7, 10], [5, 4, 20]]);
        assert_eq!(maps(8, 8), [[4, 4, 5]]);
        assert_eq!(maps(128, 8), [[64, 4, 5], [32, 2, 10], [16, 1, 20], [8, 1, 40]]);
        for height in SIDES {
            for width in [8, 9, 27, 64, 100, 127, 128] {
                let last = *maps(height, width).last().unwrap();
                assert!((4..=8).contains(&last[0].max(last[1])) && last[2] <= 8 * 5, "{height}x{width}: {last:?}");
            }
        }
    }

    #[test]
    fn sizes_outside_of_the_limits_are_refused_by_name() {
        let refused = |keys: [usize; 3]| {
            let mut config = preset("vae-mnist").unwrap();
            [config.model.height, config.model.width, config.model.colours] = keys.map(Some);
            let error = image(&config).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        for keys in [[7, 28, 1], [28, 129, 1]] {
            assert!(refused(keys).contains("vae-mnist models images of 8 to 128 pixels a side, not"), "{keys:?}");
        }
        assert!(refused([28, 28, 2]).contains("set model.colours to 1 or 3, not 2"));
    }
}
