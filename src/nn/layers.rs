//! Linear, embedding, convolution, transposed convolution and batch norm, with PyTorch's default initial
//! values.

use super::env::{Env, Mode};
use super::params::{Init, Layout, ParamSet};
use crate::shape::{ImageSize, Shape};
use crate::tape::Var;
use crate::tape::op::Param;
use crate::tape::record::ConvAttrs;

/// Uniform in ±1 / sqrt(fan-in): PyTorch's default for linear layers and convolutions.
pub(super) fn by_fan_in(fan_in: usize) -> Init {
    Init::Uniform(1.0 / (fan_in as f32).sqrt())
}

/// A kernel `[kh, kw, ..]` and a bias of `outputs` elements. Both are uniform by the fan-in, which is taps
/// times `inputs`.
fn weight_and_bias(set: &mut ParamSet, path: &str, kernel: [usize; 4], inputs: usize, outputs: usize) -> [Param; 2] {
    let init = by_fan_in(kernel[0] * kernel[1] * inputs);
    let weight = set.weight(&format!("{path}.weight"), kernel, init, Layout::Conv);
    [weight, set.weight(&format!("{path}.bias"), [outputs], init, Layout::Same)]
}

/// A kernel drawn from N(0, std^2).
fn normal_weight(set: &mut ParamSet, path: &str, kernel: [usize; 4], std: f32) -> Param {
    set.weight(&format!("{path}.weight"), kernel, Init::Normal(0.0, std), Layout::Conv)
}

/// `y + bias` along the channels if there is a bias, else `y`.
fn biased(env: &Env, y: Var, bias: &Option<Param>) -> Var {
    match bias {
        Some(bias) => env.t.add_bias(y, env.get(bias)),
        None => y,
    }
}

/// The channels that a convolution reads, and those that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
}

/// `x[n, in] -> x weight + bias`, weight `[in, out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[in, out]`
    pub weight: Param,
    /// `[out]`
    pub bias: Param,
}

impl Linear {
    /// A layer between two vectors.
    pub fn new(set: &mut ParamSet, path: &str, inputs: usize, outputs: usize) -> Self {
        Linear::with_layouts(set, path, inputs, outputs, Layout::Linear, Layout::Same)
    }

    /// A layer that reads a flattened map of this size.
    pub(crate) fn from_map(set: &mut ParamSet, path: &str, map: ImageSize, outputs: usize) -> Self {
        Linear::with_layouts(set, path, map.dims(), outputs, Layout::LinearFromMap(map), Layout::Same)
    }

    /// A layer that writes a map of this size, flattened.
    pub(crate) fn to_map(set: &mut ParamSet, path: &str, inputs: usize, map: ImageSize) -> Self {
        Linear::with_layouts(set, path, inputs, map.dims(), Layout::LinearToMap(map), Layout::BiasOfMap(map))
    }

    fn with_layouts(
        set: &mut ParamSet,
        path: &str,
        inputs: usize,
        outputs: usize,
        weight: Layout,
        bias: Layout,
    ) -> Self {
        let init = by_fan_in(inputs);
        Linear {
            weight: set.weight(&format!("{path}.weight"), [inputs, outputs], init, weight),
            bias: set.weight(&format!("{path}.bias"), [outputs], init, bias),
        }
    }

    /// `[n, in] -> [n, out]`
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        let t = env.t;
        t.add_bias(t.matmul(x, env.get(&self.weight), false, false), env.get(&self.bias))
    }
}

/// A table with one row per class: a linear layer without bias that reads one-hot vectors.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[classes, d]`
    pub table: Param,
}

impl Embedding {
    /// A table under `<path>.weight`, with the initial values of a linear layer.
    pub fn new(set: &mut ParamSet, path: &str, classes: usize, d: usize) -> Self {
        let table = set.weight(&format!("{path}.weight"), [classes, d], by_fan_in(classes), Layout::Same);
        Embedding { table }
    }

    /// `index[n] (u32) -> [n, d]`
    pub fn forward(&self, env: &Env, index: Var) -> Var {
        env.t.gather(env.get(&self.table), index)
    }
}

