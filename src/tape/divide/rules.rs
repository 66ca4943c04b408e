//! Which steps compute each image independently, and what a few images see of their operands.
//!
//! An operand divides among n images if its leading dimension is a multiple of n: image i has the i-th of n
//! equal parts, which are contiguous in memory. This is a matter of indices alone, so it does not matter
//! whether the parts are images to the user.

use crate::shape::{Meta, Shape};
use crate::tape::op::Op;
use crate::tape::plan::{Fused, Operand, Step};

/// What a micro-batch of images sees of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tape) enum Share {
    /// Its own part.
    Own,
    /// All of it.
    All,
    /// All of it, an output to which each image contributes a term.
    Sum,
}

/// What a micro-batch of images sees of the operands of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tape) struct Rule {
    /// In the order of [`Step::reads`].
    pub(in crate::tape) reads: Vec<Share>,
    pub(in crate::tape) outputs: Vec<Share>,
}

impl Rule {
    /// Whether the step sums over images.
    pub(in crate::tape) fn sums(&self) -> bool {
        self.outputs.contains(&Share::Sum)
    }
}

/// How a step divides among `images` images; `None` if it does not.
pub(in crate::tape) fn rule(step: &Step, images: usize) -> Option<Rule> {
    let (mut reads, outputs) = shares(step)?;
    // An epilogue takes the finished sum, not the share of an image.
    if outputs.contains(&Share::Sum) && !step.epilogue.is_empty() {
        return None;
    }
    reads.extend(step.epilogue.iter().filter_map(|fused| match fused {
        Fused::Bias(_) => Some(Share::All),
        Fused::Add(_) | Fused::ActBwd(..) => Some(Share::Own),
        Fused::Act(_) => None,
    }));
    let operands = step.reads();
    let own = |(operand, share): (&Operand, &Share)| *share != Share::Own || divides(operand.meta.shape, images);
    let fits = operands.iter().zip(&reads).all(own) && step.outputs.iter().zip(&outputs).all(own);
    fits.then_some(Rule { reads, outputs })
}

fn divides(shape: Shape, images: usize) -> bool {
    !shape.is_empty() && shape.dims().first().is_some_and(|rows| rows.is_multiple_of(images))
}

/// The shares of the inputs and of the outputs of a step.
fn shares(step: &Step) -> Option<(Vec<Share>, Vec<Share>)> {
    use Share::{All, Own, Sum};
    let shape = |i: usize| step.inputs[i].meta.shape;
    let all_own = || Some((vec![Own; step.inputs.len()], vec![Own; step.outputs.len()]));
    // The leading dimension must not be the one along which the op combines elements.
    let of_rows = |i: usize| shape(i).rank() >= 2;
    let kept = |from: Shape, to: Shape| from.dims().first() == to.dims().first();
    match &step.op {
        Op::Unary(_)
        | Op::UnaryBwd(_)
        | Op::Binary(_)
        | Op::Affine { .. }
        | Op::Clamp { .. }
        | Op::Reparameterize
        | Op::Quantize { .. }
        | Op::Dequantize { .. }
        | Op::BceWithLogits
        | Op::Mse
        | Op::Fill { .. } => all_own(),
        Op::Gated | Op::SoftmaxCrossEntropy | Op::GaussianKl | Op::LstmCell => all_own().filter(|_| of_rows(0)),
        Op::GatedBwd | Op::SoftmaxCrossEntropyBwd | Op::GaussianSampleBwd | Op::LstmCellBwd => {
            all_own().filter(|_| of_rows(if matches!(step.op, Op::SoftmaxCrossEntropyBwd) { 1 } else { 0 }))
        }
        Op::Pad { before, after } | Op::Slice { before, after } => {
            let leading = 4 - shape(0).rank();
            let is_kept = before.get(leading) == Some(&0) && after.get(leading) == Some(&0);
            all_own().filter(|_| is_kept)
        }
        Op::Gather => Some((vec![All, Own], vec![Own])),
        Op::Sum(to) if kept(shape(0), *to) => all_own(),
        Op::Sum(_) => Some((vec![Own], vec![Sum])),
        Op::Expand(to) => Some((vec![if kept(shape(0), *to) { Own } else { All }], vec![Own])),
        Op::Matmul { ta: false, .. } | Op::Conv(_) | Op::ConvDx(_) => Some((vec![Own, All], vec![Own])),
        Op::Matmul { ta: true, tb: false } => Some((vec![Own, Own], vec![Sum])),
        Op::ConvDw(_) => Some((vec![Own, Own], vec![Sum])),
        Op::BatchNormInfer { .. } => Some((vec![Own, All, All, All, All], vec![Own])).filter(|_| of_rows(0)),
        Op::LayerNorm { .. } | Op::GroupNorm { .. } => Some((vec![Own, All, All], vec![Own; 3])).filter(|_| of_rows(0)),
        Op::LayerNormBwd | Op::GroupNormBwd => {
            Some((vec![Own, Own, All, Own, Own], vec![Own, Sum, Sum])).filter(|_| of_rows(0))
        }
        Op::RowLstm | Op::DiagonalLstm { .. } => Some((vec![Own, All], vec![Own; 2])),
        Op::RowLstmBwd | Op::DiagonalLstmBwd { .. } => Some((vec![Own, All, Own], vec![Own])),
        Op::Categorical => Some((vec![Own, Own, All], vec![Own])).filter(|_| of_rows(0)),
        Op::Bernoulli => Some((vec![Own, Own, All], vec![Own])),
        // Statistics of the batch, and rows of one image that depend on another's.
        Op::BatchNorm { .. } | Op::BatchNormBwd | Op::Scatter { .. } | Op::Matmul { ta: true, tb: true } => None,
        // Time is the leading dimension of a sequence.
        Op::Lstm | Op::LstmBwd => None,
        // Draws are numbered over the batch.
        Op::Random { .. } | Op::GaussianSample { .. } => None,
        Op::Adam { .. } | Op::RmsProp { .. } | Op::Sgd { .. } | Op::Ema { .. } | Op::Store(_) => None,
        Op::Input(_) | Op::Param(_) | Op::Scalar(_) | Op::Reshape(_) | Op::Detach => None,
    }
}

