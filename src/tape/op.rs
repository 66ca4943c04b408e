//! The ops: everything that the crate can compute. One root word names an op everywhere: in the variant, the
//! kernel, the shader and the test cases.
//!
//! Gradients are defined for ops (`grad.rs`). Backends run steps, which the planner makes from ops
//! (`lower.rs`). Images are NHWC. A *row* consists of all elements that share every index except the last
//! one, e.g. the channels of a pixel.

pub use super::functions::{Binary, Unary};
use super::geometry::ConvGeom;
use crate::rng::Stream;
use crate::shape::{DType, Shape};
use std::rc::Rc;

/// A trainable parameter or a piece of state, by its index in the set of its model's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub u32);

/// A handle to a parameter or a piece of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its index in the set that it belongs to.
    pub id: ParamId,
    /// Its name in a checkpoint: `params/..`, `optim/<slot>/..`, `ema/..` or `state/..`.
    pub path: Rc<str>,
    /// Its shape, channels last.
    pub shape: Shape,
}

/// An input of a plan: its index in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub u32);

/// A named single number on the device that may change from one replay of a plan to the next.
///
/// A plan declares the scalars that it reads, and [`Scalars`](crate::backend::Scalars) holds the values of a
/// replay. The random ops read the constants defined here; optimisers and models declare their own scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scalar {
    name: &'static str,
    dtype: DType,
    /// Its value, as a word, in a replay that does not set it.
    unset: u32,
}

impl Scalar {
    /// Seed of every random stream.
    pub const SEED: Scalar = Scalar::u32("Seed");
    /// How often this plan has run: the counter of training draws.
    pub const REPLAY: Scalar = Scalar::u32("Replay");
    /// Index of the first image of a batch that is sampled or evaluated: the counter of its draws.
    pub const FIRST_IMAGE: Scalar = Scalar::u32("FirstImage");

    /// A float. Its value is `unset` in a replay that does not set it.
    pub const fn f32(name: &'static str, unset: f32) -> Scalar {
        Scalar { name, dtype: DType::F32, unset: unset.to_bits() }
    }

    /// An unsigned integer. Its value is 0 in a replay that does not set it.
    pub(crate) const fn u32(name: &'static str) -> Scalar {
        Scalar { name, dtype: DType::U32, unset: 0 }
    }

    /// Its name, which is unique in a plan.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its type.
    #[doc(hidden)]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its value, as a word, in a replay that does not set it.
    pub(crate) fn unset(&self) -> u32 {
        self.unset
    }
}

/// A scalar of a plan: its index in the order in which the live scalars were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScalarId(pub u32);

/// A distribution to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dist {
    /// Uniform in [0, 1), in steps of 2^-24.
    Uniform,
    /// N(0, 1) by Box-Muller.
    Normal,
}

/// The counter that indexes the draws of a random op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// (replay of the plan, element index). Training uses it.
    Replay,
    /// (image index, index within the image), where the leading dimension counts images. Sampling and
    /// evaluation use it, because their results must not depend on the batch size.
    Image,
}