/// A convolution, with or without a mask, with or without a bias.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[kh, kw, cin, cout]`
    pub weight: Param,
    /// `[cout]`
    pub bias: Option<Param>,
    attrs: ConvAttrs,
}

impl Conv {
    /// A square kernel with PyTorch's default initial values.
    pub fn new(set: &mut ParamSet, path: &str, channels: Channels, kernel: usize, attrs: ConvAttrs) -> Self {
        Conv::rectangular(set, path, channels, [kernel, kernel], attrs)
    }

    /// A kernel of height `kh` and width `kw` with PyTorch's default initial values.
    pub fn rectangular(
        set: &mut ParamSet,
        path: &str,
        channels: Channels,
        [kh, kw]: [usize; 2],
        attrs: ConvAttrs,
    ) -> Self {
        let Channels { inputs, outputs } = channels;
        let [weight, bias] = weight_and_bias(set, path, [kh, kw, inputs, outputs], inputs, outputs);
        Conv { weight, bias: Some(bias), attrs }
    }

    /// A kernel of height `kh` and width `kw` without bias, weights drawn from N(0, std^2).
    pub fn plain(
        set: &mut ParamSet,
        path: &str,
        channels: Channels,
        [kh, kw]: [usize; 2],
        attrs: ConvAttrs,
        std: f32,
    ) -> Self {
        let weight = normal_weight(set, path, [kh, kw, channels.inputs, channels.outputs], std);
        Conv { weight, bias: None, attrs }
    }

    /// The same with a bias that starts at zero.
    pub(crate) fn with_bias(mut self, set: &mut ParamSet, path: &str) -> Self {
        let cout = self.weight.shape.last();
        self.bias = Some(set.weight(&format!("{path}.bias"), [cout], Init::Fill(0.0), Layout::Same));
        self
    }

    /// `[n, h, w, cin] -> [n, oh, ow, cout]`
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        self.forward_with(env, x, env.get(&self.weight))
    }

    /// The same with another value in the place of its weight.
    pub(crate) fn forward_with(&self, env: &Env, x: Var, weight: Var) -> Var {
        biased(env, env.t.conv(x, weight, self.attrs), &self.bias)
    }
}

/// A transposed convolution: `[n, h, w, cin] -> [n, (h - 1) stride - 2 pad + kernel, .., cout]`.
#[derive(Clone, Debug)]
pub struct ConvTranspose {
    /// `[kh, kw, cout, cin]`: the weight of the convolution whose gradient this is.
    pub weight: Param,
    /// `[cout]`
    pub bias: Option<Param>,
    attrs: ConvAttrs,
}

impl ConvTranspose {
    /// A square kernel with PyTorch's default initial values. The fan-in counts the output channels, as in
    /// PyTorch.
    pub fn new(set: &mut ParamSet, path: &str, channels: Channels, kernel: usize, attrs: ConvAttrs) -> Self {
        let Channels { inputs, outputs } = channels;
        let [weight, bias] = weight_and_bias(set, path, [kernel, kernel, outputs, inputs], outputs, outputs);
        ConvTranspose { weight, bias: Some(bias), attrs }
    }

    /// A kernel of height `kh` and width `kw` without bias, weights drawn from N(0, std^2).
    pub fn plain(
        set: &mut ParamSet,
        path: &str,
        channels: Channels,
        [kh, kw]: [usize; 2],
        attrs: ConvAttrs,
        std: f32,
    ) -> Self {
        let weight = normal_weight(set, path, [kh, kw, channels.outputs, channels.inputs], std);
        ConvTranspose { weight, bias: None, attrs }
    }

    /// `[n, h, w, cin] -> [n, h', w', cout]`
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        let (x_shape, w_shape) = (env.t.shape(x), self.weight.shape);
        let size = |axis: usize| {
            let extent = (x_shape.dims()[1 + axis] - 1) * self.attrs.stride[axis] + w_shape.dims()[axis];
            (extent - self.attrs.pad[axis]).saturating_add_signed(-self.attrs.pad_end[axis])
        };
        self.forward_to(env, x, [size(0), size(1)])
    }

    /// The same, with the output cropped or zero-padded at the end to height and width `size`.
    pub(crate) fn forward_to(&self, env: &Env, x: Var, size: [usize; 2]) -> Var {
        biased(env, env.t.conv_transpose(x, env.get(&self.weight), self.attrs, size), &self.bias)
    }
}

