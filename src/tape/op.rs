//! Everything the crate can compute. One root word names an op everywhere: variant, kernel, shader, test
//! case.
//!
//! Only ops have gradient rules (`grad.rs`); backends see the steps that the planner makes of them.
//! Images are NHWC; a *row* is all that shares every index but the last one (the channels of a pixel).

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

/// An input of a plan, in the order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub u32);

/// A single number on the device that changes from one replay of a plan to the next, by its name.
///
/// A plan declares the scalars that it reads, and [`Scalars`](crate::backend::Scalars) holds the values of a
/// replay. The constants here are what the engine's random ops read; optimisers and models declare their
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scalar {
    name: &'static str,
    dtype: DType,
    /// The word that it has in a replay that sets no other.
    unset: u32,
}

impl Scalar {
    /// Seed of every random stream.
    pub const SEED: Scalar = Scalar::u32("Seed");
    /// How often this plan has run: the counter of training draws.
    pub const REPLAY: Scalar = Scalar::u32("Replay");
    /// Index of the first image of a batch that is sampled or evaluated: the counter of its draws.
    pub const FIRST_IMAGE: Scalar = Scalar::u32("FirstImage");

    /// A float, which is `unset` in a replay that does not set it.
    pub const fn f32(name: &'static str, unset: f32) -> Scalar {
        Scalar { name, dtype: DType::F32, unset: unset.to_bits() }
    }

    /// An unsigned integer, which is 0 in a replay that does not set it.
    pub(crate) const fn u32(name: &'static str) -> Scalar {
        Scalar { name, dtype: DType::U32, unset: 0 }
    }

    /// Its name, which no other scalar of a plan has.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its type.
    #[doc(hidden)]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The word that it has in a replay that sets no other.
    pub(crate) fn unset(&self) -> u32 {
        self.unset
    }
}

/// A scalar of a plan, in the order in which the plan reads them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScalarId(pub u32);

/// A distribution to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dist {
    /// [0, 1) in steps of 2^-24.
    Uniform,
    /// N(0, 1) by Box-Muller.
    Normal,
}

/// What counts the draws of a random op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// (replay of the plan, element index): training.
    Replay,
    /// (image index, index within the image); the leading dimension counts images: sampling and evaluation,
    /// where the batch size must not matter.
    Image,
}