/// Rows of an image that a product with weights computes; `None` if the step is no such product.
pub(super) fn computed_rows(step: &Step, images: usize) -> Option<usize> {
    match &step.op {
        Op::Conv(g) => Some(g.n * g.oh * g.ow / images),
        Op::ConvDx(g) => Some(g.n * g.h * g.w / images),
        Op::Matmul { ta: false, .. } => Some(step.inputs[0].meta.shape.rows() / images),
        _ => None,
    }
}

/// Rows of an image over which a product sums; `None` if the step is no product that sums over images.
pub(super) fn summed_rows(step: &Step, images: usize) -> Option<usize> {
    match &step.op {
        Op::ConvDw(g) => Some(g.n * g.oh * g.ow / images),
        Op::Matmul { ta: true, tb: false } => Some(step.inputs[0].meta.shape.rows() / images),
        _ => None,
    }
}

/// The step for `count` of `images` images: shapes and attributes that count images are smaller.
pub(in crate::tape) fn resized(step: &Step, rule: &Rule, count: usize, images: usize) -> Step {
    let leading = |rows: usize| rows / images * count;
    let shape = |shape: Shape| {
        let mut dims = shape.dims().to_vec();
        dims[0] = leading(dims[0]);
        Shape::new(&dims)
    };
    let part = |operand: &Operand, share: Share| match share {
        Share::Own => Operand { meta: Meta { shape: shape(operand.meta.shape), ..operand.meta }, ..*operand },
        Share::All | Share::Sum => *operand,
    };
    let geometry = |mut g: crate::tape::geometry::ConvGeom| {
        g.n = leading(g.n);
        g
    };
    let op = match &step.op {
        Op::Conv(g) => Op::Conv(geometry(*g)),
        Op::ConvDx(g) => Op::ConvDx(geometry(*g)),
        Op::ConvDw(g) => Op::ConvDw(geometry(*g)),
        Op::Expand(to) => Op::Expand(shape(*to)),
        Op::Sum(to) if !rule.sums() => Op::Sum(shape(*to)),
        Op::Fill { value, shape: to } => Op::Fill { value: *value, shape: shape(*to) },
        other => other.clone(),
    };
    let mut shares = rule.reads.iter().copied();
    let mut next = |operand: &Operand| part(operand, shares.next().expect("a share for every operand"));
    Step {
        op,
        inputs: step.inputs.iter().map(&mut next).collect(),
        epilogue: step.epilogue.iter().map(|fused| fused.map(&mut next)).collect(),
        outputs: step.outputs.iter().zip(&rule.outputs).map(|(o, share)| part(o, *share)).collect(),
        at: step.at,
        scope: step.scope.clone(),
    }
}
