//! The recording methods of [`Tape`], with the shapes of their inputs and outputs.
//!
//! There is one method per op that models record, named by the root word of the op, and a few short forms
//! such as [`Tape::mean`] that record several ops. Each method calls [`Tape::record`], which infers the
//! shapes and panics if they do not fit. Nodes are attributed to the caller's line.

use super::functions::{binary_functions, unary_functions};
use super::geometry::{ConvGeom, Mask};
use super::op::{Binary, Counter, Dist, Op, Scalar, Unary};
use super::{Tape, Var};
use crate::rng::Stream;
use crate::shape::Shape;

/// Attributes of a convolution; its extents follow from the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvAttrs {
    /// Rows and columns between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zero rows above, zero columns left.
    pub pad: [usize; 2],
    /// Zero rows below, zero columns right. A negative number leaves out that many rows or columns at the
    /// end of x.
    pub pad_end: [isize; 2],
    /// Which taps are closed.
    pub mask: Mask,
    /// Colour groups of both channel axes.
    pub groups: usize,
    /// Equal blocks of the output channels.
    pub blocks: usize,
}

impl Default for ConvAttrs {
    fn default() -> Self {
        ConvAttrs { stride: [1, 1], pad: [0, 0], pad_end: [0, 0], mask: Mask::None, groups: 1, blocks: 1 }
    }
}

impl ConvAttrs {
    /// The same stride on both axes, the same padding on all four sides, no mask.
    pub fn new(stride: usize, pad: usize) -> Self {
        ConvAttrs { stride: [stride; 2], pad: [pad; 2], pad_end: [pad as isize; 2], ..Default::default() }
    }

    /// A masked convolution of `groups` colours that keeps height and width. `kernel` is odd.
    pub fn masked(mask: Mask, kernel: usize, groups: usize) -> Self {
        ConvAttrs { mask, groups, ..ConvAttrs::new(1, kernel / 2) }
    }

    /// The geometry for x `[n, h, w, cin]` and weights `[kh, kw, cin, cout]`.
    ///
    /// # Errors
    /// A clause that says why they do not fit.
    pub fn geometry(&self, x: Shape, weight: Shape) -> Result<ConvGeom, String> {
        let (&[n, h, w, cin], &[kh, kw, win, cout]) = (x.dims(), weight.dims()) else {
            return Err(format!("x {x} and weight {weight} must have rank 4"));
        };
        if cin != win {
            return Err(format!("x has {cin} channels, the weight {win}"));
        }
        if self.stride.contains(&0) {
            return Err("strides must be at least 1".into());
        }
        let out = |extent: usize, k: usize, axis: usize| {
            let padded = (extent + self.pad[axis]).checked_add_signed(self.pad_end[axis]);
            let room = padded.and_then(|padded| padded.checked_sub(k));
            room.map(|r| r / self.stride[axis] + 1)
                .ok_or(format!("the kernel {kh}x{kw} is larger than the padded x {x}"))
        };
        let (oh, ow) = (out(h, kh, 0)?, out(w, kw, 1)?);
        let ConvAttrs { stride, pad, mask, groups, blocks, .. } = *self;
        let g = ConvGeom { n, h, w, cin, oh, ow, cout, kh, kw, stride, pad, mask, groups, blocks };
        g.validate().map(|()| g)
    }
}