/// Batch normalisation over all but the last axis (Ioffe & Szegedy 2015), with running statistics of
/// momentum 0.1. The scale and shift may differ from class to class.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `[c]`, or `[classes, c]`
    pub weight: Param,
    /// `[c]`, or `[classes, c]`
    pub bias: Param,
    running_mean: Param,
    running_var: Param,
}

impl BatchNorm {
    /// Added to the variance.
    const EPS: f64 = 1e-5;
    const MOMENTUM: f64 = 0.1;

    /// A layer over `channels`. The scale is drawn from `scale`, the shift starts at zero.
    pub fn new(set: &mut ParamSet, path: &str, channels: usize, scale: Init) -> Self {
        BatchNorm::with_affine(set, path, [channels].into(), scale)
    }

    /// A layer over `channels` with a scale and a shift per class (Dumoulin et al. 2017, eq. 5). The
    /// statistics are those of all images.
    pub(crate) fn by_class(set: &mut ParamSet, path: &str, classes: usize, channels: usize, scale: Init) -> Self {
        BatchNorm::with_affine(set, path, [classes, channels].into(), scale)
    }

    fn with_affine(set: &mut ParamSet, path: &str, affine: Shape, scale: Init) -> Self {
        let channels = affine.last();
        BatchNorm {
            weight: set.weight(&format!("{path}.weight"), affine, scale, Layout::Same),
            bias: set.weight(&format!("{path}.bias"), affine, Init::Fill(0.0), Layout::Same),
            running_mean: set.state(&format!("{path}.running_mean"), [channels], Init::Fill(0.0)),
            running_var: set.state(&format!("{path}.running_var"), [channels], Init::Fill(1.0)),
        }
    }

    /// Its running mean and variance.
    pub(crate) fn statistics(&self) -> [&Param; 2] {
        [&self.running_mean, &self.running_var]
    }

    /// `[.., c] -> [.., c]`. Training also updates the running statistics, with the unbiased estimate of the
    /// variance.
    pub fn forward(&self, env: &Env, x: Var) -> Var {
        self.normalized(env, x, env.get(&self.weight), env.get(&self.bias))
    }

    /// `x[n, h, w, c], class[n] (u32) -> [n, h, w, c]`: the same with the scale and shift of each image's
    /// class.
    pub(crate) fn forward_by_class(&self, env: &Env, x: Var, class: Var) -> Var {
        let t = env.t;
        let (shape, c) = (t.shape(x), t.shape(x).last());
        let of_class = |table: &Param| {
            let rows = t.gather(env.get(table), class);
            t.expand(t.reshape(rows, [shape.dims()[0], 1, 1, c]), shape)
        };
        let y = self.normalized(env, x, t.fill(1.0, [c]), t.fill(0.0, [c]));
        t.add(t.mul(y, of_class(&self.weight)), of_class(&self.bias))
    }

    fn normalized(&self, env: &Env, x: Var, gamma: Var, beta: Var) -> Var {
        let t = env.t;
        let (mean, var) = (env.get(&self.running_mean), env.get(&self.running_var));
        match env.mode {
            Mode::Infer => t.batch_norm_infer(x, gamma, beta, mean, var, Self::EPS),
            Mode::Train => {
                let [y, batch_mean, inv_std] = t.batch_norm(x, gamma, beta, Self::EPS);
                let rows = t.shape(x).rows() as f64;
                // inv_std = 1 / sqrt(var + eps), so the biased variance is 1 / inv_std^2 - eps.
                let biased = t.affine(t.recip(t.square(inv_std)), 1.0, -Self::EPS);
                let unbiased = t.scale(biased, rows / (rows - 1.0).max(1.0));
                env.set(&self.running_mean, t.ema(mean, batch_mean, 1.0 - Self::MOMENTUM));
                env.set(&self.running_var, t.ema(var, unbiased, 1.0 - Self::MOMENTUM));
                y
            }
        }
    }
}