/// One operation. Shapes are inferred in `infer.rs`; the shapes given there in brackets are those of inputs
/// -> outputs. Attributes that are real numbers are f64. A backend computes from them what its kernels need,
/// such as 1 - decay, and rounds that once to f32.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // ---- 1. leaves ---------------------------------------------------------------------------------------
    /// Fed before each replay.
    Input(InputId),
    /// The value of a parameter before any store of this plan.
    Param(ParamId),
    /// A scalar, shape `[]`.
    Scalar(Scalar),
    /// The same number everywhere.
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
    /// `x -> min(max(x, lo), hi)`; passes no gradient.
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
    /// `x -> index (u32)`: the nearest of `levels` levels from 0 to 1, `floor(x * (levels - 1) + 1/2)`; what
    /// lies outside becomes the level at that end.
    Quantize {
        /// How many levels there are, at least 2.
        levels: usize,
    },
    /// `index (u32) -> index / (levels - 1)`: what a level is worth as a pixel.
    Dequantize {
        /// How many levels there are, at least 2.
        levels: usize,
    },

    // ---- 3. shape ----------------------------------------------------------------------------------------
    /// The same elements under another shape. An alias, no step.
    Reshape(Shape),
    /// The same value, opaque to `grad`. An alias, no step.
    Detach,
    /// Zeros around, per dimension (padded rank 4, leading dimensions first).
    Pad {
        /// Zeros in front of each dimension.
        before: [usize; 4],
        /// Zeros behind each dimension.
        after: [usize; 4],
    },
    /// What `Pad` with the same numbers would have been given: drops `before` leading and `after` trailing
    /// entries.
    Slice {
        /// Leading entries that are dropped, per dimension.
        before: [usize; 4],
        /// Trailing entries that are dropped, per dimension.
        after: [usize; 4],
    },
    /// `table[k, d], index[n] (u32) -> [n, d]`
    Gather,
    /// `dy[n, d], index[n] (u32) -> [rows, d]`: rows of dy added up by index, in order.
    Scatter {
        /// Rows of the output.
        rows: usize,
    },

    // ---- 4. reductions -----------------------------------------------------------------------------------
    /// Sum over every dimension that is 1 in the target shape (same rank).
    Sum(Shape),
    /// Repeats every dimension that is 1 up to the target shape (same rank).
    Expand(Shape),

    // ---- 5. products -------------------------------------------------------------------------------------
    /// `a, b -> op(a) op(b)` with op the transpose or not; a is `[m, k]`, b is `[k, n]` after op.
    Matmul {
        /// Whether a is transposed.
        ta: bool,
        /// Whether b is transposed.
        tb: bool,
    },
    /// `x, w -> y`
    Conv(ConvGeom),
    /// `dy, w -> dx`; also the transposed convolution.
    ConvDx(ConvGeom),
    /// `x, dy -> dw`; closed weights get exactly zero.
    ConvDw(ConvGeom),

    // ---- 6. normalisation --------------------------------------------------------------------------------
    /// `x[.., c], gamma[c], beta[c] -> y, mean[c], inv_std[c]` over all rows, biased variance (Ioffe &
    /// Szegedy 2015).
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
    /// `x[.., d], gamma[d], beta[d] -> y, mean[rows], inv_std[rows]` within each row (Ba et al. 2016).
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`
    LayerNormBwd,
    /// `x[n, .., c], gamma[c], beta[c] -> y, mean[n, groups], inv_std[n, groups]` over all that an image has
    /// in the c / groups neighbouring channels of a group, biased variance (Wu & He 2018, eq. 1 to 7).
    GroupNorm {
        /// Groups of neighbouring channels, a divisor of c.
        groups: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, x, gamma, mean, inv_std -> dx, dgamma, dbeta`; the shape of the mean tells the groups.
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
    /// `z[t, n, 4h] (input part of the gates), h0[n, h], c0[n, h], w_hh[h, 4h] -> y[t, n, h], c_n[n, h], kept[t, n, 5h]`;
    /// `kept` holds the activated gates i f g o and the cell of every step for the backward pass. h_n is the
    /// last y.
    Lstm,
    /// `dy[t, n, h], dc_n[n, h], c0[n, h], w_hh[h, 4h], kept[t, n, 5h] -> dz[t, n, 4h], dh0[n, h], dc0[n, h]`;
    /// the gradient of `w_hh` is a matmul of the shifted y with dz, recorded by `grad`.
    LstmBwd,
    /// `z[n, h, w, 4d] (input part of the gates), w_ss[1, k, d, 4d] -> y[n, h, w, d], kept[n, h, w, 5d]`, k
    /// odd: every pixel of a row adds to its gates those k states of the row above that are around its
    /// column, and takes the cell above; zero outside (van den Oord et al. 2016, section 3.1, eq. 3). `kept`
    /// as for [`Op::Lstm`].
    RowLstm,
    /// `dy[n, h, w, d], w_ss[1, k, d, 4d], kept[n, h, w, 5d] -> dz[n, h, w, 4d]`; the gradient of `w_ss` is
    /// a `conv_dw` of y and dz, recorded by `grad`.
    RowLstmBwd,
    /// `z[n, h, w, 4d] (input part of the gates), w_ss[2, 1, d, 4d] -> y[n, h, w, d], kept[n, h, w, 5d]`: a
    /// pixel reads the state above through `w_ss[0]` and the state to its left through `w_ss[1]`, and takes
    /// the cell to its left; zero outside (van den Oord et al. 2016, section 3.2). With `reverse` it is the
    /// state and cell to its right.
    DiagonalLstm {
        /// Whether rows are walked from right to left.
        reverse: bool,
    },
    /// `dy[n, h, w, d], w_ss[2, 1, d, 4d], kept[n, h, w, 5d] -> dz[n, h, w, 4d]`; the gradient of `w_ss` as
    /// for `RowLstmBwd`.
    DiagonalLstmBwd {
        /// That of the forward op.
        reverse: bool,
    },

    // ---- 9. randomness -----------------------------------------------------------------------------------
    /// `seed, counter -> draws` of the given shape; indexed by element, never by thread.
    Random {
        /// The distribution of each draw.
        dist: Dist,
        /// The random stream, which keeps draws for different purposes apart.
        stream: Stream,
        /// What the draws are counted by.
        counter: Counter,
        /// The shape of the output.
        shape: Shape,
    },
    /// `mu[n, d], logvar[n, d], seed[] (u32), counter[] (u32) -> z[n, d], kl[n]`: a draw
    /// `z = mu + exp(logvar / 2) eps` (Kingma & Welling 2014, eq. 10) with the standard normal numbers that
    /// [`Op::Random`] draws by replay, which are never stored, and the divergence of [`Op::GaussianKl`] in
    /// the same pass.
    GaussianSample {
        /// The random stream of the standard normal numbers.
        stream: Stream,
    },
    /// `dz[n, d], dkl[n], mu[n, d], logvar[n, d], z[n, d] -> dmu[n, d], dlogvar[n, d]`: since
    /// `exp(logvar / 2) eps = z - mu`, `dmu = dz + dkl mu` and
    /// `dlogvar = (dz (z - mu) + dkl (exp(logvar) - 1)) / 2`.
    GaussianSampleBwd,
    /// `logits[m, k], u[m], temperature[] -> index[m] (u32)`: the smallest k whose cumulative softmax
    /// exceeds u.
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
        /// Added to the root.
        eps: f64,
    },
    /// `param, grad, v, lr[] -> param, v`; eps outside the root
    RmsProp {
        /// Decay of the mean of the squared gradient.
        alpha: f64,
        /// Added to the root.
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
    /// `value ->` becomes the parameter's value when the plan ends. A root for dead-code removal.
    Store(ParamId),
}