macro_rules! record_unary {
    ([] $($(#[$doc:meta])* $variant:ident $(($argument:ident = $example:literal))? = $code:literal:
        $name:ident(x), $bwd:ident(dy, $saved:ident);)*) => {
        impl Tape {
            $($(#[$doc])* #[track_caller] pub fn $name(&self, x: Var $(, $argument: f64)?) -> Var {
                self.record(Op::Unary(Unary::$variant $(($argument))?), &[x])
            })*
        }
    };
}
unary_functions!(record_unary);

macro_rules! record_binary {
    ([] $($(#[$doc:meta])* $variant:ident = $code:literal: $name:ident(a, b);)*) => {
        impl Tape {
            $($(#[$doc])* #[track_caller] pub fn $name(&self, a: Var, b: Var) -> Var {
                self.record(Op::Binary(Binary::$variant), &[a, b])
            })*
        }
    };
}
binary_functions!(record_binary);

impl Tape {
    /// A constant: `value` in every element.
    #[track_caller]
    pub fn fill(&self, value: f64, shape: impl Into<Shape>) -> Var {
        self.record(Op::Fill { value, shape: shape.into() }, &[])
    }

    /// A scalar, shape `[]`. Lowering the tape panics if two different scalars have the same name.
    #[track_caller]
    pub fn scalar(&self, scalar: Scalar) -> Var {
        self.record(Op::Scalar(scalar), &[])
    }

    /// An elementwise function.
    #[track_caller]
    pub fn unary(&self, f: Unary, x: Var) -> Var {
        self.record(Op::Unary(f), &[x])
    }

    /// `dy * f'`, where `saved` is the output or the input of f, see [`Unary::saves_output`].
    #[track_caller]
    pub fn unary_bwd(&self, f: Unary, dy: Var, saved: Var) -> Var {
        self.record(Op::UnaryBwd(f), &[dy, saved])
    }

    /// scale * x + shift
    #[track_caller]
    pub fn affine(&self, x: Var, scale: f64, shift: f64) -> Var {
        self.record(Op::Affine { scale, shift }, &[x])
    }

    /// scale * x
    #[track_caller]
    pub fn scale(&self, x: Var, scale: f64) -> Var {
        self.affine(x, scale, 0.0)
    }

    /// x * s, where `s` has one element.
    #[track_caller]
    pub fn mul_scalar(&self, x: Var, s: Var) -> Var {
        self.mul(x, self.broadcast(s, self.shape(x)))
    }

    /// min(max(x, lo), hi); has no derivative.
    #[track_caller]
    pub fn clamp(&self, x: Var, lo: f64, hi: f64) -> Var {
        self.record(Op::Clamp { lo, hi }, &[x])
    }

    /// `x[.., 2c] -> tanh(first c) * sigmoid(last c)`: the gated unit (van den Oord et al. 2016b, eq. 2).
    #[track_caller]
    pub fn gated(&self, x: Var) -> Var {
        self.record(Op::Gated, &[x])
    }

    /// `mu + exp(logvar / 2) * eps`, elementwise on equal shapes (Kingma & Welling 2014, eq. 10).
    #[track_caller]
    pub fn reparameterize(&self, mu: Var, logvar: Var, eps: Var) -> Var {
        self.record(Op::Reparameterize, &[mu, logvar, eps])
    }

    /// The index (u32) of the nearest of `levels` levels from 0 to 1.
    #[track_caller]
    pub fn quantize(&self, x: Var, levels: usize) -> Var {
        self.record(Op::Quantize { levels }, &[x])
    }

    /// `index / (levels - 1)`: the pixel value of a level, from 0 to 1.
    #[track_caller]
    pub fn dequantize(&self, index: Var, levels: usize) -> Var {
        self.record(Op::Dequantize { levels }, &[index])
    }

    /// The same elements with another shape.
    #[track_caller]
    pub fn reshape(&self, x: Var, to: impl Into<Shape>) -> Var {
        let to = to.into();
        if self.shape(x) == to { x } else { self.record(Op::Reshape(to), &[x]) }
    }

    /// The same value, which [`Tape::grad`] treats as a constant.
    #[track_caller]
    pub fn detach(&self, x: Var) -> Var {
        self.record(Op::Detach, &[x])
    }

    /// Adds leading and trailing zeros, per axis of the padded rank-4 shape.
    #[track_caller]
    pub fn pad(&self, x: Var, before: [usize; 4], after: [usize; 4]) -> Var {
        self.record(Op::Pad { before, after }, &[x])
    }

    /// Drops leading and trailing entries, per axis of the padded rank-4 shape.
    #[track_caller]
    pub fn slice(&self, x: Var, before: [usize; 4], after: [usize; 4]) -> Var {
        self.record(Op::Slice { before, after }, &[x])
    }

    /// The channels `from..to` of x. Panics if x does not have them.
    #[track_caller]
    pub fn channels(&self, x: Var, from: usize, to: usize) -> Var {
        let c = self.shape(x).last();
        assert!(from <= to && to <= c, "channels {from}..{to} of {c}");
        self.slice(x, [0, 0, 0, from], [0, 0, 0, c - to])
    }

    /// `table[k, d], index[n] (u32) -> [n, d]`: row i of the output is row `index[i]` of the table.
    #[track_caller]
    pub fn gather(&self, table: Var, index: Var) -> Var {
        self.record(Op::Gather, &[table, index])
    }

    /// `dy[n, d], index[n] (u32) -> [rows, d]`: row i of dy is added to row `index[i]` of the output, which
    /// starts at zero.
    #[track_caller]
    pub fn scatter(&self, dy: Var, index: Var, rows: usize) -> Var {
        self.record(Op::Scatter { rows }, &[dy, index])
    }

    /// Sums over every dimension that is 1 in `to`, which has the same rank.
    #[track_caller]
    pub fn sum_to(&self, x: Var, to: impl Into<Shape>) -> Var {
        let to = to.into();
        if self.shape(x) == to { x } else { self.record(Op::Sum(to), &[x]) }
    }

    /// Sum of all elements, shape `[]`.
    #[track_caller]
    pub fn sum(&self, x: Var) -> Var {
        let flat = self.reshape(x, [self.shape(x).len()]);
        let total = self.sum_to(flat, [1]);
        self.reshape(total, [])
    }

    /// Mean of all elements, shape `[]`.
    #[track_caller]
    pub fn mean(&self, x: Var) -> Var {
        self.scale(self.sum(x), 1.0 / self.shape(x).len() as f64)
    }

    /// Sums over all dimensions except the leading one: `[n, ..] -> [n]`.
    #[track_caller]
    pub fn sum_rows(&self, x: Var) -> Var {
        let n = self.shape(x).dims()[0];
        let rows = self.reshape(x, [n, self.shape(x).len() / n.max(1)]);
        self.reshape(self.sum_to(rows, [n, 1]), [n])
    }

    /// Repeats the entry of every dimension that is 1, up to the shape `to`, which has the same rank.
    #[track_caller]
    pub fn expand(&self, x: Var, to: impl Into<Shape>) -> Var {
        let to = to.into();
        if self.shape(x) == to { x } else { self.record(Op::Expand(to), &[x]) }
    }

    /// Expands x to `to`. A single element is repeated everywhere; a vector along the last axis is repeated
    /// along the other axes.
    #[track_caller]
    pub fn broadcast(&self, x: Var, to: impl Into<Shape>) -> Var {
        let to = to.into();
        let mut dims = vec![1; to.rank()];
        if self.shape(x).len() != 1
            && let Some(last) = dims.last_mut()
        {
            *last = self.shape(x).len();
        }
        self.expand(self.reshape(x, Shape::new(&dims)), to)
    }

    /// `x[.., c] + bias[c]`
    #[track_caller]
    pub fn add_bias(&self, x: Var, bias: Var) -> Var {
        self.add(x, self.broadcast(bias, self.shape(x)))
    }

    /// `op(a) op(b)` of matrices, where op transposes a if `ta` and b if `tb`.
    #[track_caller]
    pub fn matmul(&self, a: Var, b: Var, ta: bool, tb: bool) -> Var {
        self.record(Op::Matmul { ta, tb }, &[a, b])
    }

    /// `x[n, h, w, cin], weight[kh, kw, cin, cout] -> y[n, oh, ow, cout]`
    #[track_caller]
    pub fn conv(&self, x: Var, weight: Var, attrs: ConvAttrs) -> Var {
        let g = attrs.geometry(self.shape(x), self.shape(weight)).unwrap_or_else(|why| panic!("conv: {why}"));
        self.record(Op::Conv(g), &[x, weight])
    }

    /// The transposed convolution `y[n, oh, ow, cout], weight[kh, kw, cin, cout] -> [n, h, w, cin]`: the
    /// gradient with respect to x of the convolution with `attrs`. `size` is `[h, w]` and replaces
    /// `attrs.pad_end`, which is not read. PyTorch's `output_padding` is `pad - pad_end`.
    #[track_caller]
    pub fn conv_transpose(&self, y: Var, weight: Var, attrs: ConvAttrs, size: [usize; 2]) -> Var {
        let (ys, ws) = (self.shape(y), self.shape(weight));
        let (&[n, oh, ow, cout], &[kh, kw, cin, wout]) = (ys.dims(), ws.dims()) else {
            panic!("conv_transpose: y {ys} and weight {ws} must have rank 4")
        };
        assert_eq!(cout, wout, "conv_transpose: y {ys} and weight {ws} differ in channels");
        let ConvAttrs { stride, pad, mask, groups, blocks, .. } = attrs;
        let g = ConvGeom { n, h: size[0], w: size[1], cin, oh, ow, cout, kh, kw, stride, pad, mask, groups, blocks };
        self.record(Op::ConvDx(g), &[y, weight])
    }

    /// Batch normalisation of x `[.., c]` with the statistics of the batch; gamma and beta are `[c]` (Ioffe
    /// & Szegedy 2015). Returns y `[.., c]`, the mean `[c]` and 1 / sqrt(var + eps) `[c]` with the biased
    /// variance.
    #[track_caller]
    pub fn batch_norm(&self, x: Var, gamma: Var, beta: Var, eps: f64) -> [Var; 3] {
        let y = self.record(Op::BatchNorm { eps }, &[x, gamma, beta]);
        [y, self.output_of(y, 1), self.output_of(y, 2)]
    }

    /// Batch normalisation of x `[.., c]` with running statistics `mean[c]` and `var[c]`; gamma and beta are
    /// `[c]`. It has no derivative.
    #[track_caller]
    pub fn batch_norm_infer(&self, x: Var, gamma: Var, beta: Var, mean: Var, var: Var, eps: f64) -> Var {
        self.record(Op::BatchNormInfer { eps }, &[x, gamma, beta, mean, var])
    }

    /// Layer normalisation of each row of x `[.., d]`; gamma and beta are `[d]` (Ba et al. 2016).
    #[track_caller]
    pub fn layer_norm(&self, x: Var, gamma: Var, beta: Var, eps: f64) -> Var {
        self.record(Op::LayerNorm { eps }, &[x, gamma, beta])
    }

    /// Group normalisation of x `[n, .., c]`: normalises each image within each of `groups` groups of
    /// neighbouring channels. Gamma and beta are `[c]` (Wu & He 2018, eq. 1 to 7).
    #[track_caller]
    pub fn group_norm(&self, x: Var, gamma: Var, beta: Var, groups: usize, eps: f64) -> Var {
        self.record(Op::GroupNorm { groups, eps }, &[x, gamma, beta])
    }

    /// Binary cross entropy in nats of logits and targets, elementwise on equal shapes.
    #[track_caller]
    pub fn bce_with_logits(&self, logits: Var, target: Var) -> Var {
        self.record(Op::BceWithLogits, &[logits, target])
    }

    /// (x - target)^2, elementwise on equal shapes.
    #[track_caller]
    pub fn mse(&self, x: Var, target: Var) -> Var {
        self.record(Op::Mse, &[x, target])
    }

    /// `logits[m, k], target[m] (u32) -> [m]`: the cross entropy of each row in nats.
    #[track_caller]
    pub fn softmax_cross_entropy(&self, logits: Var, target: Var) -> Var {
        self.record(Op::SoftmaxCrossEntropy, &[logits, target])
    }

    /// KL(N(mu, exp logvar) || N(0, I)) in nats: `mu[n, d], logvar[n, d] -> [n]` (Kingma & Welling 2014,
    /// appendix B).
    #[track_caller]
    pub fn gaussian_kl(&self, mu: Var, logvar: Var) -> Var {
        self.record(Op::GaussianKl, &[mu, logvar])
    }

    /// One LSTM cell on the gates before activation: `z[n, 4h], c[n, h] -> h', c'`.
    #[track_caller]
    pub fn lstm_cell(&self, z: Var, c: Var) -> [Var; 2] {
        let h = self.record(Op::LstmCell, &[z, c]);
        [h, self.output_of(h, 1)]
    }

    /// A whole LSTM: `z[t, n, 4h], h0, c0, w_hh[h, 4h] -> y[t, n, h], c_n`.
    #[track_caller]
    pub fn lstm(&self, z: Var, h0: Var, c0: Var, w_hh: Var) -> [Var; 2] {
        let y = self.record(Op::Lstm, &[z, h0, c0, w_hh]);
        [y, self.output_of(y, 1)]
    }

    /// A Row LSTM on the gates before activation: `z[n, h, w, 4d], w_ss[1, k, d, 4d] -> y[n, h, w, d]` (van
    /// den Oord et al. 2016, section 3.1).
    #[track_caller]
    pub fn row_lstm(&self, z: Var, w_ss: Var) -> Var {
        self.record(Op::RowLstm, &[z, w_ss])
    }

    /// A Diagonal LSTM from left to right, or from right to left if `reverse`, on the gates before
    /// activation: `z[n, h, w, 4d], w_ss[2, 1, d, 4d] -> y[n, h, w, d]` (van den Oord et al. 2016, section
    /// 3.2).
    #[track_caller]
    pub fn diagonal_lstm(&self, z: Var, w_ss: Var, reverse: bool) -> Var {
        self.record(Op::DiagonalLstm { reverse }, &[z, w_ss])
    }

    /// Moves every row of x `[n, h, w, c]` down by one and fills the first row with zeros. Each pixel of the
    /// result is the pixel above it in x.
    #[track_caller]
    pub fn shift_down(&self, x: Var) -> Var {
        self.pad(self.slice(x, [0; 4], [0, 1, 0, 0]), [0, 1, 0, 0], [0; 4])
    }

    /// Random draws for a training plan: every replay draws new numbers.
    #[track_caller]
    pub fn random(&self, dist: Dist, stream: Stream, shape: impl Into<Shape>) -> Var {
        let inputs = [self.scalar(Scalar::SEED), self.scalar(Scalar::REPLAY)];
        self.record(Op::Random { dist, stream, counter: Counter::Replay, shape: shape.into() }, &inputs)
    }

    /// Random draws for sampling and evaluation. They belong to the images of the leading dimension and do
    /// not depend on the batch size.
    #[track_caller]
    pub fn random_by_image(&self, dist: Dist, stream: Stream, shape: impl Into<Shape>) -> Var {
        let inputs = [self.scalar(Scalar::SEED), self.scalar(Scalar::FIRST_IMAGE)];
        self.record(Op::Random { dist, stream, counter: Counter::Image, shape: shape.into() }, &inputs)
    }

    /// A draw from every Gaussian, new at every replay, and the divergence from N(0, I):
    /// `mu[n, d], logvar[n, d] -> z[n, d], kl[n]`. One step does the work of [`random`](Tape::random),
    /// [`reparameterize`](Tape::reparameterize) and [`gaussian_kl`](Tape::gaussian_kl).
    #[track_caller]
    pub fn gaussian_sample(&self, mu: Var, logvar: Var, stream: Stream) -> [Var; 2] {
        let (seed, replay) = (self.scalar(Scalar::SEED), self.scalar(Scalar::REPLAY));
        let z = self.record(Op::GaussianSample { stream }, &[mu, logvar, seed, replay]);
        [z, self.output_of(z, 1)]
    }

    /// `logits[m, k], u[m], temperature[] -> index[m] (u32)`: a draw from softmax(logits / temperature) per
    /// row, from uniform numbers u in [0, 1).
    #[track_caller]
    pub fn categorical(&self, logits: Var, u: Var, temperature: Var) -> Var {
        self.record(Op::Categorical, &[logits, u, temperature])
    }

    /// 1 where u < sigmoid(logit / temperature), else 0, elementwise; logits and u have equal shapes.
    #[track_caller]
    pub fn bernoulli(&self, logits: Var, u: Var, temperature: Var) -> Var {
        self.record(Op::Bernoulli, &[logits, u, temperature])
    }

    /// `decay * average + (1 - decay) * value`
    #[track_caller]
    pub fn ema(&self, average: Var, value: Var, decay: f64) -> Var {
        self.record(Op::Ema { decay }, &[average, value])
    }
}

#[cfg(test)]
mod tests {
    use crate::tape::table::op_table;

    macro_rules! words {
        ($($op:pat => $name:ident($inputs:literal) $family:ident $windows:ident $flops:tt;)*) => {
            const WORDS: &[&str] = &[$(stringify!($name)),*];
        };
    }
    op_table!(words);

    /// A method named by its root word records each op, except the ops that only gradients, optimisers or
    /// the macros of the elementwise functions record.
    #[test]
    fn every_op_has_a_recording_method() {
        const OTHERS: [&str; 6] = ["binary", "conv_dx", "conv_dw", "adam", "rmsprop", "sgd"];
        let sources = [include_str!("record.rs"), include_str!("mod.rs")];
        for word in WORDS.iter().filter(|word| !word.ends_with("_bwd") && !OTHERS.contains(word)) {
            let (plain, generic) = (format!("pub fn {word}("), format!("pub fn {word}<"));
            let is_there = sources.iter().any(|text| text.contains(&plain) || text.contains(&generic));
            assert!(is_there, "src/tape/record.rs has no method {word}");
        }
    }
}