/// One operation. The docs of a variant give `inputs -> outputs` with their shapes in brackets; `infer.rs`
/// infers them. Attributes that are real numbers are f64. A backend computes the numbers that its kernels
/// need from them, e.g. 1 - decay, and rounds each once to f32.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // ---- 1. leaves ---------------------------------------------------------------------------------------
    /// Fed before each replay.
    Input(InputId),
    /// The value of a parameter before any store of this plan.
    Param(ParamId),
    /// A scalar, shape `[]`.
    Scalar(Scalar),
    /// A constant: the same number in every element.
    Fill {
        /// The number.
        value: f64,
        /// The shape of the output.
        shape: Shape,
    },

    // ---- 2. elementwise ----------------------------------------------------------------------------------
    /// `x -> f(x)`
    Unary(Unary),
    /// `dy, saved -> dy * f'(..)`; `saved` is y or x, see [`Unary::saves_output`].
    UnaryBwd(Unary),
    /// `a, b -> a op b`
    Binary(Binary),
    /// `x -> scale * x + shift`
    Affine {
        /// The factor.
        scale: f64,
        /// The addend.
        shift: f64,
    },
    /// `x -> min(max(x, lo), hi)`; has no derivative.
    Clamp {
        /// The lower bound.
        lo: f64,
        /// The upper bound.
        hi: f64,
    },
    /// `x[.., 2c] -> tanh(first c) * sigmoid(last c)`
    Gated,
    /// `dy[.., c], x[.., 2c] -> dx[.., 2c]`
    GatedBwd,
    /// `mu, logvar, eps -> mu + exp(logvar / 2) * eps` (Kingma & Welling 2014, eq. 10)
    Reparameterize,
    /// `x -> index (u32)`: the nearest of `levels` levels from 0 to 1, `floor(x * (levels - 1) + 1/2)`;
    /// values below 0 and above 1 become the first and the last level.
    Quantize {
        /// Number of levels, at least 2.
        levels: usize,
    },
    /// `index (u32) -> index / (levels - 1)`: the pixel value of a level.
    Dequantize {
        /// Number of levels, at least 2.
        levels: usize,
    },

    // ---- 3. shape ----------------------------------------------------------------------------------------
    /// The same elements with another shape. It is an alias and makes no step.
    Reshape(Shape),
    /// The same value, but no gradient passes through it. It is an alias and makes no step.
    Detach,
    /// Adds zeros on both sides of each dimension. The arrays count the dimensions of [`Shape::padded`].
    Pad {
        /// Number of zeros before the first entry, per dimension.
        before: [usize; 4],
        /// Number of zeros after the last entry, per dimension.
        after: [usize; 4],
    },
    /// The inverse of `Pad` with the same numbers: drops `before` leading and `after` trailing entries.
    Slice {
        /// Leading entries that are dropped, per dimension.
        before: [usize; 4],
        /// Trailing entries that are dropped, per dimension.
        after: [usize; 4],
    },
    /// `table[k, d], index[n] (u32) -> [n, d]`
    Gather,
    /// `dy[n, d], index[n] (u32) -> [rows, d]`: row i of dy is added to row `index[i]` of the output, which
    /// starts at zero, in the order of i.
    Scatter {
        /// Rows of the output.
        rows: usize,
    },

    // ---- 4. reductions -----------------------------------------------------------------------------------
    /// Sums over every dimension that is 1 in the target shape, which has the same rank.
    Sum(Shape),
    /// Repeats the entry of every dimension that is 1, up to the target shape, which has the same rank.
    Expand(Shape),

    // ---- 5. products -------------------------------------------------------------------------------------
    /// `a, b -> op(a) op(b)`, shape `[m, n]`. op transposes or does nothing; op(a) is `[m, k]`, op(b) is
    /// `[k, n]`.
    Matmul {
        /// Whether a is transposed.
        ta: bool,
        /// Whether b is transposed.
        tb: bool,
    },
    /// `x[n, h, w, cin], w[kh, kw, cin, cout] -> y[n, oh, ow, cout]`
    Conv(ConvGeom),
    /// `dy, w -> dx`, with the shapes of y, w and x in `Conv`; also the transposed convolution.
    ConvDx(ConvGeom),
    /// `x, dy -> dw`, with the shapes of x, y and w in `Conv`. The gradient of a closed weight is exactly
    /// zero.
    ConvDw(ConvGeom),

    // ---- 6. normalisation --------------------------------------------------------------------------------
    /// `x[.., c], gamma[c], beta[c] -> y, mean[c], inv_std[c]`: normalises over all rows, with the biased
    /// variance (Ioffe & Szegedy 2015).
    BatchNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
    BatchNormBwd,
    /// `x[.., c], gamma[c], beta[c], mean[c], var[c] -> y`
    BatchNormInfer {
        /// Added to the variance.
        eps: f64,
    },
    /// `x[.., d], gamma[d], beta[d] -> y, mean[rows], inv_std[rows]`: normalises within each row (Ba et al.
    /// 2016).
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
    LayerNormBwd,
    /// `x[n, .., c], gamma[c], beta[c] -> y, mean[n, groups], inv_std[n, groups]`: normalises over all
    /// pixels of an image in the c / groups neighbouring channels of a group, with the biased variance (Wu &
    /// He 2018, eq. 1 to 7).
    GroupNorm {
        /// Groups of neighbouring channels, a divisor of c.
        groups: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`. The last dimension of the mean is the number of
    /// groups.
    GroupNormBwd,

    // ---- 7. losses ---------------------------------------------------------------------------------------
    /// `logits, target -> max(l, 0) - l t + log(1 + exp(-|l|))`, elementwise
    BceWithLogits,
    /// `x, target -> (x - target)^2`, elementwise
    Mse,
    /// `logits[m, k], target[m] (u32) -> -log softmax(logits)[target]`, `[m]`
    SoftmaxCrossEntropy,
    /// `dy[m], logits[m, k], target[m] (u32) -> dlogits[m, k]`
    SoftmaxCrossEntropyBwd,
    /// `mu[n, d], logvar[n, d] -> KL(N(mu, exp logvar) || N(0, I))`, `[n]` (Kingma & Welling 2014, appendix
    /// B)
    GaussianKl,

    // ---- 8. recurrence -----------------------------------------------------------------------------------
    /// `z[n, 4h] (gates i f g o before activation), c[n, h] -> h'[n, h], c'[n, h], gates[n, 4h]` (activated)
    LstmCell,
    /// `dh'[n, h], dc'[n, h], c[n, h], c'[n, h], gates[n, 4h] -> dz[n, 4h], dc[n, h]`
    LstmCellBwd,
    /// `z[t, n, 4h] (input part of the gates), h0[n, h], c0[n, h], w_hh[h, 4h]`
    /// `-> y[t, n, h], c_n[n, h], kept[t, n, 5h]`. `kept` holds the activated gates i f g o and the cell of
    /// every time step for the backward pass. The final state h_n is the last y.
    Lstm,
    /// `dy[t, n, h], dc_n[n, h], c0[n, h], w_hh[h, 4h], kept[t, n, 5h]`
    /// `-> dz[t, n, 4h], dh0[n, h], dc0[n, h]`. The gradient of `w_hh` is a matmul of the shifted y with dz,
    /// recorded by `grad`.
    LstmBwd,
    /// `z[n, h, w, 4d] (input part of the gates), w_ss[1, k, d, 4d] -> y[n, h, w, d], kept[n, h, w, 5d]`,
    /// with odd k. The gates of a pixel also read the k states of the row above around its column, and its
    /// previous cell is the one above it. States and cells outside the image are zero (van den Oord et al.
    /// 2016, section 3.1, eq. 3). `kept` is as for [`Op::Lstm`].
    RowLstm,
    /// `dy[n, h, w, d], w_ss[1, k, d, 4d], kept[n, h, w, 5d] -> dz[n, h, w, 4d]`; the gradient of `w_ss` is
    /// a `conv_dw` of y and dz, recorded by `grad`.
    RowLstmBwd,
    /// `z[n, h, w, 4d] (input part of the gates), w_ss[2, 1, d, 4d] -> y[n, h, w, d], kept[n, h, w, 5d]`: a
    /// pixel reads the state above it through `w_ss[0]` and the state to its left through `w_ss[1]`, and its
    /// previous cell is the one to its left. States and cells outside the image are zero (van den Oord et
    /// al. 2016, section 3.2). With `reverse` the state and cell to the right replace those to the left.
    DiagonalLstm {
        /// Whether rows are walked from right to left.
        reverse: bool,
    },
    /// `dy[n, h, w, d], w_ss[2, 1, d, 4d], kept[n, h, w, 5d] -> dz[n, h, w, 4d]`; the gradient of `w_ss` as
    /// for `RowLstmBwd`.
    DiagonalLstmBwd {
        /// The attribute of the forward op.
        reverse: bool,
    },

    // ---- 9. randomness -----------------------------------------------------------------------------------
    /// `seed, counter -> draws` of the given shape. Draws are indexed by element, never by thread.
    Random {
        /// The distribution of each draw.
        dist: Dist,
        /// The random stream, which keeps draws for different purposes apart.
        stream: Stream,
        /// The counter that indexes the draws.
        counter: Counter,
        /// The shape of the output.
        shape: Shape,
    },
    /// `mu[n, d], logvar[n, d], seed[] (u32), counter[] (u32) -> z[n, d], kl[n]`: a draw
    /// `z = mu + exp(logvar / 2) eps` (Kingma & Welling 2014, eq. 10) and the divergence of
    /// [`Op::GaussianKl`], in one pass. `eps` are the standard normal numbers that [`Op::Random`] draws by
    /// replay; they are never stored.
    GaussianSample {
        /// The random stream of the standard normal numbers.
        stream: Stream,
    },
    /// `dz[n, d], dkl[n], mu[n, d], logvar[n, d], z[n, d] -> dmu[n, d], dlogvar[n, d]`: since
    /// `exp(logvar / 2) eps = z - mu`, `dmu = dz + dkl mu` and
    /// `dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2`.
    GaussianSampleBwd,
    /// `logits[m, k], u[m], temperature[] -> index[m] (u32)`: the smallest k whose cumulative softmax of
    /// logits / temperature exceeds u, or the last one.
    Categorical,
    /// `logits, u, temperature[] -> 1 where u < sigmoid(logit / temperature), else 0`, elementwise
    Bernoulli,

    // ---- 10. state ---------------------------------------------------------------------------------------
    /// `param, grad, m, v, lr[], step[] -> param, m, v` (Kingma & Ba 2015, algorithm 1)
    Adam {
        /// Decay of the mean of the gradient.
        beta1: f64,
        /// Decay of the mean of its square.
        beta2: f64,
        /// Added to the square root.
        eps: f64,
    },
    /// `param, grad, v, lr[] -> param, v`; eps is added outside the square root
    RmsProp {
        /// Decay of the mean of the squared gradient.
        alpha: f64,
        /// Added to the square root.
        eps: f64,
    },
    /// `param, grad, buf, lr[] -> param, buf` with `buf = momentum * buf + grad`
    Sgd {
        /// Decay of the buffer; 0 is plain gradient descent.
        momentum: f64,
    },
    /// `average, value -> decay * average + (1 - decay) * value`
    Ema {
        /// The share of the old average that is kept.
        decay: f64,
    },
    /// `value ->` no output. The value becomes the parameter's value when the plan ends. Dead-code removal
    /// keeps every store and the nodes that it needs.
    Store(ParamId),
}
